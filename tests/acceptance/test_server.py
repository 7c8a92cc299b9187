"""`etl serve` as a client meets it: a real process, real connections."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import zlib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import polars as pl
import psutil
import pytest
import schemathesis
import yaml
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

import etl
from etl import open_queue
from etl.execution.records import batch_of, records_of
from etl.server.app import create_app
from etl.server.service import Service

TEXT = {"content-type": "text/plain"}
ANYWHERE = "0.0.0.0"  # noqa: S104 - it must not
TOKEN = "correct-horse-battery-staple"  # noqa: S105
SCHEMA = schemathesis.openapi.from_dict(
    create_app(Service(open_queue("sqlite://"), run="", log=None))._app.openapi()
)
PAGES = ["/stats", "/trace", "/errors", "/queue", "/workers", "/history", "/dlq", "/dlq/groups"]
PROBLEM = {"type", "title", "status", "detail", "error", "accepted"}
LISTS = ["/trace", "/errors", "/queue", "/workers", "/dlq", "/dlq/groups"]


@schemathesis.serializer("application/x-ndjson", "application/x-protobuf")
def serialize_text(_context, value):
    return str(value).encode("utf-8", "replace")


@contextlib.contextmanager
def serving(site, *options, **more):
    """Start a server, and give a client that knows its address and its log."""
    path = site.folder / "serve.log"
    with path.open("a") as log:
        server = site.start("serve", "--port", 0, *options, stderr=log, **more)
        told = server.stdout.readline()
        assert told.startswith("📊 Dashboard running at http://localhost:"), path.read_text()
        with httpx.Client(base_url=told.split()[-1], timeout=30, trust_env=False) as client:
            client.server, client.log = server, path
            yield client


@pytest.fixture
def serve(site):
    """Start servers."""
    with contextlib.ExitStack() as stack:
        yield lambda *options, **more: stack.enter_context(serving(site, *options, **more))


@pytest.fixture
def client(serve):
    return serve()


@pytest.fixture(scope="module")
def shared(shared_site):
    """Give a client of a server that many tests share; they leave nothing in its store."""
    with serving(shared_site) as client:
        yield client
        assert client.get("/stats").json()["accepted"] == 0


def refused(answer, code, part):
    """Check that an answer is a refusal in the one form that all have."""
    problem = answer.json()
    assert (answer.status_code, set(problem)) == (code, PROBLEM), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["type"], problem["status"]) == ("about:blank", code)
    assert problem["title"] == http.HTTPStatus(code).phrase
    assert part in problem["error"] == problem["detail"]
    return answer


def raw(client, data, *, timeout=30.0):
    """Send bytes as they are and return all that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", client.base_url.port), timeout) as connection:
        connection.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def lines_of(site):
    return site.queue.peek(1_000)["line"].to_list()


# Ingest


def test_one_line_is_stored_and_the_answer_says_where(client, site):
    answer = client.post("/logs", json={"line": "INFO ready"})
    assert answer.status_code == 202
    waiting = site.queue.peek()
    assert waiting.select("line", "line_number", "source").rows() == [("INFO ready", 1, "http")]
    assert answer.json() == {
        "accepted": 1,
        "batch": waiting["batch"][0],
        "batches": 1,
        "first_line": 1,
        "duplicate": False,
    }


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ('"INFO a"', ["INFO a"]),
        ('["INFO a", "INFO b\\n", ""]', ["INFO a", "INFO b", ""]),
        ('{"line": "nul \\u0000 and \\u2028"}', ["nul \0 and \u2028"]),
    ],
)
def test_json_is_a_line_or_a_list_of_lines(client, site, body, lines):
    answer = client.post("/logs", content=body, headers={"content-type": "application/json"})
    assert answer.json()["accepted"] == len(lines), answer.text
    assert lines_of(site) == lines


TRACE = "2026-03-05 10:00:00 ERROR a\nTraceback (most recent call last):\n  File x\nE: no\n"


def records_of_all(site):
    """Return the records of all batches that wait."""
    frames = []
    while lease := site.queue.lease("test", lines=1000):
        frames.append(records_of(batch_of(lease)).select("line", "line_number", "line_count"))
    return pl.concat(frames).rows()


def test_each_element_of_a_list_is_a_record_whatever_is_inside(client, site):
    answer = client.post("/logs", json=["one\n\ttwo", "\tthree"])
    assert answer.json()["accepted"] == 3
    assert records_of_all(site) == [("one\n\ttwo", 1, 2), ("\tthree", 3, 1)]


def test_a_text_body_is_records_and_ends_its_last_one(client, site):
    for body in (TRACE, "\tat the next body\n"):
        assert client.post("/logs", content=body, headers=TEXT).status_code == 202
    assert records_of_all(site) == [(TRACE[:-1], 1, 4), ("\tat the next body", 1, 1)]


def test_each_line_of_ndjson_is_a_record(client, site):
    headers = {"content-type": "application/x-ndjson"}
    assert client.post("/logs", content=TRACE, headers=headers).status_code == 202
    assert len(records_of_all(site)) == 4


def test_a_long_text_body_is_cut_between_records(client, site):
    text = (TRACE * 80_000).encode()
    chunks = (text[start : start + 50_000] for start in range(0, len(text), 50_000))
    receipt = client.post("/logs", content=chunks, headers=TEXT).json()
    assert receipt["batches"] > 1
    assert receipt["accepted"] == 320_000
    assert {line_count for _, _, line_count in records_of_all(site)} == {4}


def test_a_request_says_how_its_lines_are_read(client, site):
    params = {"multiline": "^#", "timezone": "Europe/Berlin", "year": 2019, "unmatched": "dead"}
    answer = client.post("/logs", content="#a\nb\n#c\n", headers=TEXT, params=params)
    assert answer.status_code == 202
    context = site.queue.lease("test").batches[0].context
    assert context.record_start == "(?:^#)"
    assert (context.timezone, context.year, context.unmatched) == ("Europe/Berlin", 2019, "dead")
    answer = client.post("/logs", content="a", headers=TEXT, params={"timezone": "Mars"})
    refused(answer, 422, "no time zone 'Mars'")


