"""`make eval`: runs `zhiwen eval` on the question sets in ../shared/data, shows all of them, and holds their floors.

It measures the default configuration over HTTP, through the running services. `--out` writes the figures as JSON, and
`--readme` writes the table into both READMEs. `--figures` takes the figures of earlier runs instead of measuring.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.question_sets import ALL_MODES, NAMES, PROJECT, SETS, Files
from zhiwen.cli.stack import Stack

Json = dict[str, Any]

FLOORS: Mapping[str, Mapping[str, float | None]] = {
    "zh_cmrc2018": {"recall_at_1": 0.96, "mrr_at_10": 0.975, "holds_gold": 0.84},
    "zh_xquad": {"recall_at_1": 0.924, "holds_gold": 0.90},
    "en_xquad": {"recall_at_1": 0.935, "holds_gold": 0.90},
    "en_squad2_third": {"recall_at_1": 0.79, "holds_gold": 0.86, "rightly_unsure": None},
    "zh_xquad traditional": {"recall_at_1": 0.92, "holds_gold": 0.88},
    "zh to en": {"recall_at_1": 0.75, "recall_at_10": 0.95, "holds_gold": 0.70},
    "zh to en, distractors": {"recall_at_10": 0.80, "holds_gold": 0.70},
    "en to zh": {"recall_at_1": 0.72, "recall_at_10": 0.93, "holds_gold": 0.70},
    "en to zh, distractors": {"recall_at_10": 0.79, "holds_gold": 0.70},
    "zh_cmrc2018 half": {"search_auroc": None, "rightly_unsure": 0.10},
    "zh_faq": {"mrr_at_10": 0.63, "cites_right": 0.60, "rightly_unsure": None},
    "en_faq": {"mrr_at_10": 0.58, "cites_right": 0.55, "rightly_unsure": None},
    "office": {"recall_at_5": 0.50, "holds_gold": 0.25, "rightly_unsure": None},
}
"""The lowest value of each figure of each set; None: shown, and not held yet. Their names are those of `figure`."""

CEILINGS: Mapping[str, float | None] = {
    "falsely_refused": 0.05,
    "ended_without_call": 0.01,
    "calibration_error": None,
    "longest_answer": 3,
}
"""The highest value of a figure in any set; None: shown, and not held yet."""

HALVES: Mapping[str, tuple[float, Sequence[str]]] = {
    "recall_at_1": (0.005, NAMES),
    "recall_at_10": (0.005, ()),
}
"""How much lower a figure of hybrid search may be than that of its better half, and in which sets."""

LANGUAGES = {"README.md": "en", "README.zh-CN.md": "zh"}
MARKERS = ("<!-- figures of make eval -->", "<!-- end of the figures -->")
HEADINGS: Mapping[str, Sequence[str]] = {
    "en": (
        *("questions", "number", "R@1", "R@10", "MRR@10", "holds the gold", "cites it", "falsely refused", "unsure"),
        *("rightly refused", "or unsure", "calibration error"),
    ),
    "zh": (
        *("问题", "数量", "R@1", "R@10", "MRR@10", "答案命中", "引对段落", "误拒", "没把握"),
        *("正确拒答", "或没把握", "校准误差"),
    ),
}
COLUMNS = (
    *("recall_at_1", "recall_at_10", "mrr_at_10", "holds_gold", "cites_right", "falsely_refused", "closest"),
    *("rightly_refused", "rightly_unsure", "calibration_error"),
)
LABELS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "zh_xquad traditional": "zh_xquad in Traditional characters",
        "zh to en": "Chinese questions, English passages (XQuAD)",
        "zh to en, distractors": "... with all other sets as distractors",
        "en to zh": "English questions, Chinese passages (XQuAD)",
        "en to zh, distractors": "... with all other sets as distractors",
        "zh_cmrc2018 half": "zh_cmrc2018, half of the passages missing",
        "zh_faq": "zh_faq: help pages of a cloud",
        "en_faq": "en_faq: questions of patients",
        "office": "office: everyday words over the examples",
    },
    "zh": {
        "zh_xquad traditional": "zh_xquad，换成繁体字",
        "zh to en": "中文问题，英文段落（XQuAD）",
        "zh to en, distractors": "……并以其他全部数据集为干扰",
        "en to zh": "英文问题，中文段落（XQuAD）",
        "en to zh, distractors": "……并以其他全部数据集为干扰",
        "zh_cmrc2018 half": "zh_cmrc2018，缺一半段落",
        "zh_faq": "zh_faq：云服务帮助文档",
        "en_faq": "en_faq：患者提问",
        "office": "office：用日常说法问示例文档",
    },
}


def run_eval(stack: Stack, *options: str) -> Json:
    """Run `zhiwen eval` against the stack; return its JSON."""
    addresses = {f"ZHIWEN_{name.upper()}_URL": url for name, url in stack.addresses.items()}
    command = [sys.executable, "-m", "zhiwen.cli.main", "eval", "--json", *options]
    environment = {**stack.environment, **addresses}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: Json = json.loads(done.stdout)
    return figures


def measure(stack: Stack, folder: Path, only: Sequence[str], clients: int) -> Iterator[tuple[str, Json]]:
    """Measure the sets in `only`, or all sets when it is empty, and yield the name and the figures of each.

    The files go to `folder`, and `clients` questions are asked at the same time.
    """
    files = Files()
    for number, (name, make) in enumerate(SETS.items()):
        if only and name not in only:
            continue
        started = time.perf_counter()
        options = make(files).write(folder / str(number))
        figures = run_eval(stack, *options, "--kb", f"eval-{number}", "--clients", str(clients))
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        yield name, figures


def add_figures(path: Path, name: str, figures: Json) -> None:
    """Write the figures of a set to a JSON file; those of other sets in the file stay."""
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**held, name: figures}, indent=2), encoding="utf-8")


def figure(figures: Json, name: str) -> float | None:
    """Return a figure of a set: of hybrid search, or of the answers; `search_auroc` is that of the search's scores.

    None when the set does not have it.
    """
    known: Mapping[str, float | None] = {
        **figures["answers"],
        **figures["modes"]["hybrid"],
        "search_auroc": figures["refusal"]["auroc"],
    }
    return known[name]


def failures(results: Mapping[str, Json]) -> list[str]:
    """Return a sentence for each figure that is too low or too high. Pure."""
    missed = []
    for name, figures in results.items():
        for key, floor in FLOORS.get(name, {}).items():
            value = figure(figures, key)
            if floor is not None and (value is None or value < floor):
                missed.append(f"{name}: {key} {_figure(value)} is below {floor}")
        for key, ceiling in CEILINGS.items():
            value = figure(figures, key)
            if ceiling is not None and value is not None and value > ceiling:
                missed.append(f"{name}: {key} {_figure(value)} is above {ceiling}")
        missed += _below_its_halves(name, figures["modes"])
    return missed


def _below_its_halves(name: str, modes: Json) -> list[str]:
    missed = []
    for key, (lower, held) in HALVES.items():
        if name in held and set(modes) == set(ALL_MODES):
            best = max(modes["dense"][key], modes["full_text"][key])
            if modes["hybrid"][key] < best - lower:
                missed.append(f"{name}: {key} of hybrid is more than {lower} below its better half, {_figure(best)}")
    return missed


def table(results: Mapping[str, Json], language: str) -> str:
    """Return the figures as a Markdown table. `language` is `en` or `zh`. Pure."""
    heading = HEADINGS[language]
    lines = [f"| {' | '.join(heading)} |", f"| {' | '.join(['---'] * len(heading))} |"]
    for name, figures in results.items():
        cells = [LABELS[language].get(name, name), str(figures["answers"]["asked"])]
        cells += [_figure(figure(figures, key)) for key in COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def halves_table(results: Mapping[str, Json]) -> str:
    """Return R@1 / R@10 of hybrid search and its halves as a Markdown table, for the sets that have them. Pure."""
    lines = ["| questions | hybrid | dense | full text |", "| --- | --- | --- | --- |"]
    for name, figures in results.items():
        modes = figures["modes"]
        if set(modes) == set(ALL_MODES):
            cells = [f"{_figure(modes[m]['recall_at_1'])} / {_figure(modes[m]['recall_at_10'])}" for m in ALL_MODES]
            lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def with_table(page: str, rows: str) -> str:
    """Return a page with `rows` between the two markers. Raises `ValueError` when they are not there. Pure."""
    before, first, rest = page.partition(MARKERS[0])
    _, last, after = rest.partition(MARKERS[1])
    if not first or not last:
        raise ValueError(f"There is no {MARKERS[0]} before a {MARKERS[1]} in the page.")
    return f"{before}{first}\n\n{rows}\n\n{last}{after}"


def write_readmes(results: Mapping[str, Json]) -> None:
    """Write the table into both READMEs, in the order of `results`.

    Raises `ValueError` when a set is missing: the table shows all of them.
    """
    if missing := [name for name in SETS if name not in results]:
        raise ValueError(f"The README shows every set, and these were not measured: {', '.join(missing)}.")
    for name, language in LANGUAGES.items():
        page = PROJECT / name
        page.write_text(with_table(page.read_text(encoding="utf-8"), table(results, language)), encoding="utf-8")


def _figure(value: float | None) -> str:
    """Return a figure as the READMEs show it: .969, or a dash when there is none."""
    return "–" if value is None else f"{value:.3f}".removeprefix("0")


def main() -> None:
    """Run the evaluations of the command line, and exit with 1 when a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-base", type=int, default=27000)
    parser.add_argument("--clients", type=int, default=2, help="questions asked at the same time")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON, set by set; those of other sets stay")
    parser.add_argument("--figures", type=Path, help="take these figures, which --out wrote, and measure nothing")
    parser.add_argument("--readme", action="store_true", help="write the table into both READMEs")
    parser.add_argument("only", nargs="*", metavar="SET", help=f"measure these only: {', '.join(SETS)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(SETS):
        parser.error(f"there is no set {', '.join(sorted(unknown))}")
    results: dict[str, Json] = {}
    if arguments.figures:
        results = json.loads(arguments.figures.read_text(encoding="utf-8"))
    else:
        with tempfile.TemporaryDirectory(prefix="zhiwen-eval-") as folder:
            stack = Stack(Path(folder) / "data", arguments.port_base, webui=False)
            stack.start()
            try:
                for name, figures in measure(stack, Path(folder) / "sets", arguments.only, arguments.clients):
                    results[name] = figures
                    if arguments.out:
                        add_figures(arguments.out, name, figures)
            finally:
                stack.stop()
    results = {name: results[name] for name in SETS if name in results}
    print(table(results, "en"), halves_table(results), sep="\n\n")
    if arguments.readme:
        write_readmes(results)
    missed = failures(results)
    print("\n".join(missed) if missed else "No figure is too low or too high.")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
