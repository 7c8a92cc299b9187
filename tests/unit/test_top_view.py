"""What `etl top` shows of an overview, whatever the size of the terminal."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from etl.cli.top_view import view

NODES = ["input", "count", "parse", "blank", "parquet", "info", "warning", "error"]
EDGES = [["input", "blank"], ["blank", "parse"], ["parse", "count"], ["count", "parquet"]]
EDGES += [["parse", "info"], ["parse", "warning"], ["parse", "error"]]
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
BAD = "\x1b[2J\r\nfake\u202e"


def node(name: str, number: int) -> dict[str, Any]:
    counts = dict.fromkeys(("emitted", "filtered", "errors", "dead"), 0)
    return {"name": name, "received": 1_000 + number, "open": 7, "share": 0.5, **counts}


def kind(number: int, text: str = "") -> dict[str, Any]:
    words = dict.fromkeys(("processor", "reason", "source", "sample"), f"{number} {text}")
    return {"lines": 900 - number, "last_minutes": [0] * 11 + [number], **words}


def worker(number: int) -> dict[str, Any]:
    state = ("working", "idle", "late")[number % 3]
    return {
        "name": f"w{number}",
        "state": state,
        "batch": "app.log, lines 1 – 100",
        "for": 1.2 if state == "working" else None,
        "rate": 31.0,
        "heartbeat": 0.4,
    }


def seen(**other: Any) -> dict[str, Any]:
    totals = {"accepted": 20, "done": 4, "filtered": 1, "dead": 3, "leased": 2, "waiting": 10}
    found = {
        "at": 1_800_000_000.0,
        "state": "working",
        "paused_by": None,
        "reason": "",
        "totals": totals,
        "conserved": True,
        "open": 541,
        "discarded": 24,
        "oldest": 38.2,
        "empty_in": 4_000.0,
        "growing": False,
        "rate": 61.4,
        "rate_in": 80.0,
        "dead_last_minute": 312,
        "history": {
            "seconds": list(range(-119, 1)),
            "rate": [float(n) for n in range(120)],
            "waiting": list(range(0, 1_200, 10)),
        },
        "levels": [[level, 10 * place] for place, level in enumerate(LEVELS)],
        "pipeline": {
            "nodes": [node(name, number) for number, name in enumerate(NODES)],
            "edges": EDGES,
        },
        "kinds": [kind(number) for number in range(1, 60)],
        "workers": [worker(number) for number in range(9)],
    }
    return found | other


def shown(found: dict[str, Any], width: int = 120, height: int | None = None, **more: Any) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(view(found, "s/q.db", width=width, height=height, **more))
    console.file.close()
    return console.export_text()


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (120, 40), (200, 60), (60, 20)])
def test_it_fits_the_terminal_and_has_all_parts(size):
    width, height = size
    lines = shown(seen(), width, height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for part in ("lines/s", "the last 2 min", "levels", "processors", "workers", "dead letters"):
        assert part in text


def test_a_wide_terminal_is_used():
    lines = shown(seen(), 160, 50).splitlines()
    assert sum(len(line.rstrip()) > 120 for line in lines) > 10
    assert any("the last 2 min" in line and "levels" in line for line in lines)
    assert any("processors" in line and "workers" in line for line in lines)


def test_a_higher_terminal_shows_more_kinds_of_failure():
    low, high = (shown(seen(), 120, height) for height in (30, 60))
    assert "of 59" in low
    assert high.count("·█") > low.count("·█") > 3


def test_processors_stand_in_the_order_in_which_lines_reach_them():
    text = shown(seen())
    places = [text.index(f"\n{name} ") for name in ("blank", "parse", "count", "parquet")]
    assert places == sorted(places)
    turned = {
        "nodes": seen()["pipeline"]["nodes"],
        "edges": [["blank", "parse"], ["parse", "blank"]],
    }
    assert "\nparse " in shown(seen(pipeline=turned)), "two versions of a pipeline"


def test_the_trend_is_the_highest_at_its_end():
    chart = shown(seen(), 80, 40).splitlines()[5:9]
    assert chart[0].rstrip().endswith("█")
    assert chart[0][:20].strip() == ""
    assert "at most 119" in shown(seen(), 80, 40)


def test_who_paused_is_said():
    paused = seen(state="paused", paused_by="worker", reason=f"disk {BAD}")
    head = shown(paused, 160, 40, keys=True).splitlines()[0]
    assert "paused by a worker: disk \\x1b[2J" in head
    assert "q quit · p pause · r resume" in head


def test_keys_are_named_only_if_they_are_read():
    assert "q quit" not in shown(seen())


def test_lines_that_are_missing_are_not_cut_off():
    assert "✗ lines are missing" in shown(seen(conserved=False), 60, 24)


def test_text_of_logs_controls_no_terminal():
    bad = seen(
        kinds=[kind(1, BAD)],
        workers=[worker(0) | {"name": BAD, "batch": BAD}],
        pipeline={"nodes": [node(BAD, 1)], "edges": []},
    )
    for width in (80, 160):
        text = shown(bad, width)
        assert {char for char in text if not char.isprintable()} == {"\n"}
        assert "\nfake" not in text
        assert "\\x1b[2J" in text


def test_an_empty_store_is_shown():
    nothing = seen(
        state="absent",
        totals=dict.fromkeys(("accepted", "done", "filtered", "dead", "leased", "waiting"), 0),
        history={"seconds": [], "rate": [], "waiting": []},
        levels=[[level, 0] for level in LEVELS],
        pipeline={"nodes": [], "edges": []},
        kinds=[],
        workers=[],
        empty_in=None,
    )
    for width, height in ((80, 24), (160, None)):
        text = shown(nothing, width, height)
        assert "no worker runs" in text
        assert "no history" in text
        assert text.count("none") == 3
