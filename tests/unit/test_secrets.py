"""`mask`: which secrets it finds, and that none of them is kept anywhere else."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from etl import Batch, DeadLetters, Pipeline, Worker, each, mask, open_queue
from etl.errors import PipelineError, ProcessorStop
from etl.processors import Parse, normalise
from etl.queue import Queue
from etl.sinks.jsonl import JsonLines

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
CARD = "4111 1111 1111 1111"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key AKIAIOSFODNN7EXAMPLE.", "key <token>."),
        (f"{KEY}\nafter", "<private_key>\nafter"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz", "<private_key>"),
        (f"cookie {JWT}", "cookie <token>"),
        ("Bearer abcdef0123456789", "Bearer <token>"),
        ("ghp_abcdefghijklmnopqrst xoxb-12345678-abc", "<token> <token>"),
        ("Authorization: Basic dXNlcjpwYXNz end", "Authorization: <password> end"),
        ("api_key=abc&x=1", "api_key=<password>&x=1"),
        ("aws_secret_access_key = wJalr/K7MDENG", "aws_secret_access_key = <password>"),
        ("--db-password hunter2 --force", "--db-password <password> --force"),
        ("postgresql://etl:hunter2@host/db", "postgresql://etl:<password>@host/db"),
        ("DB_PASSWORD='two words' x", "DB_PASSWORD='<password>' x"),
        ("tokens=512, secretary: Ann", "tokens=512, secretary: Ann"),
        (f"card {CARD}, 378282246310005", "card <card>, <card>"),
        ("no card 4111 1111 1111 1112", "no card 4111 1111 1111 1112"),
        ("blk_4111111111111111 1764165000000", "blk_4111111111111111 1764165000000"),
        ("to bob.smith+x@example.co.uk, a@b", "to <email>, a@b"),
        ("nothing here: 12:30", "nothing here: 12:30"),
    ],
)
def test_a_secret_is_replaced_by_its_kind_and_nothing_else_is(text, masked):
    assert mask().text(text) == masked
    assert mask().text(masked) == masked


@pytest.mark.parametrize(
    "line",
    [
        '{"password": "a\\"b", "n": 1}',
        '{"token": 1234, "n": null}',
        '{"token": null}',
        '{"body": "{\\"api_key\\": \\"abc\\"}"}',
    ],
)
def test_json_is_still_json(line):
    masked = json.loads(mask().text(line))
    assert masked.keys() == json.loads(line).keys()
    for secret in ('a"b', "1234", "abc"):
        assert secret not in str(masked)


def test_columns_are_masked_whatever_their_type():
    frame = pl.DataFrame(
        {
            "_row": ["a@b.org", "x"],
            "source": ["a@b.org", "x"],
            "password": ["abc", None],
            "api_key": [17, 18],
            "card": [4111111111111111, 4111111111111112],
            "more": [{"secret": "s", "to": ["a@b.org"]}, None],
            "level": pl.Series(["INFO", "a@b.org"], dtype=pl.Categorical),
        }
    )
    assert mask()(frame).to_dict(as_series=False) == {
        "_row": ["a@b.org", "x"],
        "source": ["a@b.org", "x"],
        "password": ["<password>", None],
        "api_key": [None, None],
        "card": [None, 4111111111111112],
        "more": [{"secret": "<password>", "to": ["<email>"]}, None],
        "level": ["INFO", "<email>"],
    }


def test_columns_kinds_and_own_patterns_are_chosen():
    chosen = mask(columns=["line"], kinds=["email"], patterns={"order": r"ORD-\d+"})
    frame = pl.DataFrame({"line": ["a@b.org ORD-17 token=x"], "message": ["a@b.org"]})
    assert chosen(frame).rows() == [("<email> <order> token=x", "a@b.org")]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"kinds": ["emails"]}, "unknown kind 'emails'; did you mean 'email'?"),
        ({"patterns": {"order": "("}}, "the pattern 'order' cannot be used"),
    ],
)
def test_an_option_that_cannot_be_used_is_said(options, part):
    with pytest.raises(PipelineError) as raised:
        mask(**options)
    assert part in str(raised.value)


SECRETS = ("hunter2", "bob@example.org", CARD, "AKIAIOSFODNN7EXAMPLE")
LINES = [f"2026-11-22 09:00:00,000 INFO shop: {kind} {' '.join(SECRETS[1:])} password=hunter2"
         for kind in ("good", "early", "late", "raise", "odd")]  # fmt: skip


def fails(kind: str) -> object:
    """Return a processor that fails lines of a kind, and says so with all that it knows."""

    def check(row: dict[str, object]) -> dict[str, object]:
        if kind in str(row["line"]):
            raise ValueError(f"cannot read {row}")
        return row

    return each(check)


def pipeline() -> Pipeline:
    """Return a pipeline with lines that fail before the mask, and after it."""
    return (
        Pipeline("masked")
        .add("early", fails("early"))
        .add("parse", Parse())
        .add("raise", fails("raise"))
        .add("normalise", normalise)
        .add("mask", mask())
        .add("late", fails("late"))
        .add("out", JsonLines())
    )


def kept(path: Path) -> str:
    """Return all that a store's tables hold, bytes as text."""
    with closing(sqlite3.connect(path)) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = [row for (name,) in tables for row in db.execute(f"SELECT * FROM {name}")]
    return "\n".join(
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for row in rows
        for value in row
    )


