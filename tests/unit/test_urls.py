"""How a store is named, and what of that is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from etl import open_queue
from etl.errors import UsageError
from etl.queue.urls import file_of, url_of, without_secrets


@pytest.mark.parametrize(
    ("store", "file"),
    [
        ("runs/a.db", "runs/a.db"),
        ("sqlite:///runs/a.db", "runs/a.db"),
        ("sqlite:////var/a.db", "/var/a.db"),
        ("sqlite://", None),
        ("postgresql://host/a", None),
        ("redis://host/a", None),
    ],
)
def test_a_store_is_a_file_or_is_none(store, file):
    assert file_of(store) == (None if file is None else Path(file))


def test_a_url_is_the_one_that_the_open_queue_has(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for store in ("a.db", "sqlite:///a.db", str(tmp_path / "a.db"), "sqlite://"):
        queue = open_queue(store)
        assert url_of(store) == url_of(queue.url) == queue.url
        queue.close()
    open_queue(tmp_path / "a.db").close()
    assert url_of("postgresql://host/a") == "postgresql://host/a"
    assert [path.name for path in tmp_path.glob("*.db")] == ["a.db"]


def test_no_password_is_kept():
    assert without_secrets("postgresql://me:secret@host:5432/q?x=y") == "postgresql://host:5432/q"
    assert without_secrets("postgresql://me:a?b@host/q?x=y@z") == "postgresql://host/q"
    assert without_secrets("postgresql://me:a/b@host/q") == "postgresql://host/q"
    assert without_secrets("postgresql://me:a/b?c@host/q") == "postgresql://…"
    assert without_secrets("postgresql://me:a@[::1]:5432/q") == "postgresql://[::1]:5432/q"
    assert without_secrets("postgresql://a,b:5433/q?password=secret") == "postgresql://a,b:5433/q"
    assert without_secrets("s3://bucket/a@b.log") == "s3://bucket/a@b.log"
    assert without_secrets("sqlite:////a@b/c.db") == "sqlite:////a@b/c.db"
    assert without_secrets("logs/a@b?.log") == "logs/a@b?.log"


@pytest.mark.parametrize("scheme", ["nats", "tls"])
def test_a_store_on_nats_is_refused_with_a_sentence_and_without_its_password(scheme):
    with pytest.raises(UsageError, match="on NATS are no longer supported; use sqlite:///") as told:
        open_queue(f"{scheme}://me:secret@host:4222/logs")
    assert "secret" not in str(told.value)


def test_a_store_on_postgresql_without_its_driver_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "etl.queue.postgres", raising=False)
    with pytest.raises(
        UsageError, match=r"needs psycopg .*: pip install 'etl\[postgres\]'"
    ) as told:
        open_queue("postgresql://me:secret@host/logs")
    assert "secret" not in str(told.value)