def test_text_keeps_its_bytes(client, site):
    body = b"crlf\r\nnul \0\n\n\xff odd\nno end"
    params = {"source": "mine", "format": "json"}
    answer = client.post("/logs", content=body, headers=TEXT, params=params)
    assert answer.json()["accepted"] == 5
    batch = batch_of(site.queue.lease("test"))
    frame = batch.frame()
    assert frame["line"].to_list() == ["crlf", "nul \0", "", "\\xff odd", "no end"]
    assert frame["raw"].drop_nulls().to_list() == [b"\xff odd"]
    assert (batch.source, batch.format) == ("mine", "json")


def test_a_users_own_format_is_named_in_a_request(client, site):
    site.write("etl-formats.toml", "[shop]\ntemplate = '{level} {message}'")
    answer = client.post("/logs", content="INFO a", headers=TEXT, params={"format": "shop"})
    assert answer.json()["accepted"] == 1
    assert site.queue.lease("test").batches[0].format == "shop=template:{level} {message}"
    answer = client.post("/logs", content="INFO a", headers=TEXT, params={"format": "shpo"})
    refused(answer, 422, "did you mean 'shop'?")


def test_a_long_stream_comes_in_batches_that_are_numbered_on(client, site):
    lines = [f'{{"n": {number}, "pad": "{"x" * 80}"}}\n' for number in range(60_000)]
    chunks = ("".join(lines[start : start + 700]).encode() for start in range(0, 60_000, 700))
    answer = client.post("/logs", content=chunks, headers={"content-type": "application/x-ndjson"})
    receipt = answer.json()
    assert receipt["accepted"] == 60_000
    assert receipt["batches"] > 2
    found = []
    while lease := site.queue.lease("test", lines=1_000_000):
        ids = [batch.id for batch in lease.batches]
        assert set(ids) <= {receipt["batch"]} | {f"{receipt['batch']}-{n}" for n in range(9)}
        found += batch_of(lease).frame().select("line_number", "line").rows()
    assert found == [(number + 1, line[:-1]) for number, line in enumerate(lines)]


def test_lines_of_many_clients_share_batches_and_each_is_told_its_place(client, site):
    def post(number):
        return number, client.post("/logs", json=f"line {number}").json()

    with ThreadPoolExecutor(16) as pool:
        told = dict(pool.map(post, range(300)))
    rows = site.queue.peek(1_000).select("batch", "line_number", "line").rows()
    places = {(batch, number): line for batch, number, line in rows}
    assert len(places) == 300
    for number, receipt in told.items():
        assert places[receipt["batch"], receipt["first_line"]] == f"line {number}"


def test_a_retry_with_the_same_key_stores_nothing_twice(client, site):
    headers = TEXT | {"idempotency-key": "order-17"}
    first, second = (client.post("/logs", content="a\nb\n", headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["duplicate"] is False
    assert second.json() == first.json() | {"duplicate": True}
    assert lines_of(site) == ["a", "b"]
    for other in ("a\nc\n", "a\nb\nc\n", "a\n"):
        answer = client.post("/logs", content=other, headers=headers)
        refused(answer, 422, "came with another body")
    assert lines_of(site) == ["a", "b"]


def test_a_stream_that_broke_off_goes_on_where_it_was_when_it_comes_again(client, site, until):
    body = b"".join(b"%08d %s\n" % (number, b"x" * 90) for number in range(80_000))
    head = (
        "POST /logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
        f"Idempotency-Key: k\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", client.base_url.port)) as connection:
        connection.sendall(head + body[: len(body) // 2])
        until(lambda: site.queue.stats().accepted > 0)
    stored = site.queue.stats().accepted
    assert 0 < stored < 80_000
    other = b"y" + body[1:]
    headers = TEXT | {"idempotency-key": "k"}
    refused(client.post("/logs", content=other, headers=headers), 422, "another body")
    answer = client.post("/logs", content=body, headers=headers)
    assert (answer.json()["accepted"], answer.json()["duplicate"]) == (80_000, False)
    assert client.post("/logs", content=body, headers=headers).json()["duplicate"] is True
    numbers = []
    while lease := site.queue.lease("test", lines=1_000_000):
        numbers += [int(line[:8]) for line in batch_of(lease).frame()["line"]]
    assert numbers == list(range(80_000))


def test_a_key_in_use_by_another_request_is_told_to_wait(client, site):
    headers = TEXT | {"idempotency-key": "same"}
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.post, "/logs", content="a", headers=headers) for _ in range(40)]
    codes = {call.result().status_code for call in calls}
    assert codes <= {202, 409}
    assert lines_of(site) == ["a"]


@pytest.mark.parametrize(
    ("kind", "body", "code", "part"),
    [
        ("application/json", "{", 422, "JSON"),
        ("application/json", '{"line": 1}', 422, "string"),
        ("application/json", '{"line": "a", "more": 1}', 422, "send {"),
        ("application/json", "[]", 422, "no line"),
        ("application/json", "NaN", 422, "send {"),
        ("application/json", '"\\ud800"', 422, "JSON"),
        ("application/json", "[" * 200_000, 422, "recursion"),
        ("text/plain", "", 422, "no line"),
        ("text/plain", b"x" * (2 << 20), 413, "longer than 1,048,576"),
        ("application/json", b'"' + b"x" * (2 << 20) + b'"', 413, "longer than 1,048,576"),
        ("application/json", b" " * (5 << 20), 413, "stream it"),
        ("application/x-www-form-urlencoded", "a=b", 415, "Content-Type"),
        ("image/png", "a", 415, "Content-Type"),
    ],
)
def test_a_body_that_cannot_be_stored_is_refused(shared, kind, body, code, part):
    refused(shared.post("/logs", content=body, headers={"content-type": kind}), code, part)


@pytest.mark.parametrize(
    ("params", "headers", "part"),
    [
        ({"format": "nginx_acess"}, {}, "did you mean 'nginx_access'?"),
        ({"source": "a\nb"}, {}, "source"),
        ({"source": ""}, {}, "source"),
        ({"source": "x" * 201}, {}, "source"),
        ({}, {"idempotency-key": "two words"}, "idempotency-key"),
        ({}, {"idempotency-key": "x" * 201}, "idempotency-key"),
    ],
)
def test_what_is_said_of_lines_is_checked(shared, params, headers, part):
    answer = shared.post("/logs", content="a", headers=TEXT | headers, params=params)
    refused(answer, 422, part)


CODERS = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}


