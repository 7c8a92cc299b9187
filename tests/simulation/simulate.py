"""One simulation from one seed: what happens, until all is healed, and what must hold then."""

from __future__ import annotations

import io
from collections import Counter

import polars as pl
from simulation import actors
from simulation.actors import LOGS, Model
from simulation.logs import Log
from simulation.world import OUT, World

from etl import Batch, JsonLines, Parquet
from etl.queue import DeadLetterFilter, Stats
from etl.queue.reads import Reads
from etl.queue.sqlite import SqliteDatabase
from etl.records.result import UNREAD
from etl.sinks.publish import is_shown

__all__ = ["Failed", "simulate"]

STEPS = 250
"""Turns and events before all is healed."""

PACE = (0.01, 0.05, 0.2, 0.5)
"""Seconds that pass at a turn or an event."""

IDLE_TURNS = 120
"""Turns without a new line after which followers have read all."""

MAX_STEPS = 6_000
"""Turns after which what is not done then never will be."""


class Failed(AssertionError):
    """What must hold does not, with the steps that led to it."""


class Observer(Reads):
    """Reads the store as it is."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def _database(self) -> SqliteDatabase:
        world = self._world
        database = object.__new__(SqliteDatabase)
        super(SqliteDatabase, database).__init__("the store", lambda: world.now)
        database._writer = database._reader = world.connection
        database._closed, database._path = False, None
        return database


class Simulation:
    """A world and those who act in it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.world = World(seed)
        self.random = self.world.random
        self.model = Model()
        self.store = Observer(self.world)
        world = self.world
        self.wanted: dict[str, object] = {}
        self.logs: list[Log] = []
        self.killers = False
        self.idle_turns = 0
        self._known = -1
        world.sink = self.random.choice([JsonLines, Parquet])
        world.lease_seconds = self.random.choice([5.0, 30.0])
        world.batch_lines = self.random.choice([1, 1, 6])
        world.disk.make_folder(LOGS)
        world.disk.make_folder(OUT)
        world.disk.sync(world.disk.root)

    def begin(self) -> None:
        """Choose who acts."""
        world = self.world
        killers = self.killers = self.random.random() < 0.15
        for number in range(self.random.randint(1, 2)):
            batches = [
                Batch.from_lines(
                    self.model.lines(world, self.random.randint(1, 5), killers=killers),
                    source=f"client {number}",
                )
                for _ in range(self.random.randint(1, 4))
            ]
            self.wanted[f"client {number}"] = actors.client(batches)
        for number in range(self.random.randint(0, 2)):
            folder = LOGS / str(number)
            world.disk.make_folder(folder)
            way = self.random.choice(["none", "rename", "rename", "copytruncate", "link"])
            log = Log(world, self.model, folder / "shop.log", way)
            self.logs.append(log)
            if self.random.random() < 0.5:
                log.in_parts = True
                self.wanted[f"follow {number}"] = actors.follow(log.path)
            else:
                by_reference = self.random.random() < 0.5
                chunk = self.random.choice([60, 300])
                self.wanted[f"put {number}"] = actors.put(
                    log.path, by_reference=by_reference, chunk=chunk
                )
        for number in range(self.random.randint(1, 2)):
            self.wanted[f"work {number}"] = actors.work

    # What happens

    def run(self) -> None:
        """Let it all happen, then heal it, and check."""
        self.begin()
        for _ in range(STEPS):
            self.event()
        self.heal()
        for _ in range(MAX_STEPS):
            if self.settled():
                break
            before = self.stats().accepted
            self.event()
            self.idle_turns = self.idle_turns + 1 if self.stats().accepted == before else 0
        else:
            raise AssertionError(f"not done after {MAX_STEPS} turns: {self.store.stats()}")
        self.check()

    def event(self) -> None:
        """Do one thing that can happen now."""
        world, draw = self.world, self.random.random()
        world.now += self.random.choice(PACE)
        if draw < 0.07 and not world.healed:
            self.disturb()
        elif draw < 0.09:
            self.beat()
        elif draw < 0.16 or not world.turn():
            world.now += 0.5
            self.start_missing()
        if world.happens("jump"):
            world.now += self.random.choice([2.0, 31.0, 61.0])
        if self.random.random() < 0.05:
            stats = self.store.stats()
            assert stats.conserved, f"lines are missing: {stats}"

    def disturb(self) -> None:
        """Let something come from outside."""
        world, draw = self.world, self.random.randrange(9)
        if draw == 0:
            self.act("operator", actors.operate)
        elif draw == 1:
            self.act("replayer", self.random.choice([actors.replay, actors.replay, actors.discard]))
        elif draw == 2:
            if world.happens("power_cut"):
                world.power_cut()
        elif draw == 3:
            if world.happens("bit_flip"):
                world.flip_bit()
        elif draw == 8:
            self.act("joiner", actors.join)
        elif self.logs and draw == 4:
            self.rotate()
        elif self.logs:
            self.random.choice(self.logs).write(killers=self.killers)

    def rotate(self) -> None:
        """Rotate a log that is known to the store."""
        log = self.random.choice(self.logs)
        if self.store.checkpoints([str(log.path)], ""):
            log.rotate()

    def act(self, role: str, main: object) -> None:
        if not self.world.alive(role):
            self.world.start(role, main)

    def beat(self) -> None:
        workers = [one for one in self.world.alive("work") if one.worker and one.worker._runner]
        ready = [one for one in workers if len(one.tasks) == 1]
        if ready:
            self.random.choice(ready).start(actors.heartbeat, main_task=False)

    def start_missing(self) -> None:
        """Start what is not running and has not ended; sometimes only."""
        for role, main in self.wanted.items():
            latest = [one for one in self.world.processes if one.role == role][-1:]
            gone = not latest or not latest[0].alive
            over = latest and latest[0].ended and not role.startswith("work")
            if over and role.startswith("put"):
                over = self.began_healed(role)
            if gone and not over and (self.world.healed or self.random.random() < 0.5):
                self.world.start(role, main)

    def began_healed(self, role: str) -> bool:
        """Return whether the last process of a role began when all was healed."""
        latest = [one for one in self.world.processes if one.role == role][-1:]
        return bool(latest) and latest[0].began_healed

    def heal(self) -> None:
        """End all faults: what is gone comes back, and nobody is in the way."""
        world = self.world
        world.note("healed")
        world.healed = True
        for log in self.logs:
            log.reopen()
            log.finish_line()
        for process in world.alive():
            process.asleep_until = 0.0
        self.start_missing()

    def stats(self) -> Stats:
        """Return the store's totals, which are read again only if it has changed."""
        if self._known != self.world.changes:
            self._known, self._stats = self.world.changes, self.store.stats()
        return self._stats

    def settled(self) -> bool:
        busy = [one for one in self.world.alive() if not one.role.startswith("work")]
        if any(not self.began_healed(role) for role in self.wanted if role.startswith("put")):
            return False  # a file is put once more, for what was written since
        if busy:
            if all(one.role.startswith("follow") for one in busy) and self.idle_turns > IDLE_TURNS:
                for one in busy:
                    one.stopping = True
            return False
        if self.stats().paused:
            self.world.start("operator", lambda process: process.queue.resume())
            return False
        if not self.stats().idle:
            return False
        left = self.store.pending_outputs() or self.to_be_set_aside()
        if left and not self.world.alive("work last"):
            self.world.start("work last", actors.work)  # who begins sees to what was left
        return not left

    def to_be_set_aside(self) -> bool:
        """Return whether a file can be seen whose lines another holds by now."""
        shown = set(map(str, self.world.disk.paths(OUT)))
        return any(one.final in shown for one in self.store.replaced_outputs())

    # What must hold

    def check(self) -> None:
        stats = self.store.stats()
        assert stats.conserved
        written = Counter(self.model.written)
        output = self.output()
        dead = self.store.dead_letters(DeadLetterFilter(status=None))
        unread = dead.filter(pl.col("code").is_in(UNREAD))  # their bits flipped, and it was noticed
        lines = dead.filter(~pl.col("code").is_in(UNREAD))
        ended = pl.col("status").is_in(["open", "discarded"])  # others were replayed since
        gone = Counter(lines.filter(ended)["line"].to_list())
        doubled = (output + gone) - written
        assert not doubled, f"doubled: {dict(doubled)}"
        missing = written - (output + gone)
        dropped = [line for line in missing.elements() if line.endswith("drop")]
        lost = [line for line in missing.elements() if not line.endswith("drop")]
        flipped = int(unread["lines"].sum())
        assert flipped or not lost, f"lost: {lost}"
        assert missing.total() == stats.filtered + flipped, (missing, stats)
        assert stats.filtered <= len(dropped)
        assert stats.accepted == written.total(), stats
        assert (stats.done, stats.dead) == (output.total(), gone.total() + flipped), stats
        assert bool(flipped) <= bool(self.world.happened["bit flips"])
        odd = [line for line in output if not line.endswith("good")]
        assert not odd, f"written, though not good: {odd}"
        wrong = lines.filter(
            ~pl.col("line").str.contains("(poison|reject)$") & (pl.col("code") != "worker_lost")
        )
        assert wrong.is_empty(), wrong.select("line", "code", "message").rows()
        self.check_metrics(output, dead)

    def check_metrics(self, output: Counter[str], dead: pl.DataFrame) -> None:
        """Check that metrics and states know of each line once."""
        import json

        counted: Counter[str] = Counter()
        for row in self.store.read("states"):
            counted.update(json.loads(row["state"]))
        assert counted == output, (counted - output, output - counted)
        received: Counter[str] = Counter()
        for row in self.store.read("processors"):
            received[row["processor"]] += row["received"]
        assert received["out"] == output.total(), received
        if not {"worker_lost", *UNREAD} & {*dead["code"]}:
            replays = int(dead["replays"].sum())
            assert received["check"] == len(self.model.written) + replays, (received, replays)

    def output(self) -> Counter[str]:
        """Return the lines of all files that are to be seen."""
        lines: Counter[str] = Counter()
        for path in self.world.disk.paths(OUT):
            if not is_shown(path, OUT):
                continue
            data = bytes(self.world.disk.find(path).data)
            if path.suffix == ".parquet":
                lines.update(pl.read_parquet(io.BytesIO(data))["line"].to_list())
            elif path.suffix == ".jsonl":
                lines.update(pl.read_ndjson(io.BytesIO(data))["line"].to_list())
        return lines


def simulate(seed: int, *, steps: int = 60) -> Simulation:
    """Run a seed to its end and return what happened.

    Raises:
        Failed: If something does not hold; it shows the last steps.
    """
    simulation = Simulation(seed)
    world = simulation.world
    try:
        with world.patched():
            simulation.run()
    except Exception as error:
        shown = "\n".join(world.steps[-steps:])
        raise Failed(
            f"seed {seed}: {error}\nfaults: {world.faults}; logs: {simulation.logs}\n{shown}\n"
            f"again: ETL_SIMULATION_SEED={seed} pytest tests/simulation"
        ) from error
    finally:
        world.close()
    return simulation
