"""Run contenders round by round, check what they wrote, and keep how long they took.

Rounds are interleaved, so that a slow moment of the machine hits everyone. Every output is read
back and must hold the same lines as that of Polars.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from measure import Sample, measure
from programs import HERE, Contender, NotInstalled, script
from results import Row


class Bench:
    """The inputs, the right answers and the samples of some contenders.

    Args:
        contenders: Who takes part.
        folder: For inputs and outputs.
        rounds: How often each is run.
        sync: Whether what one has written is synced to disk before the next begins.

    Attributes:
        problems: Why a contender has no result, by its key.
        wrong: Whether any wrote a wrong answer.
    """

    def __init__(
        self, contenders: Sequence[Contender], folder: Path, rounds: int, *, sync: bool = True
    ) -> None:
        self.contenders = contenders
        self.folder = folder.resolve()
        self.rounds = rounds
        self.sync = sync
        self.answers: dict[tuple[Path, str], dict] = {}
        self.samples: dict[tuple[str, int], list[Sample]] = {}
        self.problems: dict[tuple[str, int], str] = {}
        self.wrong = False

    def run(self) -> None:
        """Run everyone, round by round."""
        for number in range(self.rounds):
            for contender in self.contenders:
                if contender.key not in self.problems:
                    print(
                        f"round {number + 1}: {contender.name}, {contender.lines:,} lines",
                        file=sys.stderr,
                    )
                    self.once(contender)

    def once(self, contender: Contender) -> None:
        """Run one contender once; keep its sample, or what went wrong."""
        source = grown(self.folder, contender.lines, contender.poison)
        expected = self.answer(contender, source) if contender.compared else {}
        warm(source)
        with self.scratch() as out:
            stdin = source if contender.stdin else None
            try:
                command = contender.command(source, out)
            except NotInstalled as error:
                self.problems[contender.key] = str(error)
                return
            sample = measure(command, cwd=out, stdin=stdin)
            if sample.code:
                self.problems[contender.key] = f"not measured: {complaint(sample)}"
                return
            found = read_back(out, contender.columns) if contender.compared else {}
        different = [key for key in contender.compared if found.get(key) != expected.get(key)]
        if different:
            self.wrong = True
            self.problems[contender.key] = f"WRONG ANSWER: wrote {found}, expected {expected}"
        else:
            self.samples.setdefault(contender.key, []).append(sample)

    def answer(self, contender: Contender, source: Path) -> dict:
        """Return what the output must hold, as the script says that is its answer."""
        key = source, contender.answer
        if key not in self.answers:
            with self.scratch() as out:
                command = script(contender.answer)(source, out)
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                self.answers[key] = read_back(out, contender.columns)
        return self.answers[key]

    def scratch(self) -> Scratch:
        """Return a fresh output folder, to be used in a `with`."""
        return Scratch(self.folder / "out", sync=self.sync)

    def rows(self) -> dict[tuple[str, int], Row]:
        """Return the medians of everyone who went through all rounds."""
        return {
            one.key: Row.of(*one.key, self.samples[one.key])
            for one in self.contenders
            if one.key not in self.problems and one.key in self.samples
        }

    def problem_lines(self) -> list[str]:
        """Return who has no result, and why."""
        return [f"- {name}, {lines:,} lines: {why}" for (name, lines), why in self.problems.items()]


class Scratch:
    """A folder that is empty at the start and gone at the end, with nothing left to sync."""

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self.path = path
        self.sync = sync

    def __enter__(self) -> Path:
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path)
        if self.sync:
            os.sync()


def grown(folder: Path, lines: int, poison: float = 0.001) -> Path:
    """Return an input of some lines in a folder; it is made unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"input-{lines}.log" if poison else f"clean-{lines}.log")
    made_from = (HERE.parent / "data" / "python_app.log", HERE / "grow.py")
    if not path.exists() or path.stat().st_mtime < max(one.stat().st_mtime for one in made_from):
        options = ["--lines", str(lines), "--poison", str(poison)]
        subprocess.run([sys.executable, str(HERE / "grow.py"), str(path), *options], check=True)
    return path


def warm(path: Path) -> None:
    """Read a file once, so that everyone finds it in the page cache."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def read_back(out: Path, columns: Sequence[str]) -> dict:
    """Return what a contender wrote, in another process that keeps this one small."""
    sample = measure([sys.executable, str(HERE / "check.py"), str(out), *columns], cwd=out)
    return {"unreadable": complaint(sample)} if sample.code else json.loads(sample.stdout)


def complaint(sample: Sample) -> str:
    """Return the last line a failed program wrote to standard error, and what may help."""
    said = (sample.stderr.strip().splitlines() or [f"exit code {sample.code}"])[-1]
    hint = "; pip install 'etl[bench]'" if said.startswith("ModuleNotFoundError") else ""
    return said + hint


def options(description: str, *, lines: int) -> argparse.ArgumentParser:
    """Return a command line with the options that all tables have.

    Args:
        description: What the program does.
        lines: Lines of an input by default.
    """
    parser = argparse.ArgumentParser(description=description.split("\n", maxsplit=1)[0])
    parser.add_argument("--lines", type=int, default=lines)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=HERE.parent / "data" / "runs" / "benchmark")
    parser.add_argument("--save", type=Path, help="folder for the rows, as JSON files")
    return parser