def encoded(body, codings):
    """Return a body with codings applied, and the headers that say so."""
    for name in codings:
        body = CODERS[name](body)
    return {"content": body, "headers": TEXT | {"content-encoding": ", ".join(codings)}}


def test_compressed_bodies_are_opened(client, site):
    for codings in (["gzip"], ["deflate"], ["zstd"], ["zstd", "gzip"]):
        answer = client.post("/logs", **encoded(b"a\nb\n", codings))
        assert answer.json()["accepted"] == 2
        given = encoded(b'{"all": true}', codings)
        given["headers"] |= {"content-type": "application/json"}
        assert client.post("/dlq/discard", **given).json()["discarded"] == 0
    bare = zlib.compressobj(wbits=-15)
    bodies = [("deflate", bare.compress(b"c\nd\n") + bare.flush())]
    bodies += [(name, CODERS[name](b"c\n") + CODERS[name](b"d\n")) for name in ("gzip", "zstd")]
    for coding, body in bodies:
        headers = TEXT | {"content-encoding": coding}
        assert client.post("/logs", content=body, headers=headers).json()["accepted"] == 2
    assert lines_of(site) == ["a", "b"] * 4 + ["c", "d"] * 3


@pytest.mark.parametrize("coding", ["br", "gzip, br", "compress", "gzip, gzip, gzip, gzip"])
def test_other_codings_are_refused_with_those_that_are_taken(shared, coding):
    headers = TEXT | {"content-encoding": coding}
    answer = refused(shared.post("/logs", content=b"a", headers=headers), 415, repr(coding))
    assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"


@pytest.mark.parametrize("coding", list(CODERS))
def test_a_body_that_cannot_be_opened_is_told_and_stores_nothing(shared, coding):
    whole = CODERS[coding](b"a\n" * 1000)
    flipped = whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]
    bodies = [b"nonsense", whole[:-1]]
    for body in [*bodies, flipped] if coding != "zstd" else bodies:  # it has no checksum
        headers = TEXT | {"content-encoding": coding}
        answer = refused(shared.post("/logs", content=body, headers=headers), 400, coding)
        assert answer.json()["accepted"] == 0


def test_a_broken_stream_tells_what_is_stored_and_a_retry_resumes_there(client, site):
    text = b"".join(
        b"%08d %s\n" % (number, os.urandom(40).hex().encode()) for number in range(90_000)
    )
    whole = gzip.compress(text, 1)
    headers = TEXT | {"content-encoding": "gzip", "idempotency-key": "k"}
    stored = client.post("/logs", content=whole[:-9], headers=headers).json()["accepted"]
    assert 0 < stored < 90_000
    assert site.queue.stats().accepted == stored
    headers["content-encoding"] = "zstd"  # the key is of the text, not of how it is sent
    receipt = client.post("/logs", content=zstd.compress(text), headers=headers).json()
    assert (receipt["accepted"], receipt["duplicate"]) == (90_000, False)
    assert site.queue.stats().accepted == 90_000


@pytest.mark.parametrize("codings", [["gzip"], ["zstd"], ["gzip", "gzip"]])
def test_a_body_that_becomes_huge_is_refused_while_it_is_opened(shared, codings):
    bomb = encoded(b" " * (64 << 20), codings)
    before = psutil.Process(shared.server.pid).memory_info().rss
    refused(shared.post("/logs", **bomb), 413, "longer than")
    bomb["headers"]["content-type"] = "application/json"
    for path in ("/logs", "/dlq/replay"):
        refused(shared.post(path, **bomb), 413, "longer than")
    assert psutil.Process(shared.server.pid).memory_info().rss - before < 48 << 20


def test_a_zstd_frame_with_a_window_of_its_own_size_is_refused(shared):
    options = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    body = packer.compress(os.urandom(1 << 10)) + packer.flush()
    headers = TEXT | {"content-encoding": "zstd"}
    refused(shared.post("/logs", content=body, headers=headers), 400, "zstd")


def test_a_full_queue_is_told_with_a_time_to_come_again(serve, site):
    client = serve("--max-lines", 10)
    assert client.post("/logs", json=["a"] * 10).status_code == 202
    answer = refused(client.post("/logs", json="b"), 429, "10 lines waiting")
    assert answer.headers["retry-after"] == "1"
    headers = TEXT | {"idempotency-key": "k"}
    refused(client.post("/logs", content="c", headers=headers), 429, "waiting")
    site.queue.commit(lease := site.queue.lease("test"), done(lease))
    assert client.post("/logs", content="c", headers=headers).status_code == 202


def test_a_stream_into_a_full_queue_is_told_how_far_it_came(serve, site):
    client = serve("--max-lines", 100_000)
    body = b"%s\n" % (b"x" * 40) * 300_000
    answer = refused(client.post("/logs", content=body, headers=TEXT), 429, "waiting")
    stats = site.queue.stats()
    assert answer.json()["accepted"] == stats.accepted > 0


def done(lease):
    from etl.records.result import BatchResult

    return BatchResult(done=lease.lines)


# Observe


