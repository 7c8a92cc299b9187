"""The store on NATS: what only it has - a journal, copies, blobs, snapshots, credentials."""

from __future__ import annotations

import gc
import json
import random
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import nats_servers
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats_servers import Proxy

from etl import Batch, Outcome, Pipeline, Worker, open_queue
from etl.errors import StoreAway, StoreError, StoreFull, StoreVersion, UsageError
from etl.lines import LETTER_SCHEMA, Failure, Output, Tally
from etl.queue import LetterFilter, operations
from etl.queue.nats import NatsQueue, journal
from etl.queue.nats.address import Address
from etl.queue.nats.replica import Replica, message_of
from etl.queue.nats.wire import decode, encode
from etl.queue.operations import Stored

LINES = [f"{number:x}-{number**9:x}" for number in range(40_000)]
FAILURE = Failure("f00d", "parse", "bad", "ValueError", "Traceback …", ("parse",))


@pytest.fixture
def url(nats_server: str) -> str:
    return f"{nats_server}/{secrets.token_hex(8)}"


@pytest.fixture
def proxy(nats_server: str) -> Iterator[Proxy]:
    one = Proxy(int(nats_server.rpartition(":")[2]))
    yield one
    one.close()


def ask(queue: NatsQueue, stream: str) -> dict:
    """Return how much is in one of the streams: messages, first_seq, last_seq, …"""
    name = getattr(queue._journal._address, stream)
    link = queue._journal._link
    return link.call(link.ask(lambda js: js.stream_info(name)), 10).state


def dead(lines: int) -> Outcome:
    frame = pl.DataFrame({"line": LINES[:lines]}).with_columns(
        failure=pl.lit(0), message=pl.lit("bad"), attempts=1, lines=1, line_number=1
    )
    columns = [frame[name] if name in frame.columns else pl.lit(None) for name in LETTER_SCHEMA]
    letters = frame.select(**dict(zip(LETTER_SCHEMA, columns, strict=True))).cast(LETTER_SCHEMA)
    return Outcome(dead=lines, letters=letters, failures=[FAILURE])


# Addresses


def test_an_address_is_taken_apart(tmp_path):
    (tmp_path / "me.creds").touch()
    url = f"nats://me:p%40ss@a,b:4333/logs-1?creds={tmp_path}/me.creds"
    address = Address.parse(url)
    assert address.servers == ("nats://a:4222", "nats://b:4333")
    assert (address.name, address.user, address.password) == ("logs-1", "me", "p@ss")
    assert (address.creds, address.tls) == (f"{tmp_path}/me.creds", None)
    assert Address.parse("tls://a/x").tls == ""


@pytest.mark.parametrize("shown", [str, repr, lambda one: one.url])
def test_a_password_is_shown_nowhere(shown):
    assert "p4ss" not in shown(Address.parse("nats://me:p4ss@a:4222/x"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nats://me:p4ss@a:4222", "has no host or no name"),
        ("nats://me:p4ss@/x", "has no host or no name"),
        ("nats://me:p4ss@a:4222/x.y", "has no host or no name"),
        ("nats://me:p4ss@a/x?cred=y", "unknown option 'cred'"),
        ("nats://me:p4ss@a/x?creds=/not/there", "there is no file '/not/there' for 'creds'"),
    ],
)
def test_a_url_that_cannot_be_is_the_users_mistake(url, message):
    with pytest.raises(UsageError, match=message) as caught:
        open_queue(url)
    assert "p4ss" not in str(caught.value)


def test_a_store_that_is_away_is_said_in_time_without_its_password(caplog):
    (port,) = nats_servers.free_ports(1)
    with pytest.raises(
        StoreAway, match=rf"{port}/x' cannot be reached: .*refused|Connect"
    ) as caught:
        NatsQueue(f"nats://me:p4ss@127.0.0.1:{port}/x", patience=0.3)
    assert "p4ss" not in f"{caught.value} {caplog.text}"


