"""Seeds of a simulated machine: each line is exactly once in an output, filtered or dead.

A seed that fails prints its steps; `ETL_SIMULATION_SEED=17 pytest tests/simulation` replays it.
`ETL_CHAOS_MINUTES=10` tries seeds that nobody has tried, for so long.
"""

from __future__ import annotations

import logging
import os
import random
import time

import pytest
from simulation.broken import BROKEN
from simulation.simulate import Failed, simulate

SEED = os.environ.get("ETL_SIMULATION_SEED")
MINUTES = float(os.environ.get("ETL_CHAOS_MINUTES", "0"))
SEEDS = [int(SEED)] if SEED else range(75)

TRIED = 100
"""Seeds in which a broken engine must be noticed."""


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_line_is_somewhere_once(seed):
    simulate(seed)


def test_a_seed_does_the_same_each_time():
    first, second = (simulate(3).world.steps for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", BROKEN)
def test_an_engine_that_is_broken_is_noticed(name):
    with BROKEN[name]():
        assert any(fails(seed) for seed in range(TRIED))


def fails(seed):
    try:
        simulate(seed)
    except Failed:
        return True
    return False


@pytest.mark.skipif(not MINUTES, reason="make chaos gives it time: ETL_CHAOS_MINUTES")
@pytest.mark.timeout(0)
def test_new_seeds_for_some_minutes():
    until = time.monotonic() + 60 * MINUTES
    while time.monotonic() < until:
        simulate(random.randrange(1_000, 10**9))
