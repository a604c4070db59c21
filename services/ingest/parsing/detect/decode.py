"""Decodes text files. The encoding is found from the bytes; the declaration in the file is only a hint.

The order is: byte order mark, UTF-16 or UTF-32 by their zero bytes, valid UTF-8, UTF-8 with a few broken bytes, then
the legacy encodings. The best legacy encoding is the one whose text has the most everyday characters. If a declaration
contradicts the bytes, the bytes win.
"""

from __future__ import annotations

import codecs
import re

SAMPLE_BYTES = 65536
BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
DECLARATION = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.IGNORECASE)
LEGACY = ("gb18030", "big5hkscs", "cp932", "euc_kr")
# Declared names, and the superset that is meant by each (WHATWG Encoding Standard, section 4.2).
SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "euc_kr": "cp949",
}
EVERYDAY_HAN = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事"
    "成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使"
    "情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世"
    "位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感"
    "建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路"
    "记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运姓龄址省城京州村县测试编码码号单价备注"
    "這個們來為國說時會對過發後裡種經麼學現當沒動還進樣從實軍無與長機見兩間問應戰頭體關點業將產話門員論處義幾認條氣題爾別變總電數"
    "報結務場計號資許統區隊決馬書則聽達強難權記類據邊張該規萬覺術領確傳師觀讓識帶導爭運灣臺單價備註縣龍齡測試編碼"
)


def decode_text(data: bytes, declared: str | None = None) -> str:
    """Return the text of `data`; `declared` is an encoding named elsewhere, as in a mail header. Never raises."""
    encoding = find_encoding(data, declared)
    return data.decode(encoding, "replace").removeprefix("\ufeff")


def find_encoding(data: bytes, declared: str | None = None) -> str:
    """Return the name of the encoding that `data` is most likely in."""
    for bom, encoding in BOMS:
        if data.startswith(bom):
            return encoding
    sample = data[:SAMPLE_BYTES]
    wide = _wide_encoding(sample)
    if wide is not None:
        return wide
    if _is_mostly_utf8(data):
        return "utf-8"
    return _best_legacy(sample, declared or _declaration(sample))


def _wide_encoding(sample: bytes) -> str | None:
    """Return the UTF-16 or UTF-32 encoding of bytes without a byte order mark; None if they are in neither."""
    zeros = sample.count(0)
    if not zeros or (zeros * 5 < len(sample) and _is_mostly_utf8(sample)):
        return None
    sample = sample[: len(sample) // 4 * 4]
    for encoding in ("utf-32-le", "utf-32-be"):
        if _readable_share(sample, encoding) > 0.95:
            return encoding
    shares = {encoding: _readable_share(sample, encoding) for encoding in ("utf-16-le", "utf-16-be")}
    best = max(shares, key=lambda encoding: shares[encoding])
    # Text has spaces, digits or line ends, so most zero bytes are at even or most at odd places.
    return best if shares[best] > 0.9 and _one_sided_zeros(sample) else None


def _readable_share(sample: bytes, encoding: str) -> float:
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError:
        return 0.0
    readable = sum(c.isalnum() or c.isspace() or c.isprintable() for c in text)
    ascii_or_han = sum(c < "\u0250" or "\u2e80" <= c <= "\uffee" for c in text)
    return min(readable, ascii_or_han) / max(1, len(text))


def _one_sided_zeros(sample: bytes) -> bool:
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    return min(even, odd) * 10 <= max(even, odd)


def _is_mostly_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        return True
    text = data[:SAMPLE_BYTES].decode("utf-8", "replace")
    broken = text.count("\ufffd")
    good = sum(c > "\x7f" for c in text) - broken
    return good > 4 * broken


def _declaration(sample: bytes) -> str | None:
    match = DECLARATION.search(sample[:4096])
    return match.group(1).decode("ascii") if match else None


def _best_legacy(sample: bytes, declared: str | None) -> str:
    candidates = [name for name in (_known(declared), *LEGACY) if name]
    scores = {name: _everyday_share(sample, name) for name in candidates}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] > 0.35:
        return best
    known = _known(declared)
    if known and scores[known] >= 0 and not known.startswith("utf"):
        return known
    return _guess(sample)


def _known(name: str | None) -> str | None:
    try:
        found = codecs.lookup(name).name if name else None
    except LookupError:
        return None
    return SUPERSETS.get(found, found) if found else None


def _everyday_share(sample: bytes, encoding: str) -> float:
    """Return the share of everyday Chinese, kana or Hangul in the non-ASCII text; -1 if the bytes do not decode."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except (UnicodeDecodeError, LookupError):
        return -1.0
    other = [c for c in text if c > "\x7f"]
    if not other:
        return 0.0
    return sum(map(_weight, other)) / len(other)


def _weight(character: str) -> float:
    if character in EVERYDAY_HAN or character in "，。、：；！？“”（）《》「」　":
        return 1.0
    if "\u3041" <= character <= "\u30fa":
        return 0.9
    if "\uac00" <= character <= "\ud7a3":
        return 0.5
    if "\u4e00" <= character <= "\u9fff":
        return 0.15
    return -0.5 if "\ue000" <= character <= "\uf8ff" or "\uff61" <= character <= "\uff9f" else 0.0


def _guess(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(sample, enable_fallback=False).best()
    return best.encoding if best is not None else "utf-8"
