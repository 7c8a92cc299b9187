"""Messages are found in what is read of connections and datagrams, however it is cut."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import Batch, Worker, open_queue
from etl.default import pipeline
from etl.errors import EtlError, UsageError
from etl.records.context import ReadOptions
from etl.sources import listener as listener_module
from etl.sources.addresses import ListenAddress, tls_context
from etl.sources.listener import SyslogListener
from etl.sources.syslog import MAX_MESSAGE, Deframer, Gathered

OPTIONS = ReadOptions(multiline="off")
MESSAGES = st.lists(st.binary(min_size=1).map(lambda text: b"<13>" + text), min_size=1)


def records(parts):
    """Return the messages of parts."""
    return [
        message
        for part in parts
        for message in (part if isinstance(part, list) else part.split(b"\n")[:-1])
    ]


def read(pieces):
    """Return the messages of one connection, and what found them."""
    deframer = Deframer()
    parts = [part for piece in pieces for part in deframer.add(piece)]
    return records([*parts, *deframer.rest()]), deframer


def cut(data, places):
    places = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(MESSAGES, st.lists(st.integers(0, 10_000)))
def test_counted_messages_are_found_wherever_they_are_cut(messages, places):
    data = b"".join(b"%d %s" % (len(one), one) for one in messages)
    found, deframer = read(cut(data, places))
    assert found == messages
    assert not deframer.broken


@given(MESSAGES, st.lists(st.integers(0, 10_000)))
def test_lines_are_found_wherever_they_are_cut(messages, places):
    lines = [one.replace(b"\n", b" ").replace(b"\0", b"0") for one in messages]
    assert read(cut(b"".join(one + b"\n" for one in lines), places))[0] == lines


def test_messages_that_end_in_nul_are_found():
    assert read([b"<13>one\nmore\0", b"<13>tw", b"o\0<13>three"])[0] == [
        b"<13>one\nmore",
        b"<13>two",
        b"<13>three",
    ]


@pytest.mark.parametrize(
    "data",
    [b"5 <13>a7 <13>abcX9 <13>", b"5 <13>a99999999999 x", b"5 <13>a0 x", b"2026-11-27 a line"],
)
def test_what_is_no_count_is_read_by_lines_and_not_lost(data):
    found, _ = read([data, b"<13>rest\nlast\n"])
    assert found[-1] == b"last"
    assert b"".join(found).endswith(b"<13>restlast")


@pytest.mark.parametrize("head", [b"%d " % (3 * MAX_MESSAGE), b"", b"<13>\0"])
def test_a_message_that_is_too_long_is_cut_into_pieces(head):
    block = b"x" * (MAX_MESSAGE // 8)
    found, deframer = read([head, *[block] * 24, b"\n"])
    assert max(map(len, found)) <= MAX_MESSAGE
    assert b"".join(found).count(b"x") == 3 * MAX_MESSAGE
    assert deframer.cut


def test_a_newline_inside_of_a_counted_message_begins_no_other_line():
    forged = b"<13>one\n<13>forged"
    gathered = Gathered()
    for part in Deframer().add(b"%d %s" % (len(forged), forged)):
        gathered.add("syslog://a", part)
    gathered.add_datagrams("syslog://a", [b"<13>two\n", b"<13>three\0", b"<13>four"])
    first, second = gathered.take(OPTIONS, now=0.0)
    assert first.frame()["line"].to_list() == [forged.decode()]
    assert first.lines == 2
    assert second.frame()["line"].to_list() == ["<13>two", "<13>three", "<13>four"]
    assert not gathered


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:514", "unknown scheme"),
        ("syslog+tsl://a", "did you mean 'syslog+tls'"),
        ("syslog://a:99999", "between 0 and 65535"),
        ("syslog://a/b", "more than a host and a port"),
        ("syslog+tcp://256.1.2.3:0", "cannot listen on"),
    ],
)
def test_an_address_that_cannot_be_used_is_said(url, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        list(ListenAddress.parse(url).bound())


def test_a_port_that_is_taken_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match="Address already in use; name another port"):
            list(ListenAddress.parse(f"syslog://127.0.0.1:{port}").bound())


def test_tls_without_a_certificate_is_said(tmp_path):
    with pytest.raises(UsageError, match="give --cert FILE"):
        tls_context(None, None)
    with pytest.raises(UsageError, match="TLS cannot use"):
        tls_context(tmp_path / "none.pem", None)


@contextmanager
def running(queue, url, **more):
    """Run a listener in a thread until the block ends; give it, and the future of its result."""
    listener = SyslogListener(queue, [ListenAddress.parse(url)], OPTIONS, **more)
    errors: list[BaseException] = []

    def run():
        try:
            listener.run()
        except EtlError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener, errors
    finally:
        listener.stop()
        thread.join(30)
    assert not thread.is_alive()


def port_of(listener, transport):
    (port,) = [one.port for one in listener.listening if one.transport == transport]
    return "127.0.0.1", port


def wait_for(queue, condition):
    for _ in range(300):
        since = queue.version()
        if condition():
            return
        queue.wait(since, 0.1)
    raise AssertionError(queue.stats())


def test_connections_are_not_read_while_the_queue_is_full_and_lose_nothing(tmp_path):
    queue = open_queue(f"sqlite:///{tmp_path}/s.db", max_lines=10)
    lines = 40_000
    with running(queue, "syslog+tcp://127.0.0.1:0", max_gathered=64 << 10) as (listener, errors):
        sender = socket.create_connection(port_of(listener, "tcp"))
        text = b"<13>Nov 27 10:00:00 host app: 0123456789 0123456789 0123456789\n" * lines

        def send():
            with sender:
                sender.sendall(text)

        sending = threading.Thread(target=send)
        sending.start()
        wait_for(queue, lambda: listener.paused and queue.stats().waiting)
        waiting = queue.stats().waiting
        assert waiting < lines
        worker = Worker(queue, pipeline, name="w", out=tmp_path / "out").start()
        sending.join(30)
        wait_for(queue, lambda: queue.stats().finished == lines)
        worker.stop()
    assert not errors
    assert listener.received.lines == lines
    assert queue.stats().conserved
    queue.close()


def test_datagrams_that_are_dropped_are_counted_and_kept_in_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr(listener_module, "GIVE_UP_SECONDS", 0.0)
    monkeypatch.setattr(listener_module, "CHECK_SECONDS", 0.05)
    queue = open_queue(f"sqlite:///{tmp_path}/s.db", max_lines=1)
    queue.put(Batch.from_lines(["the queue is full"]))
    sent = 0
    with running(queue, "syslog+udp://127.0.0.1:0", max_gathered=10_000) as (listener, errors):
        (address,) = map(str, listener.listening)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(port_of(listener, "udp"))
            while not queue.checkpoint(address):
                sent += sender.send(b"<13>" + b"x" * 996) // 1_000
                sender.send(b"")  # which is no line
                assert sent < 1_000_000
    assert "datagrams since" in queue.checkpoint(address).error
    (error,) = errors
    not_put = int(str(error).split(" line")[0].replace(",", ""))
    lost = listener.received.dropped + listener.received.dropped_by_kernel
    assert sent <= not_put + lost <= 2 * sent
    assert queue.stats().accepted == 1
    queue.close()


def test_the_connection_that_was_silent_longest_makes_room_for_another(tmp_path):
    queue = open_queue(f"sqlite:///{tmp_path}/s.db")
    with running(queue, "syslog+tcp://127.0.0.1:0", max_connections=2) as (listener, _):
        place = port_of(listener, "tcp")
        talking, silent = socket.create_connection(place), socket.create_connection(place)
        silent.sendall(b"<13>a\n")
        wait_for(queue, lambda: queue.stats().accepted == 1)
        talking.sendall(b"<13>b\n")
        wait_for(queue, lambda: queue.stats().accepted == 2)
        with socket.create_connection(place) as another:
            silent.settimeout(30)
            with suppress(ConnectionResetError):  # as good an end
                assert silent.recv(1) == b""
            another.sendall(b"<13>c\n")
            talking.sendall(b"<13>d\n")
            wait_for(queue, lambda: queue.stats().accepted == 4)
        talking.close()
        silent.close()
    assert listener.received.closed == 1
    queue.close()
