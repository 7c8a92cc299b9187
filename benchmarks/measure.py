"""Run a program as a whole process and measure it: wall time, CPU time and memory, children too."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

EVERY = 0.1
MEGA = 1_000_000


@dataclass(frozen=True, slots=True)
class Process:
    """What one process of a program used, as far as it was seen: ten times a second.

    Attributes:
        name: The program, script or module that it ran.
        cpu: User and system seconds, when it was last seen.
        peak: Largest resident size, in MB.
    """

    name: str
    cpu: float
    peak: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a program.

    Attributes:
        wall: Seconds from start to exit.
        cpu: User and system seconds of the process and of its children that ended before it.
        peak: Largest resident size of any one of them, in MB (as the kernel counted it).
        tree: Largest sum of the resident sizes of the process tree, in MB (sampled; pages that
            processes share count more than once), at least `peak`.
        code: Exit code.
        stdout: What it printed.
        stderr: What it complained about.
        processes: Each process of the tree, the first one first.
    """

    wall: float
    cpu: float
    peak: float
    tree: float
    code: int
    stdout: str
    stderr: str
    processes: tuple[Process, ...] = ()


def measure(command: Sequence[str], *, cwd: Path, stdin: Path | None = None) -> Sample:
    """Run a program to its end.

    Args:
        command: The program and its arguments.
        cwd: The folder it runs in.
        stdin: A file to read as standard input; nothing if None.
    """
    with (
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
        (stdin or Path(os.devnull)).open("rb") as source,
    ):
        started = time.perf_counter()
        try:
            process = subprocess.Popen(command, cwd=cwd, stdin=source, stdout=stdout, stderr=stderr)
        except OSError as error:
            return Sample(0.0, 0.0, 0.0, 0.0, code=127, stdout="", stderr=str(error))
        tree = Tree(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        tree.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        return Sample(
            wall=wall,
            cpu=usage.ru_utime + usage.ru_stime,
            peak=usage.ru_maxrss * 1024 / MEGA,
            tree=max(tree.peak, usage.ru_maxrss * 1024) / MEGA,
            code=process.returncode,
            stdout=text(stdout),
            stderr=text(stderr),
            processes=tuple(tree.processes.values()),
        )


def text(file: tempfile._TemporaryFileWrapper[bytes]) -> str:
    """Return all that was written to a temporary file."""
    file.seek(0)
    return file.read().decode(errors="replace")


class Tree:
    """Watch the memory and CPU time of a process and of all below it, in a thread.

    Attributes:
        peak: Largest sum of the resident sizes that was seen, in bytes.
        processes: What each process used, by its id.
    """

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self.processes: dict[int, Process] = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, args=(pid,), daemon=True)
        self.thread.start()

    def watch(self, pid: int) -> None:
        """Look at the tree until told to stop."""
        while not self.ended.wait(EVERY):
            try:
                root = psutil.Process(pid)
                family = [root, *root.children(recursive=True)]
            except psutil.Error:
                continue
            self.peak = max(self.peak, sum(map(self.look, family)))

    def look(self, process: psutil.Process) -> int:
        """Note what a process used, and return its resident size in bytes, 0 if it is gone."""
        try:
            with process.oneshot():
                size, times = process.memory_info().rss, process.cpu_times()
                before = self.processes.get(process.pid) or Process(named(process), 0.0, 0.0)
        except psutil.Error:
            return 0
        self.processes[process.pid] = replace(
            before, cpu=times.user + times.system, peak=max(before.peak, size / MEGA)
        )
        return int(size)

    def stop(self) -> None:
        """Stop watching."""
        self.ended.set()
        self.thread.join()


def named(process: psutil.Process) -> str:
    """Return what a process runs: of an interpreter, the script or the module."""
    name, *words = [Path(word).name for word in process.cmdline()] or [process.name()]
    if not name.startswith("python") or not words:
        return name
    return words[1] if words[0] == "-m" and len(words) > 1 else words[0]