def test_everything_can_be_seen(serve, site):
    client = serve("--work", "--pipeline", "etl.demo:dashboard")
    client.post("/logs", json=["INFO a", "WARNING b", "CRITICAL c"])
    site.seen(lambda stats: stats.finished == 3)
    stats = client.get("/stats").json()
    assert [stats[name] for name in ("accepted", "done", "dead", "conserved")] == [3, 2, 1, True]
    assert [row["processor"] for row in stats["processors"]] == ["level", "check", "count"]
    trace = client.get("/trace").json()["items"]
    assert sorted((row["line"], tuple(row["path"])) for row in trace) == [
        ("CRITICAL c", ("level", "check")),
        ("INFO a", ("level", "check", "count")),
        ("WARNING b", ("level", "check", "count")),
    ]
    error = client.get("/errors").json()["items"][0]
    assert (error["processor"], error["error"], error["action"]) == ("check", "poison", "dead")
    assert len(client.get("/workers").json()["items"]) == 1
    history = client.get("/history").json()
    assert history["queue"][-1]["dead"] == 1
    assert {row["processor"] for row in history["processors"]} == {"level", "check", "count"}
    dead_letter = client.get("/dlq").json()["items"][0]
    assert client.get(f"/dlq/{dead_letter['id']}").json() == dead_letter
    assert (dead_letter["line"], dead_letter["payload"]) == ("CRITICAL c", {"level": "CRITICAL"})
    groups = client.get("/dlq/groups").json()["items"]
    assert [(group["code"], group["lines"]) for group in groups] == [("poison", 1)]


def test_lists_are_filtered_and_come_in_pages(client, site):
    lines = [f"{'CRITICAL' if number % 2 else 'INFO'} {number}" for number in range(20)]
    client.post("/logs", json=lines)
    assert [row["line"] for row in client.get("/queue?limit=2&offset=18").json()["items"]] == [
        "INFO 18",
        "CRITICAL 19",
    ]
    site.etl("work", "--drain", "--pipeline", "etl.demo:dashboard")
    seen, offset = [], 0
    while offset is not None:
        page = client.get(f"/dlq?limit=3&offset={offset}").json()
        seen += [row["line"] for row in page["items"]]
        offset = page["next"]
    assert seen == [f"CRITICAL {number}" for number in range(19, 0, -2)]
    dead = client.get("/trace?state=dead&limit=3").json()
    assert ([row["state"] for row in dead["items"]], dead["next"]) == (["dead"] * 3, 3)
    assert len(client.get("/trace?processor=count").json()["items"]) == 10
    rows = client.get("/stats?processor=check&by_worker=true").json()["processors"]
    assert [(row["processor"], row["dead"]) for row in rows] == [("check", 10)]
    assert client.get("/dlq?processor=level").json()["items"] == []
    assert client.get("/errors?action=retried").json()["items"] == []


@pytest.mark.parametrize("page", LISTS)
@pytest.mark.parametrize("query", ["limit=0", "limit=501", "offset=-1", "offset=99999", "limit=x"])
def test_pages_are_bounded(shared, page, query):
    refused(shared.get(f"{page}?{query}"), 422, query.split("=")[0])


@pytest.mark.parametrize("id", ["0", "-1", "x", "9223372036854775808", "1e3", "%00"])
def test_a_dead_letter_without_a_number_is_refused(shared, id):
    refused(shared.get(f"/dlq/{id}"), 422, "id")


def test_a_dead_letter_that_is_not_there_is_404(shared):
    refused(shared.get("/dlq/7"), 404, "there is no dead letter 7")
    refused(shared.get("/nothing"), 404, "Not Found")


