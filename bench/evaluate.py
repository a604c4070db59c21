"""`make eval`: runs `zhiwen eval` on the question sets beside this project, and fails below a lowest value.

It measures the default configuration over HTTP, through the running services.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zhiwen.cli.stack import Stack

SETS = Path("../shared/data/retrieval")
NAMES = ("zh_cmrc2018", "zh_xquad", "en_xquad", "en_squad2_third")
Json = dict[str, Any]

FLOORS: Mapping[str, Mapping[str, float]] = {
    "zh_cmrc2018": {"recall_at_1": 0.955, "mrr_at_10": 0.972},
    "zh_xquad": {"recall_at_1": 0.924},
    "en_xquad": {"recall_at_1": 0.929},
    "en_squad2_third": {"recall_at_1": 0.80},
    "zh to en": {"recall_at_1": 0.73, "recall_at_10": 0.93},
    "en to zh": {"recall_at_1": 0.64, "recall_at_10": 0.91},
    "zh to en, distractors": {"recall_at_10": 0.80},
    "en to zh, distractors": {"recall_at_10": 0.80},
}
HALVES = 0.005
"""How much lower R@1 of hybrid search may be than that of its better half."""
REFUSAL = {"auroc": 0.955, "rightly_refused": 0.80}
MOST_WRONGLY_REFUSED = 0.05


def run_eval(stack: Stack, passages: Path, questions: Path, *options: str) -> Json:
    """Run `zhiwen eval` against the stack; return its JSON."""
    addresses = {f"ZHIWEN_{name.upper()}_URL": url for name, url in stack.addresses.items()}
    command = [sys.executable, "-m", "zhiwen.cli.main", "eval", "--json"]
    command += ["--passages", str(passages), "--questions", str(questions), *options]
    environment = {**stack.environment, **addresses}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: Json = json.loads(done.stdout)
    return figures


def crossed(questions: str, passages: str, folder: Path) -> Path:
    """Write the questions of one language about the passages of the other to `folder`, and return the path.

    The passages of both sets are translations of each other, in the same order.
    """

    def ids(name: str) -> list[str]:
        lines = (SETS / name / "passages.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["id"] for line in lines]

    other = dict(zip(ids(questions), ids(passages), strict=True))
    path = folder / f"{questions}-{passages}.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for line in (SETS / questions / "questions.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            row["passage_id"] = [other[passage] for passage in row["passage_id"]]
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def measure(stack: Stack, folder: Path, only: Sequence[str]) -> dict[str, Json]:
    """Measure the sets in `only`, or all sets when it is empty, and return the figures by name."""
    results: dict[str, Json] = {}

    def add(name: str, passages: str, questions: Path, *options: str) -> None:
        if only and name not in only:
            return
        results[name] = run_eval(stack, SETS / passages / "passages.jsonl", questions, *options)
        hybrid = results[name]["modes"]["hybrid"]
        print(name, {key: round(value, 3) for key, value in hybrid.items()}, results[name]["refusal"], flush=True)

    for name in NAMES:
        add(name, name, SETS / name / "questions.jsonl")
    for questions, passages, name in (("zh_xquad", "en_xquad", "zh to en"), ("en_xquad", "zh_xquad", "en to zh")):
        path = crossed(questions, passages, folder)
        add(name, passages, path)
        others = [SETS / other / "passages.jsonl" for other in NAMES if other != passages]
        options = [option for other in others for option in ("--distractors", str(other))]
        add(f"{name}, distractors", passages, path, *options)
    add("refusal", "zh_cmrc2018", SETS / "zh_cmrc2018/questions.jsonl", "--hold-out", "0.5")
    return results


def failures(results: Mapping[str, Json]) -> list[str]:
    """Return a sentence for each figure that is too low. Pure."""
    missed = []
    for name, figures in results.items():
        modes = figures["modes"]
        for key, floor in FLOORS.get(name, {}).items():
            if modes["hybrid"][key] < floor:
                missed.append(f"{name}: {key} {modes['hybrid'][key]:.3f} is below {floor}")
        best = max(modes["dense"]["recall_at_1"], modes["full_text"]["recall_at_1"])
        if name in NAMES and modes["hybrid"]["recall_at_1"] < best - HALVES:
            missed.append(f"{name}: hybrid is more than {HALVES} below its better half, {best:.3f}")
    if "refusal" in results:
        refusal = results["refusal"]["refusal"]
        missed += [
            f"{key} {refusal[key]:.3f} is below {floor}" for key, floor in REFUSAL.items() if refusal[key] < floor
        ]
        if refusal["wrongly_refused"] > MOST_WRONGLY_REFUSED:
            missed.append(f"wrongly refused {refusal['wrongly_refused']:.3f} is above {MOST_WRONGLY_REFUSED}")
    return missed


def main() -> None:
    """Run the evaluations of the command line, and exit with 1 when a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-base", type=int, default=27000)
    parser.add_argument("--out", type=Path, help="write all figures here as JSON")
    parser.add_argument("only", nargs="*", help="measure these only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zhiwen-eval-") as folder:
        stack = Stack(Path(folder) / "data", arguments.port_base, webui=False)
        stack.start()
        try:
            results = measure(stack, Path(folder), arguments.only)
        finally:
            stack.stop()
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2), encoding="utf-8")
    missed = failures(results)
    print("\n".join(missed) if missed else "No figure is too low.")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
