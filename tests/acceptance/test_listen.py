"""`etl listen` with the programs that send syslog."""

from __future__ import annotations

import logging
import logging.handlers
import shutil
import socket
import ssl
import subprocess
from contextlib import contextmanager, suppress

from servers import free_port

RSYSLOG = """
module(load="imudp")
input(type="imudp" address="127.0.0.1" port="{own}")
action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp"
       TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format")
action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp"
       template="RSYSLOG_ForwardFormat")
"""
SYSLOG_NG = """
@version: current
source s {{ network(ip("127.0.0.1") port({own}) transport("udp")); }};
destination counted {{ syslog("127.0.0.1" port({port}) transport("tcp") persist-name("a")); }};
destination lines {{ network("127.0.0.1" port({port}) transport("tcp") persist-name("b")); }};
log {{ source(s); destination(counted); destination(lines); }};
"""


@contextmanager
def listening(site, *urls, options=()):
    """Start `etl listen`; give the process, and the ports by their transport."""
    process = site.start("listen", *urls, *options)
    ports = {}
    for _ in range(sum(2 if url.startswith("syslog:") else 1 for url in urls)):
        line = process.stdout.readline()
        assert "listening on" in line, line + process.stdout.read()
        url = line.split("listening on ")[1].split(" ")[0]
        ports[url.split("+")[1].split(":")[0]] = int(url.rpartition(":")[2])
    yield process, ports


def logger(*words):
    subprocess.run(["logger", "-n", "127.0.0.1", "-t", "app", *map(str, words)], check=True)


def texts(site):
    """Return the records that wait."""
    found = []
    while lease := site.queue.lease("test", lines=1_000, seconds=60):
        found += [line for batch in lease.batches for line in batch.frame()["line"]]
    return found


def test_messages_of_logger_are_lines_by_udp_and_both_framings_of_tcp(site):
    with listening(site, "syslog://127.0.0.1:0") as (process, ports):
        logger("-P", ports["udp"], "-d", "one")
        logger("-P", ports["tcp"], "-T", "-p", "user.err", "two")
        logger("-P", ports["tcp"], "-T", "--octet-count", "--rfc3164", "three")
        site.seen(lambda stats: stats.waiting == 3)
        assert "3 lines put into" in site.end(process)
    site.etl("work", "--drain")
    rows = site.rows().sort("timestamp")
    assert sorted(rows["message"]) == ["one", "three", "two"]
    assert set(rows["source"]) == {"syslog://127.0.0.1"}
    assert set(rows["format"]) == {"syslog5424", "syslog3164"}
    assert rows.filter(message="two")["level"].to_list() == ["ERROR"]
    site.settled(done=3)


def test_messages_of_pythons_handler_and_of_a_syslog_daemon_are_lines(site):
    own = free_port()
    with listening(site, "syslog://127.0.0.1:0") as (process, ports):
        for transport, kind in (("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM)):
            handler = logging.handlers.SysLogHandler(("127.0.0.1", ports[transport]), socktype=kind)
            handler.ident = f"{transport}: "
            for text in ("first", "second\nwith more"):
                record = {"msg": text, "levelno": 20, "levelname": "INFO"}
                handler.emit(logging.makeLogRecord(record))
            handler.close()
        found = []
        with subprocess.Popen(daemon_of(site, own=own, port=ports["tcp"]), cwd=site.folder) as one:
            try:
                for _ in range(300):  # until the daemon listens itself
                    logger("-P", own, "-d", "--rfc3164", "by daemon")
                    site.queue.wait(site.queue.version(), 0.1)
                    found += texts(site)
                    forwarded = [line for line in found if "by daemon" in line]
                    if len({line.startswith("<13>1 ") for line in forwarded}) == 2:  # both framings
                        break
            finally:
                one.terminate()
        site.end(process)
    assert all(line.endswith(" app: by daemon") or " app - - " in line for line in forwarded)
    assert {line for line in found if line.startswith("<14>")} == {
        f"<14>{transport}: {text}"
        for transport in ("udp", "tcp")
        for text in ("first", "second\nwith more")
    }


def daemon_of(site, **ports):
    """Return the command of the syslog daemon that is there."""
    path = "/usr/sbin:/sbin:/usr/bin"
    if found := shutil.which("rsyslogd", path=path):
        config = site.write("daemon.conf", RSYSLOG.format(**ports))
        return [found, "-n", "-i", "NONE", "-f", config]
    found = shutil.which("syslog-ng", path=path)
    assert found, "no syslog daemon is there; run: apt-get install rsyslog"
    config = site.write("daemon.conf", SYSLOG_NG.format(**ports))
    files = ["-R", "persist", "-p", "pid", "-c", "control"]
    return [found, "-F", "-f", config, *files]


def test_tls_needs_a_certificate_of_the_clients_authority(site):
    for name in ("server", "client"):
        made = f"-keyout {name}.key -out {name}.pem -subj /CN=localhost -days 2 -nodes"
        kind = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -addext subjectAltName=DNS:localhost"
        command = ["openssl", "req", "-x509", *kind.split(), *made.split()]
        subprocess.run(command, cwd=site.folder, check=True, capture_output=True)
    options = ("--cert", "server.pem", "--key", "server.key", "--client-ca", "client.pem")
    with listening(site, "syslog+tls://127.0.0.1:0", options=options) as (process, ports):
        trusting = ssl.create_default_context(cafile=site.folder / "server.pem")
        place = "127.0.0.1", ports["tls"]
        with socket.create_connection(place) as plain:
            stranger = trusting.wrap_socket(plain, server_hostname="localhost")
            with suppress(ssl.SSLError, ConnectionError):  # as good an end
                assert stranger.recv(1) == b""
            stranger.close()
        trusting.load_cert_chain(site.folder / "client.pem", site.folder / "client.key")
        lines = 30_000
        with socket.create_connection(place) as plain:
            known = trusting.wrap_socket(plain, server_hostname="localhost")
            known.sendall(b"14 <13>app: hello" * lines)
            known.close()  # without having read anything
        site.seen(lambda stats: stats.waiting == lines)
        printed = site.end(process)
    assert f"{lines:,} lines put" in printed
    assert "1 TLS handshake failed" in printed


def test_what_was_read_is_put_when_it_is_asked_to_end(site):
    text = b"<13>Nov 27 10:00:00 host app: one\n" * 20_000 + b"<13>without an end"
    with (
        listening(site, "syslog+tcp://127.0.0.1:0", options=["--work"]) as (process, ports),
        socket.create_connection(("127.0.0.1", ports["tcp"])) as sender,
    ):
        sender.sendall(text)
        printed = site.end(process)
    assert "20,001 lines put" in printed
    site.etl("work", "--drain")
    site.settled(done=20_001)