def test_prometheus_reads_counts_and_histograms_with_labels(serve, site):
    from prometheus_client.parser import text_string_to_metric_families

    site.put([f"INFO {number}" for number in range(500)], of=100)
    site.etl("work", "--drain", "--pipeline", "etl.demo:dashboard", "--batch-lines", 100)
    answer = serve().get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {one.name: one for one in text_string_to_metric_families(answer.text)}
    assert families["etl_lines_done"].samples[0].value == 500
    received = families["etl_processor_received"].samples
    assert {one.labels["processor"] for one in received} == {"level", "check", "count"}
    assert all(one.labels.keys() == {"queue", "processor"} for one in received)
    assert all(one.labels["queue"] == "s/store.db" for one in received)
    samples = families["etl_line_seconds"].samples
    check = [one for one in samples if one.labels["processor"] == "check"]
    buckets = [one.value for one in check if one.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 500
    assert 500 in [one.value for one in check if one.name.endswith("_count")]
    busy = site.queue.read("processors")
    total = next(one.value for one in check if one.name.endswith("_sum"))
    assert total == pytest.approx(sum(r["seconds"] for r in busy if r["processor"] == "check"))


def test_the_dashboard_for_grafana_and_the_alerts_read_metrics_that_there_are(serve, site):
    site.put(["INFO a", "CRITICAL b"], of=9)
    site.etl("work", "--drain", "--pipeline", "etl.demo:dashboard")
    shown = set(re.findall(r"^(\w+)[{ ]", serve().get("/metrics").text, re.MULTILINE))
    docs = Path(__file__).parents[2] / "docs"
    board = json.loads((docs / "grafana.json").read_text())
    groups = yaml.safe_load((docs / "alerts.yml").read_text())["groups"]
    read = [one["expr"] for panel in board["panels"] for one in panel["targets"]]
    rules = [rule["expr"] for group in groups for rule in group["rules"]]
    assert len(read) > 15 < 4 * len(rules)
    for expression in read + rules:
        assert expression.count("(") == expression.count(")"), expression
        assert set(re.findall(r"\betl_\w+", expression)) <= shown, expression


def test_the_metrics_say_what_is_open_and_whether_lines_are_taken(serve, site):
    site.put(["INFO a", "CRITICAL b", "CRITICAL c"], of=9)
    site.etl("work", "--drain", "--pipeline", "etl.demo:dashboard")
    client = serve()
    client.post("/dlq/discard", json={"ids": [client.get("/dlq").json()["items"][0]["id"]]})
    client.post("/drain")
    text = client.get("/metrics").text
    for line in ("queue_dead_open{Q} 1", "queue_dead{Q} 2", "ready{Q} 0", "queue_conserved{Q} 1"):
        assert "\netl_" + line.replace("{Q}", '{queue="s/store.db"}') + ".0\n" in text


# The dashboard


def events(answer):
    """Yield the server-sent events of an answer as they come."""
    for name in (lines := answer.iter_lines()):
        data = next(lines)
        assert (name[:7], data[:6], next(lines)) == ("event: ", "data: ", "")
        yield name[7:], json.loads(data[6:])


def test_the_page_is_open_and_has_no_data(serve, site):
    site.put(["INFO in the store"], of=9)
    client = serve(env={"ETL_TOKEN": TOKEN})
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    for rule in ("script-src 'self'", "style-src 'self'", "connect-src 'self'"):
        assert rule in policy.split("; ")
    assert "unsafe" not in policy
    assert not re.search(r"<script(?! type=\"module\" src=)|\bstyle=|\bon\w+=", page.text)
    for path in re.findall(r'(?:src|href)="(/static/[^"]*)"', page.text):
        file = client.get(path)
        assert file.headers["content-type"].split(";")[0] in ("text/javascript", "text/css")
        assert "store.db" not in file.text
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", file.text)
    assert "store.db" not in page.text
    for path in ("/events", "/stats", "/dlq", "/docs", "/static", "/staticky"):
        refused(client.get(path), 401, "Bearer")
    refused(client.get("/static/nothing"), 404, "there is no file 'nothing'")
    refused(client.get("/static/__init__.py"), 404, "dashboard.js")
    refused(client.post("/"), 401, "Bearer")


def test_events_say_what_the_store_looks_like_as_it_changes(serve, site):
    client = serve(env={"ETL_TOKEN": TOKEN})
    shown = {"authorization": f"Bearer {TOKEN}"}
    refused(client.get("/events", params={"seconds": 7}, headers=shown), 422, "seconds")
    with client.stream("GET", "/events", params={"seconds": 900}, headers=shown) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = events(answer)
        assert next(found) == ("server", {"version": etl.__version__})
        name, first = next(found)
        assert (name, first["store"], first["totals"]["accepted"]) == ("overview", "store.db", 0)
        assert first["history"]["seconds"][0] < -800
        site.put(["INFO a", "INFO b"], of=9)
        assert any(now["totals"]["waiting"] == 2 for _, now in found)
        assert json.dumps(first["totals"]) != "{}"


def test_a_store_that_cannot_be_read_is_said_to_those_who_watch(client, site):
    with client.stream("GET", "/events") as answer:
        found = events(answer)
        assert [next(found)[0], next(found)[0]] == ["server", "overview"]
        with closing(sqlite3.connect(site.store)) as db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute("ALTER TABLE workers RENAME TO gone_workers")
        problem = next(data for name, data in found if name == "problem")
        assert problem == {"error": "the store cannot be used; the log of the server says more"}


def test_pages_that_are_open_leave_requests_to_others_and_do_not_hold_up_the_end(client, site):
    with contextlib.ExitStack() as stack:
        answers = [stack.enter_context(client.stream("GET", "/events")) for _ in range(32)]
        found = [events(answer) for answer in answers]
        assert {next(one)[0] for one in found} == {"server"}
        refused(client.get("/events"), 503, "32 pages are open")
        assert client.get("/stats").status_code == 200
        client.server.send_signal(signal.SIGTERM)
        assert "Shutting down" in client.server.communicate(timeout=60)[0]
    assert "graceful shutdown exceeded" not in client.log.read_text()


def test_a_page_that_was_closed_makes_room(client):
    for _ in range(40):
        with client.stream("GET", "/events") as answer:
            assert next(events(answer))[0] == "server"


def test_a_discard_answers_with_the_ids_that_undo_it(client, site):
    site.put(["CRITICAL a", "CRITICAL b", "no level"], of=9)
    site.etl("work", "--drain", "--pipeline", "etl.demo:dashboard")
    ids = {row["line"]: row["id"] for row in client.get("/dlq").json()["items"]}
    one = client.post("/dlq/discard", json={"ids": [ids["CRITICAL a"]]}).json()
    assert one == {"discarded": 1, "ids": [ids["CRITICAL a"]]}
    rest = client.post("/dlq/discard", json={"all": True}).json()
    assert (rest["discarded"], set(rest["ids"])) == (2, {ids["CRITICAL b"], ids["no level"]})
    assert client.post("/dlq/discard", json={"all": True}).json() == {"discarded": 0, "ids": []}


# Control


def test_an_operator_pauses_and_resumes(serve, site):
    client = serve("--work", "--pipeline", "etl.demo:dashboard")
    assert client.post("/pause").json() == {"paused": True, "draining": False}
    assert site.queue.control().paused
    client.post("/logs", json="INFO a")
    assert client.get("/stats").json()["waiting"] == 1
    assert client.post("/resume").json()["paused"] is False
    site.seen(lambda stats: stats.done == 1)


def test_a_drain_takes_no_lines_and_ends_the_workers_until_resume(serve, site, until):
    client = serve("--work", "--pipeline", "etl.demo:dashboard")
    until(lambda: site.queue.read("workers"))
    client.post("/logs", json="INFO a")
    assert client.get("/readyz").json() == {"status": "ok"}
    assert client.post("/drain").json() == {"paused": False, "draining": True}
    refused(client.post("/logs", json="INFO b"), 503, "draining")
    assert refused(client.get("/readyz"), 503, "draining").headers["retry-after"] == "1"
    assert client.get("/healthz").status_code == 200
    until(lambda: not site.queue.read("workers"))
    site.settled(done=1)
    client.post("/resume")
    assert client.get("/readyz").status_code == 200
    client.post("/logs", json="INFO b")
    site.seen(lambda stats: stats.done == 2)


def test_dead_letters_are_replayed_and_discarded(client, site):
    client.post("/logs", json=["CRITICAL a", "CRITICAL b", "no level"])
    site.etl("work", "--drain", "--pipeline", "etl.demo:dashboard")
    ids = {row["line"]: row["id"] for row in client.get("/dlq").json()["items"]}
    assert client.post("/dlq/replay", json={"ids": [ids["CRITICAL a"]]}).json() == {"replayed": 1}
    refused(
        client.post("/dlq/replay", json={"ids": [ids["CRITICAL a"]]}), 409, "are not open; nothing"
    )
    assert client.get("/dlq?status=replaying").json()["items"][0]["line"] == "CRITICAL a"
    assert client.post("/dlq/discard", json={"code": "poison"}).json()["discarded"] == 1
    assert client.post("/dlq/replay", json={"all": True}).json() == {"replayed": 1}
    stats = site.queue.stats()
    assert (stats.waiting, stats.dead) == (2, 1)


def test_discarded_dead_letters_are_reopened(client, site):
    client.post("/logs", json=["CRITICAL a", "CRITICAL b", "no level"])
    site.etl("work", "--drain", "--pipeline", "etl.demo:dashboard")
    ids = {row["line"]: row["id"] for row in client.get("/dlq").json()["items"]}
    refused(client.post("/dlq/reopen", json={"ids": [*ids.values()]}), 409, "are not discarded;")
    client.post("/dlq/discard", json={"all": True})
    assert client.post("/dlq/reopen", json={"ids": [ids["CRITICAL a"]]}).json() == {"reopened": 1}
    assert [row["line"] for row in client.get("/dlq").json()["items"]] == ["CRITICAL a"]
    assert client.post("/dlq/reopen", json={"all": True}).json() == {"reopened": 2}
    assert client.post("/dlq/reopen", json={"all": True}).json() == {"reopened": 0}
    assert site.queue.stats().dead == 3


@pytest.mark.parametrize("verb", ["replay", "discard", "reopen"])
@pytest.mark.parametrize(
    "body",
    [
        *("{}", '{"all": true, "ids": [1]}', '{"ids": []}', '{"ids": [0]}', '{"ids": [1e400]}'),
        *(
            '{"ids": [9223372036854775808]}',
            '{"source": "\\ud800"}',
            '{"code": "\\u0000"}',
            "[",
            "7",
        ),
        *('{"nope": 1}', '{"all": NaN}', "[" * 100_000, '{"ids": [' + "1" * 5_000 + "]}"),
    ],
)
def test_which_dead_letters_must_be_said(shared, verb, body):
    headers = {"content-type": "application/json"}
    answer = shared.post(f"/dlq/{verb}", content=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert set(answer.json()) == PROBLEM


def test_small_bodies_are_bounded_too(shared):
    body = b'{"ids": [' + b"1, " * (2 << 20) + b"1]}"
    headers = {"content-type": "application/json"}
    refused(shared.post("/dlq/replay", content=body, headers=headers), 413, "longer than")


# Health and pages


def test_a_store_that_cannot_be_written_makes_it_not_ready(serve, site, until):
    client = serve()
    assert client.get("/readyz").status_code == 200
    with site.queue._database.write() as db:
        refuse = "BEGIN SELECT raise(ABORT, 'no room'); END"
        db.connection.execute(f"CREATE TRIGGER full BEFORE INSERT ON checkpoints {refuse}")

    until(lambda: client.get("/readyz").status_code != 200)  # it was asked a moment ago
    refused(client.get("/readyz"), 503, "not ready: the store cannot be used")
    headers = TEXT | {"idempotency-key": "k"}
    refused(client.post("/logs", content="a", headers=headers), 503, "the store cannot be used")
    assert client.get("/healthz").status_code == 200
    assert "no room" in client.log.read_text()


def test_no_answer_of_a_broken_store_names_its_file_or_its_statements(serve, site, until):
    client = serve()
    named = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    with closing(sqlite3.connect(site.store)) as db:
        db.execute("PRAGMA writable_schema = ON")
        for (table,) in db.execute(named).fetchall():
            db.execute(f"ALTER TABLE {table} RENAME TO gone_{table}")
    answers = [client.post("/logs", content="a", headers=TEXT)]
    record = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"flags": 1}]}]}]}
    exported = client.post("/v1/logs", json=record)
    assert (exported.status_code, exported.json()) == (
        503,
        {"message": answers[0].json()["detail"]},
    )
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            if path not in ("/logs", "/v1/logs"):
                given = {"json": {"all": True}} if "/dlq/" in path and method == "post" else {}
                answers.append(client.request(method, path.replace("{id}", "1"), **given))
    site.store.unlink()  # what is left of it is no store
    broken = [answer for answer in answers if answer.status_code != 200]
    assert len(broken) > 10
    for answer in broken:
        problem = answer.json()
        assert answer.status_code in (500, 503), answer.text
        assert not re.search(r"store\.db|/s/|no such|table|SELECT|INSERT", problem["detail"])
        assert "log" in problem["detail"]
    until(lambda: "no such table" in client.log.read_text())