def test_nats_that_is_not_installed_is_named(monkeypatch):
    for name in ("", ".link", ".blobs", ".journal"):
        monkeypatch.delitem(sys.modules, f"etl.queue.nats{name}")
    monkeypatch.setitem(sys.modules, "nats.aio.client", None)
    with pytest.raises(UsageError, match=r"needs nats.*; pip install -e '.\[nats\]'"):
        open_queue("nats://here:4222/x")


def test_a_user_and_a_password_open_the_store_and_no_others_do(tmp_path, etl):
    node = nats_servers.single(tmp_path / "node", nats_servers.LOGIN)
    good, bad = (f"nats://worker:{word}@127.0.0.1:{node.port}/x" for word in ("s3cret", "wr0ng"))
    try:
        queue = open_queue(good)
        queue.put(Batch.from_lines(["a 1"]))
        (tmp_path / "a.log").write_text("2026-11-21 10:00:00,000 INFO a: b\n")
        done = etl("run", "a.log", "--store", good, "--workers", 2)
        assert (done.returncode, queue.stats().finished) == (0, 2), done.stderr
        assert "s3cret" not in f"{queue!r} {done.stdout} {done.stderr}"
        queue.close()
        # A server that closes at once may take its own word for the reason with it.
        why = r"cannot be reached: .*([Aa]uthorization|reset|EOF|closed)"
        with pytest.raises(StoreAway, match=why) as caught:
            NatsQueue(bad, patience=1)
        assert "wr0ng" not in str(caught.value)
    finally:
        node.kill()


