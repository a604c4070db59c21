"""The pool of parser children: reused, replaced, killed, cancelled, and cut off from the network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing import ParseCancelled, ParserLimits, ParserPool
from zhiwen.ingest.parsing.runtime import wire
from zhiwen.ingest.parsing.runtime.process import ChildTimeout, ParserProcess

TEXT = [Block("能读。")]


@pytest.fixture
def pool() -> Iterator[ParserPool]:
    pool = ParserPool(2, ParserLimits(wall_seconds=30))
    yield pool
    pool.close()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good"
    path.write_text("能读。", encoding="utf-8")
    return path


@pytest.fixture
def stuck(tmp_path: Path) -> Path:
    """A file that is never done being read, for it is a pipe that nobody writes to."""
    path = tmp_path / "stuck"
    os.mkfifo(path)
    return path


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_children_are_reused(pool: ParserPool, good: Path) -> None:
    assert pool.parse(good, "a.txt") == TEXT
    pids = pool.child_pids()
    assert [pool.parse(good, "a.txt") for _ in range(5)] == [TEXT] * 5
    assert pool.child_pids() == pids


def test_a_child_is_ready_within_half_a_second(good: Path) -> None:
    begun = time.process_time(), time.monotonic()
    pool = ParserPool(1)
    try:
        assert pool.parse(good, "a.txt") == TEXT
        # Wall time on a busy machine says little: allow it six times what the child needs on a quiet one.
        assert time.monotonic() - begun[1] < 3.0
    finally:
        pool.close()


def test_threads_share_the_pool(pool: ParserPool, good: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: pool.parse(good, "a.txt"), range(40)))
    assert results == [TEXT] * 40
    assert len(pool.child_pids()) <= 2


def test_document_of_a_killed_child_gets_another_child(pool: ParserPool, stuck: Path, good: Path) -> None:
    results: list[list[Block]] = []
    thread = threading.Thread(target=lambda: results.append(pool.parse(stuck, "a.txt")))
    thread.start()
    victim = busy_child(pool)
    good.rename(stuck)  # what the next child will open
    os.kill(victim, signal.SIGKILL)
    thread.join(10)
    assert results == [TEXT]
    assert victim not in pool.child_pids()


def busy_child(pool: ParserPool, *before: int) -> int:
    """Wait until a child other than those `before` is at work, and return its id."""
    until(lambda: any(child.pid not in before for child in list(pool._busy)))
    time.sleep(0.3)
    return next(child.pid for child in pool._busy)


def test_document_that_kills_two_children_is_to_blame(pool: ParserPool, stuck: Path, good: Path) -> None:
    caught: list[str] = []

    def parse() -> None:
        with pytest.raises(DocumentError) as error:
            pool.parse(stuck, "a.txt")
        caught.append(error.value.code)

    thread = threading.Thread(target=parse)
    thread.start()
    first = busy_child(pool)
    os.kill(first, signal.SIGKILL)
    os.kill(busy_child(pool, first), signal.SIGKILL)
    thread.join(10)
    assert caught == ["parser-crashed"]
    assert pool.parse(good, "a.txt") == TEXT


def test_idle_child_that_was_killed_is_replaced_without_a_word(pool: ParserPool, good: Path) -> None:
    assert pool.parse(good, "a.txt") == TEXT
    for pid in pool.child_pids():
        os.kill(pid, signal.SIGKILL)
    assert pool.parse(good, "a.txt") == TEXT


def test_cancelled_document_stops_within_a_second_and_leaves_no_child(pool: ParserPool, stuck: Path) -> None:
    cancelled = threading.Event()
    timer = threading.Timer(0.5, cancelled.set)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(ParseCancelled):
        pool.parse(stuck, "a.txt", cancelled.is_set)
    assert time.monotonic() - begun < 2.0
    until(lambda: not pool._busy)
    timer.join()


def test_waiting_for_a_child_can_be_cancelled(stuck: Path, good: Path) -> None:
    pool = ParserPool(1)
    stop = threading.Event()

    def occupy() -> None:
        with pytest.raises(ParseCancelled):
            pool.parse(stuck, "a.txt", stop.is_set)

    thread = threading.Thread(target=occupy)
    thread.start()
    until(lambda: bool(pool._busy))
    with pytest.raises(ParseCancelled):
        pool.parse(good, "a.txt", lambda: True)
    stop.set()
    thread.join(5)
    pool.close()


def test_close_kills_busy_children_and_their_callers_hear_of_it(stuck: Path, good: Path) -> None:
    pool = ParserPool(1)
    failures: list[BaseException] = []

    def occupy() -> None:
        with pytest.raises(RuntimeError) as caught:
            pool.parse(stuck, "a.txt")
        failures.append(caught.value)

    thread = threading.Thread(target=occupy)
    thread.start()
    until(lambda: bool(pool._busy))
    pids = pool.child_pids()
    pool.close()
    pool.close()
    thread.join(5)
    assert len(failures) == 1
    until(lambda: not any(map(alive, pids)))
    with pytest.raises(RuntimeError):
        pool.parse(good, "a.txt")


def test_child_lives_on_when_the_thread_that_asked_for_it_ends(pool: ParserPool, good: Path) -> None:
    thread = threading.Thread(target=pool.parse, args=(good, "a.txt"))
    thread.start()
    thread.join()
    pids = pool.child_pids()
    time.sleep(0.2)
    assert pids
    assert all(map(alive, pids))


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )


def test_children_die_with_their_parent(good: Path) -> None:
    done = run_python(f"""
        import os, signal
        from pathlib import Path
        from zhiwen.ingest.parsing import ParserPool
        pool = ParserPool(1)
        pool.parse(Path({str(good)!r}), "a.txt")
        print(*pool.child_pids(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    (pid,) = map(int, done.stdout.split())
    until(lambda: not alive(pid))


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """An Org file that pandoc reads for minutes."""
    path = tmp_path / "endless"
    path.write_bytes(b"*" * 20_000 + b"a")
    return path


def programs_of(child: int) -> list[int]:
    """The ids of the programs that a child has started."""
    return [process.pid for process in psutil.Process(child).children() if process.name() == "pandoc"]


@pytest.mark.parametrize("stopped_by", ["a killed child", "a cancelled document"])
def test_a_program_of_a_reader_dies_with_its_child(endless: Path, good: Path, stopped_by: str) -> None:
    pool = ParserPool(1)
    cancelled = threading.Event()

    def parse() -> None:
        with pytest.raises(ParseCancelled):
            pool.parse(endless, "a.org", cancelled.is_set)

    thread = threading.Thread(target=parse)
    thread.start()
    try:
        until(lambda: bool(pool._busy))
        (child,) = pool.child_pids()
        until(lambda: bool(programs_of(child)), 10)
        programs = programs_of(child)
        if stopped_by == "a killed child":
            os.kill(child, signal.SIGKILL)
        else:
            cancelled.set()
        until(lambda: not any(map(alive, programs)))
    finally:
        cancelled.set()
        thread.join(10)
        pool.close()


def test_child_has_no_network_and_limits_are_set() -> None:
    done = run_python("""
        import resource, socket, sys
        from zhiwen.ingest.parsing.runtime import sandbox
        sandbox.cut_network()
        sandbox.limit_memory(1 << 30)
        sandbox.limit_cpu(10)
        sandbox.limit_files()
        assert resource.getrlimit(resource.RLIMIT_AS)[0] < 3 << 30
        assert resource.getrlimit(resource.RLIMIT_CPU)[0] <= 12
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
        try:
            socket.create_connection(("127.0.0.1", 9))
        except PermissionError:
            print("refused")
    """)
    assert done.stdout == "refused\n", done.stderr


def test_common_formats_need_no_heavy_import(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>x</p>")
    (tmp_path / "a.md").write_text("# x\n\ny")
    done = run_python(f"""
        import sys
        from pathlib import Path
        import zhiwen.ingest.parsing, zhiwen.ingest.worker.chunking, zhiwen.ingest.parsing.runtime.child
        from zhiwen.ingest.parsing.reading import read_document
        for name in ("a.html", "a.md"):
            assert list(read_document(Path({str(tmp_path)!r}) / name, name))
        import zhiwen.ingest.parsing.formats.pdf
        heavy = {{"unstructured", "pandas", "spacy", "torch", "numpy", "requests", "langchain_text_splitters"}}
        print(sorted(heavy & sys.modules.keys()))
    """)
    assert done.stdout == "[]\n", done.stderr


def test_secrets_of_the_environment_do_not_reach_a_child(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIWEN_DATABASE_PASSWORD", "geheim")
    pool = ParserPool(1)
    try:
        pool.parse(good, "a.txt")
        (pid,) = pool.child_pids()
        assert b"geheim" not in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        pool.close()


def test_a_sign_of_life_gives_more_time(tmp_path: Path) -> None:
    child = ParserProcess(1 << 30, 1 << 20)
    answers = os.open(f"/proc/{child.pid}/fd/{_answers_fd(child.pid)}", os.O_WRONLY)
    stuck = tmp_path / "stuck"
    os.mkfifo(stuck)
    stop = threading.Event()

    def beat() -> None:
        for _ in range(6):
            os.write(answers, wire.pack(wire.BEAT))
            stop.wait(0.4)

    thread = threading.Thread(target=beat)
    thread.start()
    begun = time.monotonic()
    request = {"path": str(stuck), "name": "a.txt", "cpu_seconds": 9, "output_bytes": 9}
    try:
        with pytest.raises(ChildTimeout):
            child.ask(request, wall_seconds=1.0, cancelled=lambda: False)
        assert 2.5 < time.monotonic() - begun < 8
    finally:
        stop.set()
        thread.join()
        os.close(answers)
        child.kill()


def _answers_fd(pid: int) -> int:
    """The end of a child's pipe on which it answers, as its command line says."""
    until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().count(b"\0") > 5)
    return int(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-3])


def test_folders_of_killed_parents_are_removed(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stale = tmp_path / "zhiwen-parser-999999999-x"
    stale.mkdir()
    pool = ParserPool(1)
    assert pool.parse(good, "a.txt") == TEXT
    assert not stale.exists()
    pool.close()
    assert not list(tmp_path.glob("zhiwen-parser-*"))


def test_child_refuses_to_work_in_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("x", encoding="utf-8")
    command = [sys.executable, "-m", "zhiwen.ingest.parsing.runtime.child", str(os.getpid()), "1", str(1 << 30)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, cwd=tmp_path, input=b"", capture_output=True, env=environment, check=False, timeout=60
    )
    assert done.returncode == 1
    assert b"only in its own folder" in done.stderr
    assert precious.exists()