def test_the_pages_load_nothing_from_outside(shared):
    docs = shared.get("/docs")
    for page in (shared.get("/"), docs):
        assert page.status_code == 200
        places = re.findall(r'(?:src|href)="([^"]*)"', page.text)
        assert [place for place in places if not re.match(r"/(?!/)|data:,$", place)] == []
        for place in places:
            assert place == "data:," or "{" in place or shared.get(place).status_code == 200
    assert "unsafe" not in docs.headers["content-security-policy"]
    for script in re.findall(r"<script>(.*?)</script>", docs.text, re.DOTALL):
        allowed = b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'self' 'sha256-{allowed}'" in docs.headers["content-security-policy"]


def test_every_endpoint_is_described_with_an_example(shared):
    schema = shared.get("/openapi.json").json()
    assert set(schema["paths"]) >= {*PAGES, "/logs", "/pause", "/resume", "/drain", "/metrics"}
    for path, methods in schema["paths"].items():
        for about in methods.values():
            assert about["description"], path
            answer = about["responses"].get("200") or about["responses"]["202"]
            assert "content" in answer, path
    for name, model in schema["components"]["schemas"].items():
        fields = model["properties"].values()
        assert model["description"], name
        shown = "examples" in model or any(one.keys() & {"examples", "items"} for one in fields)
        assert shown, name


# Safety


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "[", "a@localhost:x"]
)
def test_a_host_header_of_another_name_is_refused(shared, host):
    refused(shared.get("/stats", headers={"host": host}), 421, "no name of this server")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:8000", socket.gethostname()])
def test_our_own_names_are_known(shared, host):
    assert shared.get("/stats", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
    ],
)
@pytest.mark.parametrize("path", ["/logs", "/pause", "/resume", "/drain", "/dlq/discard"])
def test_a_page_of_another_site_changes_nothing(shared, path, headers):
    refused(shared.post(path, json={"all": True}, headers=headers), 403, "another site")