def test_a_server_is_trusted_by_its_certificate(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command += (
        f" -subj /CN=test -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    tls = f"tls: {{ cert_file: {str(certificate)!r}, key_file: {str(key)!r} }}"
    node = nats_servers.single(tmp_path / "node", tls)
    place = f"127.0.0.1:{node.port}/x"
    try:
        queue = open_queue(f"nats://{place}?tls={certificate}")
        queue.put(Batch.from_lines(["a"]))
        assert queue.stats().accepted == 1
        queue.close()
        with pytest.raises(StoreAway, match="certificate verify failed"):
            NatsQueue(f"tls://{place}", patience=2)
    finally:
        node.kill()


# Operations as bytes


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(plain)
def test_values_come_back_as_they_were(value):
    assert decode(encode(value)) == value


@given(st.binary())
def test_bytes_that_are_no_message_are_refused(data):
    with pytest.raises(StoreError, match="cannot be read"):
        decode(data)


def test_an_outcome_comes_back_as_it_was():
    one = dead(3)
    back = decode(encode(one))
    assert back.letters.equals(one.letters)
    assert back.failures[0].path == ["parse"]
    tallies = {"@": Tally(received=3, seconds=0.5)}
    many = Outcome(done=1, tallies=tallies, outputs=[Output("a", "b")], states={"bytes": "{}"})
    back = decode(encode(many))
    assert (back.tallies, back.outputs, back.states) == (tallies, [Output("a", "b")], many.states)
    assert back.letters.schema == many.letters.schema


def test_a_class_that_is_not_known_is_refused():
    with pytest.raises(StoreError, match="cannot be read"):
        decode(encode({}).replace(b'"dict"', b'"Path"'))


# Copies


def put(number: int, *lines: str, id: str = "") -> bytes:
    batch = Batch.from_lines(lines)
    stored = Stored.of(batch if not id else Batch(lines=1, payload=b"x\n", source="s", id=id))
    change = partial(
        operations.put, batches=[stored], position=None, expected="any", limits=(None, None)
    )
    return message_of("me", number, change, None)


def test_a_message_that_comes_twice_counts_once():
    one = Replica("test")
    assert one.apply(1, 10.0, put(1, "a", "b")) == ("me", 1, [])
    assert one.apply(2, 11.0, put(1, "a", "b")) is None
    assert one.apply(3, 12.0, put(2, "c"))
    assert one.applied == 3
    assert one.database.rows("SELECT lines FROM totals WHERE name = 'accepted'") == [{"lines": 3}]
    one.database.close()


def test_an_operation_that_fails_changes_nothing_and_is_told_to_its_client():
    one = Replica("test")
    change = partial(operations.discard, ids=[7])
    client, number, result = one.apply(1, 10.0, message_of("me", 1, change, None))
    assert (client, number, type(result)) == ("me", 1, UsageError)
    one.database.close()


def test_copies_of_one_journal_are_the_same_and_so_is_a_copy_of_a_copy():
    first, second, third = (Replica("test") for _ in range(3))
    messages = [put(number, f"line {number}") for number in range(1, 6)]
    for sequence, message in enumerate(messages[:3], 1):
        first.apply(sequence, 10.0, message)
    third.load(first.dump()[1])
    for sequence, message in enumerate(messages, 1):
        second.apply(sequence, 10.0, message)
    for one in (first, third):
        for sequence in (4, 5):
            one.apply(sequence, 10.0, messages[sequence - 1])
    assert third.applied == 5
    assert list(first.database._writer.iterdump()) == list(second.database._writer.iterdump())
    assert list(first.database._writer.iterdump()) == list(third.database._writer.iterdump())
    for one in (first, second, third):
        one.database.close()


def test_a_copy_of_a_copy_knows_what_each_client_was_told_last():
    first, second = Replica("test"), Replica("test")
    first.apply(1, 10.0, put(1, "a"))
    first.apply(2, 10.0, message_of("you", 4, partial(operations.discard, ids=[7]), None))
    second.load(first.dump()[1])
    number, error = second.last("you")
    assert second.last("me") == (1, [])
    assert (number, type(error), str(error)) == (4, UsageError, str(first.last("you")[1]))
    assert second.last("nobody") is None
    first.database.close()
    second.database.close()


def test_a_message_of_a_newer_etl_is_refused():
    one = Replica("store 'x'")
    newer = encode([2, "me", 1, None, "put", {}])
    with pytest.raises(StoreVersion, match="upgrade etl"):
        one.apply(1, 10.0, newer)
    with pytest.raises(StoreVersion, match=r"snapshots of version 2.*upgrade etl"):
        one.load(encode([2, 1, 1.0, {}, b""]))
    one.database.close()


# Journal, blobs and snapshots


def test_many_lines_go_beside_the_journal_and_are_removed_after_the_commit(url):
    queue = open_queue(url)
    queue.put(Batch.from_lines(LINES))
    assert ask(queue, "blobs").messages > 1, "in chunks"
    assert ask(queue, "journal").bytes < 2_000
    lease = queue.lease("w")
    assert lease.batch.frame()["line"].to_list() == LINES
    queue.commit(lease, Outcome(done=lease.lines))
    queue.close()
    again = open_queue(url)
    while ask(again, "blobs").messages:
        again.wait(again.changes(), 0.01)
    again.close()


def test_a_batch_that_is_there_already_or_finds_no_room_leaves_no_blob(url):
    queue = NatsQueue(url, max_lines=50_000)
    one, other = Batch.from_lines(LINES), Batch.from_lines(LINES)
    queue.put(one)
    chunks = ask(queue, "blobs").messages
    queue.put(one)
    with pytest.raises(Exception, match="its limit"):
        queue.put(other, block=False)
    while ask(queue, "blobs").messages > chunks:
        queue.wait(queue.changes(), 0.01)
    queue.close()


def test_what_finds_no_room_on_the_servers_leaves_nothing_there(url):
    queue = open_queue(url)
    link, name = queue._journal._link, queue._journal._address.blobs

    def leave_room(bytes_: int) -> None:
        async def change(js):
            config = (await js.stream_info(name)).config
            await js.update_stream(config.evolve(max_bytes=bytes_))

        link.call(link.ask(change), 10)

    leave_room(600_000)
    with pytest.raises(StoreFull, match="give its streams more room"):
        queue.put(Batch.from_lines(LINES[:20_000]), Batch.from_lines(LINES))
    while ask(queue, "blobs").messages:
        queue.wait(queue.changes(), 0.01)
    assert queue.stats().accepted == 0
    leave_room(-1)
    queue.put(Batch.from_lines(LINES))
    assert queue.stats().waiting == len(LINES)
    queue.close()


def test_an_outcome_too_large_for_a_message_is_seen_by_others(url):
    queue, other = open_queue(url), open_queue(url)
    queue.put(Batch.from_lines(LINES))
    queue.commit(queue.lease("w"), dead(len(LINES)))
    assert ask(queue, "journal").bytes < 5_000
    while other.stats().dead < len(LINES):
        other.wait(other.changes(), 1)
    found = other._database.rows("SELECT line FROM dead ORDER BY id")
    assert [row["line"] for row in found] == LINES
    queue.close()
    other.close()


def test_a_snapshot_takes_the_place_of_the_beginning(url, monkeypatch):
    monkeypatch.setattr(journal, "SNAPSHOT_EVERY", 20)
    queue = open_queue(url)
    for number in range(70):
        queue.put(Batch.from_lines([f"line {number}"]))
        if lease := queue.lease("w"):
            queue.commit(lease, dead(1))
    while ask(queue, "journal").first_seq < 150:
        queue.wait(queue.changes(), 0.01)
    again = open_queue(url)
    assert again.stats() == queue.stats()
    assert again.stats().dead == 70
    assert ask(again, "blobs").messages == 1, "the last snapshot"
    again.put(Batch.from_lines(["more"]))
    assert again.stats().accepted == 71
    queue.close()
    again.close()


def test_one_that_was_cut_off_for_long_goes_on_from_a_snapshot(url, proxy, monkeypatch, caplog):
    monkeypatch.setattr(journal, "SNAPSHOT_EVERY", 20)
    queue = open_queue(url)
    far = open_queue(f"nats://{proxy.place}/{url.rpartition('/')[2]}")
    proxy.cut()
    for number in range(50):
        queue.put(Batch.from_lines([f"line {number}"]))
    while ask(queue, "journal").first_seq < 40:
        queue.wait(queue.changes(), 0.01)
    assert far.stats().accepted == 0
    proxy.whole = True
    while far.stats().accepted < 50:
        far.wait(far.changes(), 1)
    far.put(Batch.from_lines(["from afar"]))
    assert far.stats().waiting == 51
    assert [record.message.split("'")[2] for record in caplog.records][
        -1
    ] == " can be reached again"
    queue.close()
    far.close()


def test_a_put_that_took_place_before_a_snapshot_is_told_so(url, proxy, monkeypatch, caplog):
    monkeypatch.setattr(journal, "SNAPSHOT_EVERY", 20)
    queue = open_queue(url)
    far = open_queue(f"nats://{proxy.place}/{url.rpartition('/')[2]}")
    proxy.deaf = True
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(far.put, Batch.from_lines(["from afar"]))
        while queue.stats().accepted < 1:
            queue.wait(queue.changes(), 1)
        for number in range(50):
            queue.put(Batch.from_lines([f"line {number}"]))
        while ask(queue, "journal").first_seq < 40:
            queue.wait(queue.changes(), 0.01)
        proxy.deaf = False
        putting.result(60)
    while far.stats().accepted < 51:
        far.wait(far.changes(), 1)
    far.heartbeat("w")  # nothing is in the way of the next
    queue.close()
    far.close()


def test_a_batch_whose_lines_are_gone_is_dead(url, nats_server, tmp_path):
    queue = open_queue(url)
    queue.put(Batch.from_lines([f"{random.random()}" for _ in range(3000)], source="s"))
    for id in queue._journal._link.call(queue._journal._blobs.ids(), 10):
        queue._journal._link.call(queue._journal._blobs.drop(id), 10)
    Worker(queue, Pipeline().add("pass", None), out=tmp_path).drain()
    assert (queue.stats().dead, queue.stats().leased) == (3000, 0)
    (group,) = queue.letter_groups(LetterFilter())
    assert (group["code"], group["lines"]) == ("source_changed", 3000)
    queue.close()


def test_a_lease_whose_answer_was_lost_is_given_back(url, proxy):
    queue = open_queue(f"nats://{proxy.place}/{url.rpartition('/')[2]}")
    queue.put(Batch.from_lines(["a"]))
    proxy.deaf = True
    given = {"worker": "w", "token": "t", "lines": 1, "seconds": 1e6}
    with pytest.raises(StoreAway, match="cannot be reached"):
        queue._change(partial(operations.lease, **given), patience=0.5)
    proxy.deaf = False
    while not queue.stats().leased:
        queue.wait(queue.changes(), 1)
    queue.resume()
    assert queue.stats().waiting == 1
    assert queue.lease("w").deliveries == 1
    queue.close()


def test_a_put_blocks_until_the_store_is_back(url, proxy, caplog):
    queue = open_queue(f"nats://{proxy.place}/{url.rpartition('/')[2]}")
    proxy.cut()
    thread = threading.Thread(target=lambda: queue.put(Batch.from_lines(["a"])))
    thread.start()
    while "cannot be reached" not in caplog.text:
        queue.wait(queue.changes(), 0.01)
    assert thread.is_alive()
    proxy.whole = True
    thread.join(20)
    assert not thread.is_alive()
    assert queue.stats().accepted == 1
    queue.close()


def test_what_is_left_by_producers_that_died_is_swept_up(url, monkeypatch):
    monkeypatch.setattr(journal, "SNAPSHOT_EVERY", 10)
    monkeypatch.setattr(journal, "LEFT_OVER", -60.0)
    queue = open_queue(url)
    queue.put(Batch.from_lines(LINES))
    chunks = ask(queue, "blobs").messages
    queue._journal.put_blob(b"left", patience=10)
    for _ in range(9):
        queue.put(Batch.from_lines(["a"]))
    while ask(queue, "journal").first_seq < 10 or ask(queue, "blobs").messages > chunks + 1:
        queue.wait(queue.changes(), 0.01)
    assert queue.lease("w").lines == len(LINES)
    queue.close()


def test_a_stream_of_another_program_is_refused(url, nats_server):
    queue = open_queue(url)
    link = queue._journal._link
    make = link.ask(lambda js: js.add_stream(name="etl-mail-journal", subjects=["mail"]))
    link.call(make, 10)
    with pytest.raises(StoreError, match="of another program; name another store"):
        open_queue(f"{nats_server}/mail")
    queue.close()


def test_a_store_that_is_dropped_ends_its_thread(url):
    before = set(threading.enumerate())
    queue = open_queue(url)
    (thread,) = set(threading.enumerate()) - before
    del queue
    gc.collect()
    assert not thread.is_alive()


def test_the_servers_clock_counts_and_not_this_ones(url, monkeypatch):
    queue = open_queue(url)
    monkeypatch.setattr("time.time", lambda: 0.0)
    queue.put(Batch.from_lines(["a"]))
    (put_at,) = queue.peek()["put_at"]
    assert put_at > 1_700_000_000
    assert queue.stats().oldest_age < 60
    queue.close()


def test_init_makes_a_store(url, etl, tmp_path):
    done = etl("store", "init", url, "--replicas", 1)
    assert (done.returncode, done.stdout) == (0, f"{url} is ready\n")
    assert json.loads(etl("status", "--json", "--store", url).stdout)["accepted"] == 0
    assert etl("store", "init", tmp_path / "s.db").returncode == 0
    assert (tmp_path / "s.db").exists()
    three = etl("store", "init", url, "--replicas", 3)
    assert (three.returncode, "3 nodes" in three.stderr) == (1, True), three.stderr