@pytest.fixture
def masked_store(tmp_path: Path):
    """Give the store of a run whose lines have secrets, and which is done."""
    queue = open_queue(str(tmp_path / "q.db"))
    queue.put(Batch.from_lines([line.encode() for line in LINES[:-1]], source="shop"))
    queue.put(Batch.from_lines([b"\xff early " + LINES[-1].encode()], source="shop"))
    Worker(queue, pipeline(), out=tmp_path / "out").drain()
    yield queue
    queue.close()


def test_no_secret_is_kept_of_lines_that_pass_or_fail(masked_store: Queue, tmp_path: Path):
    stats = masked_store.stats()
    assert (stats.done, stats.dead) == (1, 4)
    written = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.jsonl"))
    DeadLetters(masked_store).export(tmp_path / "dead.jsonl")
    texts = {
        "store": kept(tmp_path / "q.db"),
        "output": written,
        "export": (tmp_path / "dead.jsonl").read_text(),
        "frame": DeadLetters(masked_store).frame().to_csv(),
    }
    found = {(name, one) for name, text in texts.items() for one in SECRETS if one in text}
    assert found == set()
    assert "<email> <card> <token> password=<password>" in texts["store"]
    assert "good" in written


def test_a_masked_dead_letter_is_replayed_as_it_is_kept(masked_store: Queue):
    assert DeadLetters(masked_store).replay() == 4
    batches = []
    while lease := masked_store.lease("test"):
        batches.append(lease.batches[0].frame())
    lines = pl.concat(batches, how="diagonal")
    assert lines["line"].str.contains("<email> <card>").all()
    assert lines["raw"].drop_nulls().is_empty()


def test_what_is_shown_of_lines_is_masked_before_the_mask_too():
    shown = pipeline()
    tap = shown.tap("parse")
    queue = open_queue("sqlite://")
    queue.put(Batch.from_lines(LINES[:1]))
    Worker(queue, shown.add("out", lambda frame: frame)).drain()
    texts = [str(tap.rows().to_dicts()), str(shown.explain(LINES[0])), str(shown.explain(LINES[3]))]
    assert [one for text in texts for one in SECRETS if one in text] == []
    assert all("<email>" in text for text in texts)


def test_the_reason_of_a_pause_and_lines_of_a_batch_that_was_given_up_are_masked(tmp_path: Path):
    queue = open_queue(str(tmp_path / "q.db"))
    queue.put(Batch.from_lines(LINES[1:2]))
    stops = pipeline().add("early", on_error="stop", processor=fails("early"))
    with pytest.raises(ProcessorStop):
        Worker(queue, stops, out=tmp_path).drain()
    reason = queue.control().failure
    assert "<email>" in reason
    assert [one for one in SECRETS if one in reason] == []
    queue.resume()
    for _ in range(4):  # as if workers had been lost
        queue._database._writer.execute("UPDATE batches SET deliveries = 4")
        Worker(queue, pipeline(), out=tmp_path).step()
    assert queue.stats().dead == 1
    text = kept(tmp_path / "q.db")
    assert "<email>" in text
    assert [one for one in SECRETS if one in text] == []
    queue.close()