def test_our_own_page_may_post_and_no_other_origin_may_read(shared):
    origin = str(shared.base_url).rstrip("/")
    answer = shared.post("/pause", headers={"origin": origin, "sec-fetch-site": "same-origin"})
    assert answer.status_code == 200
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for answer in (shared.options("/logs", headers=asked), shared.get("/stats", headers=asked)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/stats", "/docs", "/nothing", "/dlq/0", "/metrics"])
def test_every_answer_has_the_headers_that_keep_browsers_safe(shared, path):
    headers = shared.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "server" not in headers


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--host", ANYWHERE), "set ETL_TOKEN"),
        (("--host", ANYWHERE, "--token", ""), "set ETL_TOKEN"),
        (("--host", ANYWHERE, "--token", "short"), "at least 16"),
        (("--host", "256.1.1.1", "--token", TOKEN), "cannot listen"),
        (("--log-format", "xml"), "human or json"),
        (("--work", "--pipeline", "nope:pipeline"), "nope"),
        (("--work", "--store", "sqlite://"), "name a file"),
    ],
)
def test_it_does_not_start_where_it_should_not(site, options, part):
    assert part in site.refused("serve", "--port", 0, *options)


def test_a_port_in_use_is_said(shared, site):
    text = site.refused("serve", "--port", shared.base_url.port)
    assert f"port {shared.base_url.port}" in text
    assert "--port" in text


def test_others_need_the_token(serve):
    client = serve("--host", ANYWHERE, env={"ETL_TOKEN": TOKEN})
    for shown in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
        answer = refused(client.get("/stats", headers=shown), 401, "Bearer")
        assert answer.headers["www-authenticate"] == "Bearer"
        refused(client.post("/logs", json="a", headers=shown), 401, "Bearer")
    odd = raw(
        client,
        b"GET /stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\r\n"
        b"Connection: close\r\n\r\n",
    )
    assert odd.startswith(b"HTTP/1.1 401")
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    right = {"authorization": f"Bearer {TOKEN}"}
    assert client.post("/logs", json="a", headers=right).status_code == 202
    assert TOKEN not in client.log.read_text()


