"""Names of files, folders and runs are data: no command prints one that controls a terminal."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etl.cli.app import main

BAD = "a\x1b]0;x\x07\r\nfake: 0 dead\u202e\x9b31m"


@pytest.fixture
def say(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., str]]:
    """Return a function that runs a command here and returns all that it printed."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "400")

    def run(command: str, *more: str | Path) -> str:
        words = [*shlex.split(command), *map(str, more)]
        monkeypatch.setattr(sys, "argv", ["etl", *words])
        with contextlib.suppress(SystemExit):
            main()
        printed = "".join(capfd.readouterr())
        bad = {char for char in printed if not char.isprintable() and char != "\n"}
        assert not bad, f"etl {command} printed {bad}: {printed!r}"
        assert "\nfake" not in printed, f"etl {command} printed a line of a name"
        return printed

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_no_command_prints_a_name_that_controls_a_terminal(say, tmp_path):
    log = tmp_path / f"{BAD}.log"
    log.write_text(f"INFO fine\nCRITICAL {BAD.encode().decode('latin-1')!r} \x1b[31m poison\n")
    store = tmp_path / BAD / "q.db"
    (tmp_path / BAD).mkdir()
    named = ("--store", store, "--pipeline", "etl.demo:dashboard")
    told = [
        say("detect", log),
        say("run --workers 1", log, *named, "--out", tmp_path / BAD / "out"),
        say("put", log, "--store", store, "--reread"),
        say("work --drain", *named),
        say("status --store", store),
        say("top --once --store", store),
        say("dlq list --store", store),
        say("dlq list --lines --store", store),
        say("dlq export --all --store", store, tmp_path / f"{BAD}.jsonl"),
        say("dlq export --all --store", store, tmp_path / BAD / "none" / "x.jsonl"),
        say("dlq import", tmp_path / f"{BAD}.jsonl", "--store", store),
        say("dlq import", tmp_path / f"{BAD}.jsonl", "--store", store),
        say("dlq case 1", tmp_path / f"{BAD}.etl.toml", "--store", store),
        say("dlq show 1 --store", store),
        say("dlq replay 1 --store", store),
        say("trace --store", store),
        say("store init", tmp_path / f"{BAD}.db"),
        say("status --store", tmp_path / f"{BAD}.none"),
        say("prune --store", store),
        say("run", tmp_path / f"{BAD}.none"),
        say("work --pipeline", f"{BAD}:p", "--store", store),
        say("put", tmp_path / BAD, "--store", store),
        say("runs"),
    ]
    assert any("\\x1b" in one for one in told)


def test_pruned_runs_are_named_without_control_characters(say, tmp_path):
    folder = tmp_path / "runs" / BAD
    folder.mkdir(parents=True)
    record = {"kind": "run", "started_at": 1.0, "ended_at": 2.0, "state": "done", "pid": 1}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / f"{BAD}.db").write_bytes(b"SQLite format 3\0")
    told = say("prune --older-than 1d")
    assert "\\x1b]0;x\\x07" in told
    assert "kept: " in told
    (folder / f"{BAD}.db").unlink()
    assert "would be removed" in say("prune --older-than 1d --dry-run")
