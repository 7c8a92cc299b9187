"""Real processes, killed and stopped by chance while their files are rotated: each line once.

One round here; `ETL_CHAOS_ROUNDS=500` does so many, and a tenth with a store in PostgreSQL.
`ETL_CHAOS_SEED=17` begins with another one.
"""

from __future__ import annotations

import gzip
import os
import random
import signal
import time
from math import ceil

import pytest

ROUNDS = int(os.environ.get("ETL_CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("ETL_CHAOS_SEED", "0"))
EVENTS = 10
"""What happens in a round."""


class Chaos:
    """A site with a file that is followed, a worker, and what happens to them."""

    def __init__(self, site, draw: random.Random) -> None:
        self.site, self.draw = site, draw
        self.path = site.folder / "logs" / "app.log"
        self.path.parent.mkdir()
        self.way = draw.choice(["rename", "copytruncate", "link"])
        self.written = 0
        self.links = 0
        if self.way == "link":
            self.link()
        self.write()
        options = ("--lease", 2, "--batch-lines", 50, "--out", site.out)
        self.commands = {
            "follow": ("put", "--follow", self.path),
            "work": ("work", *options, *site.pipeline("numbered")),
        }
        self.running = {}
        self.stopped = set()
        for name in self.commands:
            self.start(name)
        self.site.seen(lambda stats: stats.accepted == self.written)

    def start(self, name: str) -> None:
        delay = {"DELAY": f"{self.draw.uniform(0, 0.1):.3f}"}
        self.running[name] = self.site.start(*self.commands[name], env=delay)

    def happen(self) -> None:
        """Let something happen, and then some time pass."""
        name = self.draw.choice(list(self.commands))
        what = self.draw.choice([self.kill, self.stop, self.go_on, self.rotate, self.write])
        what(name)
        self.write()
        time.sleep(self.draw.uniform(0, 0.3))

    def kill(self, name: str) -> None:
        self.site.kill(self.running[name], group=self.draw.random() < 0.7)
        self.stopped.discard(name)
        self.start(name)

    def stop(self, name: str) -> None:
        os.killpg(self.running[name].pid, signal.SIGSTOP)
        self.stopped.add(name)

    def go_on(self, name: str) -> None:
        os.killpg(self.running[name].pid, signal.SIGCONT)
        self.stopped.discard(name)

    def write(self, _name: str = "") -> None:
        with self.path.open("a") as file:
            for _ in range(self.draw.randint(1, 200)):
                file.write(f"2026-11-22 09:00:00,000 INFO shop: line {self.written} well\n")
                self.written += 1

    def rotate(self, _name: str = "") -> None:
        """Do what logrotate does, in one of three ways.

        What is copied and cut before anything of it was read cannot be known of.
        """
        known = self.site.queue.checkpoints([str(self.path)], "")
        if self.way == "copytruncate" and not (known and known[-1].offset):
            return
        older = self.path.with_name("app.log.1")
        if older.exists():
            packed = self.path.with_name(f"app.log.2-{self.written}.gz")
            modified = older.stat().st_mtime
            packed.write_bytes(gzip.compress(older.read_bytes()))
            os.utime(packed, (modified, modified))
            older.unlink()
        if self.way == "rename":
            self.path.rename(older)
        elif self.way == "copytruncate":
            older.write_bytes(self.path.read_bytes())
            os.truncate(self.path, 0)
        else:
            self.link()

    def link(self) -> None:
        target = self.path.with_name(f"shop-{self.links}.log")
        self.links += 1
        target.touch()
        new = self.path.with_name("new")
        new.symlink_to(target.name)
        new.rename(self.path)

    def end(self) -> None:
        """Let all that was written be read and processed; end the processes."""
        for name in self.commands:
            self.go_on(name)
        self.write()
        self.site.seen(lambda stats: stats.accepted >= self.written, 60.0)
        self.site.seen(lambda stats: stats.idle, 60.0)
        for process in self.running.values():
            self.site.end(process)

    def check(self) -> None:
        """Every line is in the output once, or lost its workers and is dead."""
        dead = self.site.dead_letters()
        numbers = self.site.rows()["number"].to_list()
        numbers += [int(line.rsplit(" ", 2)[1]) for line in dead["line"]]
        assert sorted(numbers) == list(range(self.written))
        assert set(dead["code"]) <= {"worker_lost"}


@pytest.mark.parametrize("number", range(SEED, SEED + ROUNDS))
@pytest.mark.timeout(300)
def test_each_line_is_processed_once_whatever_is_killed_stopped_and_rotated(site, number):
    play(site, number)


@pytest.mark.parametrize("number", range(SEED, SEED + ceil(ROUNDS / 10)))
@pytest.mark.timeout(300)
def test_each_line_is_processed_once_if_the_store_is_on_a_server(postgres_schema, site_at, number):
    play(site_at(postgres_schema()), number)


def play(site, number: int) -> None:
    """Play one round, and check it."""
    chaos = Chaos(site, random.Random(number))
    for _ in range(EVENTS):
        chaos.happen()
    try:
        chaos.end()
        chaos.check()
    except AssertionError as error:
        files = {path.name: path.stat().st_size for path in chaos.path.parent.iterdir()}
        raise AssertionError(f"round {number}, {chaos.way}, {files}: {error}") from error