def test_a_request_that_is_no_http_is_refused_and_the_server_goes_on(shared):
    for nonsense in (b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/1.1\r\nX: a\nb\r\n\r\n"):
        raw(shared, nonsense)
    assert shared.get("/healthz").status_code == 200


def test_endless_headers_are_hung_up_on(shared):
    endless = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: %s\r\n" % (b"y" * 1000) * 3000
    with contextlib.suppress(ConnectionError):
        assert b"200 OK" not in (raw(shared, endless) or b"")
    assert shared.get("/healthz").status_code == 200


def connections(client, count, data=b""):
    """Open connections, and send the beginning of a request on each."""
    opened = contextlib.ExitStack()
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", client.base_url.port), 30)
        opened.enter_context(connection).sendall(data)
    return opened


@pytest.mark.parametrize(
    ("count", "begun"), [(300, b""), (150, b"POST /logs HTTP/1.1\r\nHost: loc"), (800, b"")]
)
def test_clients_that_send_nothing_keep_nobody_out(shared, count, begun):
    with connections(shared, count, begun):
        for path in ("/healthz", "/readyz", "/stats"):
            answer = httpx.get(shared.base_url.join(path), timeout=5, trust_env=False)
            assert answer.status_code == 200


def test_bodies_that_do_not_come_leave_room_for_health_checks(shared):
    head = b"POST /logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    with connections(shared, 140, head + b"Content-Length: 9\r\n\r\nabc"):
        assert shared.get("/healthz").status_code == shared.get("/readyz").status_code == 200
        answer = refused(shared.get("/stats"), 503, "requests are in progress")
        assert answer.headers["retry-after"] == "1"


def test_slow_clients_are_given_up(shared):
    head = b"POST /logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    slow = (b"", head, head + b"Content-Length: 9\r\n\r\nabc")
    with ThreadPoolExecutor(3) as pool:
        nothing, no_end, no_body = pool.map(lambda data: raw(shared, data), slow)
    assert (nothing, no_end) == (b"", b"")
    assert no_body.startswith(b"HTTP/1.1 408")


def test_a_fault_of_ours_tells_nothing_of_itself(client, site, until):
    client.post("/logs", json="CRITICAL a")
    site.etl("work", "--drain", "--pipeline", "etl.demo:dashboard")
    with site.queue._database.write() as db:
        db.connection.execute("UPDATE dead_letters SET payload = '{', checksum = NULL")
    answer = refused(client.get("/dlq"), 500, "internal error; the log says more")
    assert answer.json()["error"] == "internal error; the log says more"
    assert answer.headers["x-content-type-options"] == "nosniff"
    until(lambda: "JSONDecodeError" in client.log.read_text())


@pytest.fixture(scope="module")
def tried(shared_site):
    """Give a client of a server with workers, on a store of its own."""
    shared_site.store = shared_site.folder / "tried" / "store.db"
    with serving(shared_site, "--work", "--pipeline", "etl.demo:dashboard") as client:
        yield client


ROUNDS = int(os.environ.get("ETL_CHAOS_ROUNDS", "1"))
TRIED = settings(
    max_examples=20 * ROUNDS, derandomize=ROUNDS == 1, suppress_health_check=list(HealthCheck)
)


@SCHEMA.parametrize()
@TRIED
def test_whatever_the_schema_allows_is_answered_as_it_says(tried, case):
    answer = case.call(base_url=str(tried.base_url).rstrip("/"))
    assert answer.status_code != 500, answer.text
    case.validate_response(answer, checks=[status_code_conformance, response_schema_conformance])


BODIES = st.binary(max_size=200) | st.sampled_from([b'"a"', b'{"line": "a"}', b"a\n", b"[]"])
APPLIED = st.lists(st.sampled_from(list(CODERS)), max_size=3)


@given(
    bodies=st.tuples(BODIES, APPLIED, st.none() | st.integers(0, 60)),
    said=st.none() | APPLIED,
    kind=st.sampled_from(["text/plain", "application/json", "application/x-ndjson"]),
)
@TRIED
def test_whatever_the_encoding_of_a_body_it_is_stored_or_refused(tried, bodies, said, kind):
    body, applied, end = bodies
    sent = encoded(body, applied)["content"][:end]
    coding = ", ".join(applied if said is None else said)
    headers = {"content-type": kind, "content-encoding": coding or "identity"}
    tried.post("/resume")  # whatever was asked of it before
    answer = tried.post("/logs", content=sent, headers=headers)
    assert answer.status_code in (202, 400, 413, 422, 429), answer.text


# The log, and the end


def test_the_log_is_json_with_run_and_batch_in_its_lines(serve, site):
    client = serve("--work", "--pipeline", "etl.demo:dashboard", "--log-format", "json")
    batch = client.post("/logs", json="INFO a").json()["batch"]
    site.seen(lambda stats: stats.done == 1)
    text = site.end(client.server)
    assert text == "Shutting down...\n"
    lines = [json.loads(line) for line in client.log.read_text().splitlines()]
    assert len({line["run"] for line in lines}) == 1
    assert {line["event"] for line in lines} == {"serving", "stored", "committed", "ended"}
    about = {line["event"] for line in lines if line.get("batch") == batch}
    assert about == {"stored", "committed"}


def test_a_log_that_cannot_be_written_stops_nobody(site):
    with open("/dev/full", "w") as full:  # noqa: PTH123 - it is no file
        server = site.start("serve", "--port", 0, stderr=full)
        url = server.stdout.readline().split()[-1]
        assert httpx.post(f"{url}/logs", json="INFO a", trust_env=False).status_code == 202
        site.end(server)


def test_a_person_reads_the_log_and_no_line_controls_the_terminal(serve, site):
    client = serve()
    raw(client, b"GET /\x1b[31m HTTP/1.1\r\nHost: a\x1b[31m\r\n\r\n")
    client.post("/pause")
    site.end(client.server)
    text = client.log.read_text()
    assert "paused" in text
    assert "\x1b" not in text


def test_a_run_is_served_until_ctrl_c_as_the_second_seed_shows(site, until):
    log = (site.folder / "run.log").open("w")
    boot = site.data / "boot.log"
    with log, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        arguments = ("--pipeline", "etl.demo:levels", "--trace", "--serve", "--port", port)
        run = site.start("run", boot, *arguments, stderr=log)
        told = []
        while not told or not told[-1].startswith("📊"):
            told.append(run.stdout.readline())
        assert told[:4] == [
            "[info: system booted]\n",
            "[WARN: DISK SPACE LOW]\n",
            "[error: failed to connect]\n",
            "[info: user login]\n",
        ]
        assert told[-1] == f"📊 Dashboard running at http://localhost:{port}\n"
        stats = httpx.get(f"http://localhost:{port}/stats", trust_env=False).json()
        assert (stats["done"], stats["conserved"]) == (4, True)
        assert (
            len(httpx.get(f"http://localhost:{port}/trace", trust_env=False).json()["items"]) == 4
        )
        run.send_signal(signal.SIGINT)
        assert site.ended(run) == "Shutting down...\n"


# Load


@pytest.mark.timeout(200)
def test_under_load_with_workers_killed_every_line_is_somewhere_and_none_twice(serve, site):
    client = serve("--log-format", "json")
    url, wanted = str(client.base_url), 4_000

    def post(number):
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as own:
            for line in range(number, wanted, 8):
                own.post("/logs", json=f"line {line}").raise_for_status()

    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(post, number) for number in range(8)]
        deaths = 0
        while deaths < 4:
            arguments = (*site.pipeline("numbered"), "--batch-lines", 200)
            worker = site.start("work", *arguments, env={"DELAY": "0.05"})
            assert site.busy(worker)
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(random.uniform(0, 0.2))
            os.kill(worker.pid, signal.SIGKILL)
            worker.communicate()
            deaths += 1
            stats = client.get("/stats").json()
            parts = ("done", "filtered", "dead", "leased", "waiting")
            assert stats["accepted"] == sum(stats[name] for name in parts)
        for one in posts:
            one.result()
    site.etl("work", "--drain", *site.pipeline("numbered"))
    stats = site.queue.stats()
    assert (stats.accepted, stats.leased, stats.waiting) == (wanted, 0, 0)
    dead_letters = [int(line.split()[1]) for line in site.dead_letters()["line"]]
    assert sorted([*site.rows()["number"], *dead_letters]) == list(range(wanted))


def test_the_server_and_the_command_line_do_the_same_on_postgresql(site_at, postgres_url):
    site = site_at(postgres_url)
    log = site.write("app.log", "".join(f"INFO {number}\n" for number in range(100)) + "bad\n")
    arguments = ("--pipeline", "etl.demo:dashboard", "--out", site.out)
    with serving(site) as client:
        assert client.get("/readyz").status_code == 200
        key = {"idempotency-key": "a"}
        for _ in range(2):
            assert client.post("/logs", content="INFO a\nINFO b\n", headers=key).is_success
        site.etl("put", log)
        site.etl("put", log)
        assert site.json("status")["waiting"] == client.get("/stats").json()["waiting"] == 103
        client.post("/pause")
        assert site.json("status")["paused"] is True
        site.etl("resume")
        site.etl("work", "--drain", "--workers", 2, *arguments)
        stats = client.get("/stats").json()
        assert (stats["accepted"], stats["done"] + stats["dead"]) == (103, 103)
        assert stats["dead"] == site.json("dlq list")["groups"][0]["lines"] > 0
        (letter, *_) = client.get("/dlq").json()["items"]
        assert str(letter["id"]) in site.etl("dlq show", letter["id"])
        site.etl("dlq replay", "--all")
        site.etl("work", "--drain", *arguments)
        assert client.get("/stats").json()["dead"] == stats["dead"]
        site.etl("dlq discard", "--all")
        assert client.get("/dlq").json()["items"] == []
        for page in (*PAGES, "/metrics"):
            assert client.get(page).status_code == 200, page
    assert "103" in site.etl("status")
    site.etl("trace")
