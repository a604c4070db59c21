"""The words that the rules for English follow-up questions know. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from zhiwen.common.lexical.analysis import ENGLISH_STOPWORDS, stem

LIGHT: Final = frozenset(
    stem(word)
    for word in """apply application approve approval take last long cost costs price pay fee fees much heavy
    weigh weight big large tall wide size height width length document documents form forms paper requirement
    require need needed needs get have make use work want go happen happens find know ask contact call start end
    begin expire valid deadline limit exception exceptions condition conditions rule rules step steps process
    procedure number phone address email detail details example reason difference delivery deliver ship shipping
    order buy available stock discount colour color advance allow allowed possible submit sign send tell mean
    include cover charge free change cancel extend renew compulsory mandatory optional required time times day
    days week weeks hour hours month months year years often far soon early late fast quickly lead warranty
    maximum minimum max min please also still just ever already there here don doesn isn aren won can't cannot
    let got give put say said person people thing things stuff responsible decide decides sure paid notify
    notified inform informed usually normally typically generally actually really exactly roughly
    approximately""".split()
)
"""Stems that say what is asked about a thing, and not which thing."""
ACTIONS: Final = frozenset(
    stem(word)
    for word in """apply approve cancel change extend renew submit order buy call contact ship deliver charge start sign
    expire""".split()
)
"""Light stems that still tell what an earlier question was about."""
NUMBERS: Final = frozenset(
    """one two three four five six seven eight nine ten twelve fifteen twenty thirty forty fifty hundred
    thousand""".split()
)
ATTRIBUTES: Final = frozenset(
    stem(word)
    for word in """cost costs price fee fees weight size height width length documents forms requirements deadline
    limit exceptions conditions process procedure number phone address email difference delivery shipping discount
    colour color time lead warranty maximum minimum approval dimensions""".split()
)
PREPOSITIONS: Final = frozenset(
    """in on at for after before with without from to during under over within by as of between above below per until
    since outside inside""".split()
)
DETERMINERS: Final = frozenset("the a an my our your their his her its this that these those some any".split())
ASKING: Final = frozenset("what which who whom whose when where why how whats whos hows wheres".split())
AUXILIARIES: Final = frozenset(
    """is are was were am be do does did can could will would shall should may might must has have had cant dont doesnt
    isnt wont""".split()
)
PERSONS: Final = frozenset("i you we he she they it one people somebody someone".split())
POINTING: Final = frozenset("it its they them their theirs he she him his her hers".split())
SHOWING: Final = frozenset("this that these those".split())
CLAUSES: Final = frozenset(
    "if when because while before after since until unless and but so that which who or where once".split()
)
DEPARTMENT: Final = frozenset(
    "support department team desk staff security policy equipment systems helpdesk admin service".split()
)
"""Words before which `it` is the department."""
TIMES: Final = frozenset(
    """week month year morning afternoon evening weekend quarter semester term season time summer winter spring
    autumn""".split()
)
ONE: Final = frozenset({"one", "ones"})
UNITS: Final = frozenset("time day week month hour year minut".split())
GENERIC: Final = frozenset(
    stem(word)
    for word in "device product model machine unit policy rule item document plan thing service kind type".split()
)
"""Stems behind `this` that do not say which thing is meant."""
POLITE: Final = re.compile(
    r"^(?:(?:ok|okay|thanks|thank you|great|i see|got it|right|well|hi|hello|hey|so|then|sorry|cool|alright)[,.! ]+"
    r"|(?:i would|i'd|i) (?:like|want) to know[,: ]+|(?:can|could) you (?:please )?tell me[,: ]+)+",
    re.IGNORECASE,
)
_AND = r"(?:(?:and|but|or|so|ok|okay|then|also)[, ]+)*"
MARKER: Final = re.compile(
    rf"^{_AND}(?:(what|how) about|and|but|or|also|same (?:for|with|in|at)|even|only|not)\b[, ]*", re.IGNORECASE
)
CONDITION: Final = re.compile(rf"^{_AND}(?:what if|even if|if|unless)\b", re.IGNORECASE)
MORE: Final = re.compile(
    rf"{_AND}(?:"
    r"why(?: not| so| is that)?|how so|how come|how|what else|anything else|any others?|others?"
    r"|and then|then|then what|what then|what next|what now|now what|go on|continue|really|are you sure|says who"
    r"|more|(?:any |some |tell me |give me )?more(?: details?| info| information)?|in (?:more )?detail"
    r"|(?:can|could) you (?:explain|elaborate|summari[sz]e)(?: (?:that|it|this))?(?: more| again| in detail)?"
    r"|explain(?: (?:that|it|this|more))*|please elaborate|elaborate|meaning|what does (?:that|it|this) mean"
    r"|is that (?:so|true|right|correct|all)|such as|like what|for example|for instance|(?:any |some )?examples?"
    r")(?: please)?",
    re.IGNORECASE,
)
"""Questions that ask for more of the same."""
WHO: Final = re.compile(r"\W*(?:and |so |but )?(?:whos?\b|which (?:person|team|department)\b)", re.IGNORECASE)
TOKEN: Final = re.compile(r"[^\W_]+(?:[-.][^\W_]+)*")
TOO: Final = re.compile(r"[, ]+(?:too|as well|also|either)$", re.IGNORECASE)
ENDS: Final = " \t\r\n?!.,;:"
LONGEST_FRAGMENT: Final = 6
LONGEST_CONDITION: Final = 10
LONGEST_MODIFIERS: Final = 3
ENOUGH: Final = 5
"""So many telling words are enough for a search, whatever a pronoun means."""
TWO: Final = 2
"""So many telling words before a pronoun hold what it means."""


class Token(NamedTuple):
    """A word as it stands in the text, and its place."""

    text: str
    start: int
    end: int

    @property
    def low(self) -> str:
        """The word in lower case. The department `IT` stays as it is."""
        return self.text if self.text == "IT" else self.text.lower()


def tokens_of(text: str) -> list[Token]:
    """Return the words of a text, with their places in it."""
    return [Token(found.group(), found.start(), found.end()) for found in TOKEN.finditer(text)]


def tells(token: Token) -> bool:
    """Return whether a word says which thing is meant."""
    if token.low == "IT":
        return True
    found = stem(token.low)
    return (found not in ENGLISH_STOPWORDS and found not in LIGHT and len(found) > 1) or token.text.isdigit()


def is_name(token: Token) -> bool:
    """Return whether a word is a name, a code or a number."""
    return (token.text[0].isupper() and token.text != "I") or token.text[0].isdigit()
