"""The Dockerfile starts what the project installs, as a user that is not root."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = ("ingest", "worker", "query", "gateway", "webui")


def stages(text: str) -> dict[str, str]:
    """Return the instructions of each stage under its name; continued lines are joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    parts = re.split(r"(?m)^FROM (\S+) AS (\S+)\n", joined)
    return {parts[i + 1]: f"FROM {parts[i]}\n{parts[i + 2]}" for i in range(1, len(parts), 3)}


STAGES = stages(TEXT)


@pytest.mark.parametrize("target", TARGETS)
def test_entry_point_is_a_script_of_the_project(target: str) -> None:
    entry_point = re.search(r"(?m)^ENTRYPOINT (\[.+\])$", STAGES[target])
    assert entry_point is not None
    [script] = json.loads(entry_point[1])
    assert script == f"zhiwen-{target}"
    assert script in PROJECT["scripts"]


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_script_of_the_project_is_a_function_in_a_file(script: str) -> None:
    module, _, function = PROJECT["scripts"][script].partition(":")
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert file.is_file(), f"{script} starts {module}, and there is no {file.relative_to(ROOT)}"
    defined = rf"(?m)^(?:async )?def {function}\(|^{function}\b.*=|^from .+ import (?:.*\b)?{function}\b"
    assert re.search(defined, file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("target", TARGETS)
def test_image_ends_as_a_user_that_is_not_root(target: str) -> None:
    users = re.findall(r"(?m)^USER (\S+)$", STAGES[target])
    assert users
    assert users[-1] not in {"root", "0", "0:0"}
    instructions = re.findall(r"(?m)^([A-Z]+) ", STAGES[target])
    assert "RUN" not in instructions[instructions.index("USER") :]


@pytest.mark.parametrize("target", TARGETS)
def test_image_says_how_to_see_that_it_is_healthy(target: str) -> None:
    assert re.search(r"(?m)^HEALTHCHECK .*CMD \[", STAGES[target])


@pytest.mark.parametrize("target", TARGETS)
def test_environment_is_installed_with_its_extras_and_the_constraints(target: str) -> None:
    environment = STAGES[f"{target}-environment"]
    extras = re.search(r"zhiwen\[([a-z,]+)\]", environment)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    assert target in extras[1].split(",")
    assert "-c /constraints.txt" in environment
    assert f"COPY --from={target}-environment " in STAGES[target]


@pytest.mark.parametrize("target", TARGETS)
def test_torch_is_installed_first_and_only_where_texts_are_embedded(target: str) -> None:
    environment = STAGES[f"{target}-environment"]
    base = "torch-environment" if "transformers" in environment else "environment"
    assert environment.startswith(f"FROM {base}\n")


def test_torch_is_the_version_of_the_constraints() -> None:
    pinned = re.search(r"(?m)^torch==([0-9.]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    asked = re.search(r"(?m)^ARG TORCH=torch==([0-9.]+)$", TEXT)
    assert pinned is not None
    assert asked is not None
    assert asked[1] == pinned[1]


def test_every_base_image_is_pinned() -> None:
    [image] = re.findall(r"(?m)^ARG PYTHON_IMAGE=(\S+)$", TEXT)
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", image)
    for name, stage in STAGES.items():
        source = stage.split("\n")[0].removeprefix("FROM ")
        assert source == "${PYTHON_IMAGE}" or source in STAGES, f"{name} builds on {source}"


def test_build_context_holds_what_is_copied() -> None:
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source.removeprefix("./")
        for arguments in re.findall(r"(?m)^COPY (?!--from)(.+)$", TEXT)
        for source in arguments.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / path).exists() for path in copied)
