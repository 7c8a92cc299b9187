"""What formats find in hand-written lines, in real files, and in loghub's samples."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etl.errors import FormatError
from etl.formats import FORMATS, detect, get_format, normalise, parse
from etl.formats.about import ABOUT
from etl.formats.keyed import MAX_KEYS

LOGHUB = Path(__file__).parents[3] / "shared" / "data" / "loghub"
DATA = Path(__file__).parents[2] / "data"
needs_loghub = pytest.mark.skipif(
    not LOGHUB.is_dir(), reason="the loghub samples are not here: ../shared/data/loghub"
)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NORMAL = ["timestamp", "level", "logger", "pid", "message"]


def frame(*lines: str | None) -> pl.DataFrame:
    return pl.DataFrame({"line": pl.Series(lines, dtype=pl.String)})


def fields(line: str, spec: str | None = None) -> dict[str, object]:
    """Parse and normalise one line; nulls and our own columns left out."""
    got = normalise(parse(frame(line), spec), now=NOW).row(0, named=True)
    assert got.pop("_fits"), f"{line!r} does not fit {spec}"
    del got["line"]
    return {name: value for name, value in got.items() if value is not None}


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


EXAMPLES = [
    (
        "nginx_access",
        '10.1.2.3 - ann [21/Nov/2026:10:00:00 +0100] "GET /a?b=1 HTTP/2.0" 503 - "-" "cu \\"rl\\""',
        {
            "timestamp": at(2026, 11, 21, 9), "level": "ERROR", "client": "10.1.2.3",
            "user": "ann", "method": "GET", "url": "/a?b=1", "protocol": "HTTP/2.0",
            "status": 503, "agent": 'cu \\"rl\\"',
        },
    ),
    (
        "nginx_access",
        '::1 - - [21/Nov/2026:10:00:00 +0000] "\\x16\\x03\\x01" 400 157',
        {
            "timestamp": at(2026, 11, 21, 10), "level": "WARNING", "client": "::1",
            "url": "\\x16\\x03\\x01", "status": 400, "bytes": 157,
        },
    ),
    (
        "apache_error",
        ("[Sat Nov 21 10:00:00.250000 2026] [proxy:error] [pid 12:tid 139876543210] "
        "[client 10.0.0.9:4711] AH01114: no backend"),
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "ERROR",
            "logger": "proxy", "pid": 12, "tid": 139876543210, "client": "10.0.0.9:4711",
            "message": "[client 10.0.0.9:4711] AH01114: no backend",
        },
    ),
    (
        "apache_error",
        ("[Sat Nov 21 10:00:00.250000 2026] [core:error] [pid 12:tid 34] "
        "(13)Permission denied: [client 10.0.0.9:4711] AH00132: file permissions"),
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "ERROR",
            "logger": "core", "pid": 12, "tid": 34, "client": "10.0.0.9:4711",
            "message": "(13)Permission denied: [client 10.0.0.9:4711] AH00132: file permissions",
        },
    ),
    (
        "apache_error",
        ("[Sat Nov 21 10:00:00.250000 2026] [ssl:debug] [pid 12] ssl_engine_io.c(2112): "
        "(70014)End of file found: [client ::1] AH02007: low"),
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "DEBUG",
            "logger": "ssl", "pid": 12, "client": "::1",
            "message": (
                "ssl_engine_io.c(2112): (70014)End of file found: [client ::1] AH02007: low"
            ),
        },
    ),
    (
        "apache_error",
        "[Sat Nov 21 10:00:00 2026] [crit] [odd] out of rope",
        {"timestamp": at(2026, 11, 21, 10), "level": "CRITICAL", "message": "[odd] out of rope"},
    ),
    (
        "nginx_error",
        "2026/11/21 10:00:00 [emerg] 7#8: *99 bind() failed",
        {
            "timestamp": at(2026, 11, 21, 10), "level": "CRITICAL", "pid": 7, "tid": 8,
            "level_text": "emerg", "connection": 99, "message": "bind() failed",
        },
    ),
    (
        "postgres",
        "2026-11-21 10:00:00.125 GMT [77] app@shop HINT:  try again",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 125_000), "level": "INFO", "pid": 77,
            "level_text": "HINT", "user": "app", "database": "shop", "message": "try again",
        },
    ),
    (
        "postgres",
        "2026-11-21 10:00:00 UTC:[local]:app@shop:[77]: NOTICE:  no tide",
        {
            "timestamp": at(2026, 11, 21, 10), "level": "INFO", "level_text": "NOTICE",
            "client": "[local]", "user": "app", "database": "shop", "pid": 77,
            "message": "no tide",
        },
    ),
    (
        "postgres",
        "2026-11-21 10:00:00.125 UTC:::1(4711):app@shop:[77]:NOTICE: no tide",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 125_000), "level": "INFO",
            "level_text": "NOTICE", "client": "::1(4711)", "user": "app", "database": "shop",
            "pid": 77, "message": "no tide",
        },
    ),
    (
        "postgres",
        "2026-11-21 10:00:00 UTC::@:[77]: NOTICE: no tide",
        {
            "timestamp": at(2026, 11, 21, 10), "level": "INFO", "level_text": "NOTICE", "pid": 77,
            "message": "no tide",
        },
    ),
    (
        "postgres",
        "2026-11-21 10:00:00.125 UTC [77] PANIC:  no log",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 125_000), "level": "CRITICAL",
            "level_text": "PANIC", "pid": 77, "message": "no log",
        },
    ),
    (
        "redis",
        "5:M 01 Feb 2026 10:00:00.007 . 3 clients",
        {
            "timestamp": at(2026, 2, 1, 10, 0, 0, 7000), "level": "DEBUG", "pid": 5,
            "role": "M", "message": "3 clients",
        },
    ),
    (
        "redis",
        "5:signal-handler (1795255200) Received SIGTERM scheduling shutdown...",
        {
            "timestamp": at(2026, 11, 21, 10), "pid": 5, "role": "signal-handler",
            "message": "Received SIGTERM scheduling shutdown...",
        },
    ),
    (
        "dpkg",
        "2026-11-21 10:00:00 upgrade tree:amd64 2.0-1 2.1-1",
        {
            "timestamp": at(2026, 11, 21, 10), "message": "upgrade tree:amd64 2.0-1 2.1-1",
            "action": "upgrade", "package": "tree:amd64", "version": "2.1-1",
            "old_version": "2.0-1",
        },
    ),
    (
        "dpkg",
        "2026-11-21 10:00:00 configure tree:amd64 2.1-1 <none>",
        {
            "timestamp": at(2026, 11, 21, 10), "action": "configure", "package": "tree:amd64",
            "version": "2.1-1", "message": "configure tree:amd64 2.1-1 <none>",
        },
    ),
    (
        "dpkg",
        "2026-11-21 10:00:00 trigproc tree:amd64 2.1-1",
        {
            "timestamp": at(2026, 11, 21, 10), "action": "trigproc", "package": "tree:amd64",
            "version": "2.1-1", "message": "trigproc tree:amd64 2.1-1",
        },
    ),
    (
        "python",
        "2026-11-21 10:00:00,123 WARNING shop.cart: three: items",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 123_000), "level": "WARNING",
            "logger": "shop.cart", "message": "three: items",
        },
    ),
    (
        "python",
        "2026-11-21 10:00:00,123 - shop - CRITICAL - on - fire",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 123_000), "level": "CRITICAL",
            "logger": "shop", "message": "on - fire",
        },
    ),
    ("python", "ERROR:root:x:y", {"level": "ERROR", "logger": "root", "message": "x:y"}),
    (
        "log4j",
        "2026-11-21 10:11:12,345 INFO  [main] com.example.Job - a - b",
        {
            "timestamp": at(2026, 11, 21, 10, 11, 12, 345_000), "level": "INFO",
            "logger": "com.example.Job", "message": "a - b", "thread": "main",
        },
    ),
    (
        "log4j",
        "2026-11-21T10:11:12.345Z  WARN 42 --- [app] [  main] c.e.Web   : slow",
        {
            "timestamp": at(2026, 11, 21, 10, 11, 12, 345_000), "level": "WARNING",
            "logger": "c.e.Web", "pid": 42, "message": "slow", "thread": "main", "app": "app",
        },
    ),
    (
        "log4j",
        "26/11/21 10:11:12 FATAL exec.Run: gone",
        {
            "timestamp": at(2026, 11, 21, 10, 11, 12), "level": "CRITICAL",
            "logger": "exec.Run", "message": "gone",
        },
    ),
    (
        "syslog3164",
        "<11>Nov  2 10:00:00 web cron[9]: done",
        {
            "timestamp": at(2026, 11, 2, 10), "level": "ERROR", "pid": 9, "message": "done",
            "host": "web", "app": "cron", "logger": "cron", "facility": 1,
        },
    ),
    (
        "syslog3164",
        "2026-11-02T10:00:00.5+02:00 web last message repeated",
        {
            "timestamp": at(2026, 11, 2, 8, 0, 0, 500_000), "host": "web",
            "message": "last message repeated",
        },
    ),
    (
        "syslog5424",
        '<165>1 2026-11-21T10:00:00.003Z web evt - ID47 [a@1 k="v\\"]"][b] \ufeffhi',
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 3000), "level": "INFO", "message": "hi",
            "host": "web", "app": "evt", "logger": "evt", "msgid": "ID47",
            "data": '[a@1 k="v\\"]"][b]',
            "facility": 20, "level_text": "notice",
        },
    ),
    (
        "cri",
        "2026-11-21T10:00:00.123456789Z stderr F 2 boats left",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 123_456), "stream": "stderr", "flags": "F",
            "message": "2 boats left",
        },
    ),
    (
        "otlp",
        '{"timeUnixNano":"1764201600500000001","severityNumber":17,"body":"harbour shut"}',
        {
            "timestamp": at(2025, 11, 27, 0, 0, 0, 500_000), "level": "ERROR",
            "message": "harbour shut", "severityNumber": 17,
            "timeUnixNano": 1_764_201_600_500_000_001,
        },
    ),
    (
        "docker",
        '{"log":"harbour open\\n","stream":"stdout","time":"2026-11-21T10:00:00.5Z"}',
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 500_000), "stream": "stdout",
            "message": "harbour open",
        },
    ),
    ("compose", "pier-1  | harbour open", {"container": "pier-1", "message": "harbour open"}),
    (
        "kubectl",
        "[pod/pier-7d4/boat] harbour open",
        {"pod": "pier-7d4", "container": "boat", "message": "harbour open"},
    ),
    (
        "heroku",
        "2026-11-21T10:00:00.5+00:00 app[web.2]: harbour open",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 500_000), "app": "app", "dyno": "web.2",
            "logger": "app", "message": "harbour open",
        },
    ),
    (
        "haproxy",
        ('10.0.0.7:4000 [21/Nov/2026:10:00:00.250] front pier/boat1 1/0/2/3/6 503 88 - - SC-- '
        '4/3/2/1/0 0/0 "GET /tide HTTP/1.1"'),
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "ERROR",
            "client": "10.0.0.7:4000", "frontend": "front", "backend": "pier", "server": "boat1",
            "timers": "1/0/2/3/6", "status": 503, "bytes": 88, "cookies": "- -", "state": "SC--",
            "counts": "4/3/2/1/0", "queues": "0/0", "rest": '"GET /tide HTTP/1.1"',
        },
    ),
    (
        "squid",
        "1795255200.500   12 10.0.0.7 TCP_HIT/404 88 GET http://pier.example/ - NONE/- text/html",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 500_000), "level": "WARNING",
            "duration": "12", "client": "10.0.0.7", "result": "TCP_HIT", "status": 404,
            "bytes": 88, "method": "GET", "url": "http://pier.example/", "hierarchy": "NONE/-",
            "content_type": "text/html",
        },
    ),
    (
        "envoy",
        '[2026-11-21T10:00:00.250Z] "POST /tide HTTP/2" 200 UF via_upstream - "-" 7 88 3 "-" "x"',
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "INFO", "method": "POST",
            "url": "/tide", "protocol": "HTTP/2", "status": 200, "flags": "UF",
            "details": 'via_upstream - "-"',
            "received": "7", "bytes": 88, "rest": '3 "-" "x"',
        },
    ),
    (
        "aws_alb",
        ('h2 2026-11-21T10:00:00.250000Z app/pier/1 10.0.0.7:40 10.0.0.8:80 0.1 0.2 0.3 502 - 7 88 '
        '"GET https://pier.example:443/ HTTP/2.0" "curl/8" - -'),
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "ERROR", "type": "h2",
            "elb": "app/pier/1", "client": "10.0.0.7:40", "target": "10.0.0.8:80",
            "timers": "0.1 0.2 0.3", "status": 502, "received": "7", "bytes": 88,
            "method": "GET", "url": "https://pier.example:443/", "protocol": "HTTP/2.0",
            "rest": '"curl/8" - -',
        },
    ),
    (
        "aws_s3",
        (f'{"0a" * 32} boats [21/Nov/2026:10:00:00 +0000] 10.0.0.7 - 4E7 REST.GET.OBJECT pier.jpg '
        '"GET /pier.jpg HTTP/1.1" 200 - 88 88 3 2 "-" "curl/8" -'),
        {
            "timestamp": at(2026, 11, 21, 10), "level": "INFO", "owner": "0a" * 32,
            "bucket": "boats", "client": "10.0.0.7", "request_id": "4E7",
            "operation": "REST.GET.OBJECT", "key": "pier.jpg",
            "request": "GET /pier.jpg HTTP/1.1", "status": 200, "bytes": 88,
            "rest": '88 3 2 "-" "curl/8" -',
        },
    ),
    (
        "mysql_error",
        "2026-11-21T10:00:00.250000Z 8 [Warning] [MY-010099] [Server] low tide",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "WARNING", "thread": "8",
            "code": "MY-010099", "logger": "Server", "message": "low tide",
        },
    ),
    (
        "mysql_slow",
        ("# Time: 2026-11-21T10:00:00.250000Z\n# User@Host: ann[ann] @ pier []  Id:     8\n"
        "# Query_time: 3.5  Lock_time: 0.1 Rows_sent: 1\nSET timestamp=1795255200;\nselect 1;"),
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "user": "ann[ann] @ pier []",
            "connection": 8, "duration": "3.5", "ts": "1795255200",
            "rest": " Lock_time: 0.1 Rows_sent: 1",
            "message": "SET timestamp=1795255200;\nselect 1;",
        },
    ),
    (
        "mongodb",
        "2026-11-21T10:00:00.250+0100 W STORAGE  [conn7] low tide",
        {
            "timestamp": at(2026, 11, 21, 9, 0, 0, 250_000), "level": "WARNING",
            "logger": "STORAGE", "thread": "conn7", "message": "low tide",
        },
    ),
    (
        "postgres_csv",
        ('2026-11-21 10:00:00.250 UTC,"ann","pier",77,"[local]",6a.1,1,"SELECT",'
        "2026-11-21 09:00:00 UTC,3/1,0,FATAL,57P01,low tide,,,,,,,,,psql"),
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "CRITICAL",
            "user_name": "ann", "database_name": "pier", "pid": 77, "message": "low tide",
            "connection_from": "[local]", "session_id": "6a.1", "session_line_num": "1",
            "command_tag": "SELECT", "session_start_time": "2026-11-21 09:00:00 UTC",
            "virtual_transaction_id": "3/1", "transaction_id": "0", "sql_state_code": "57P01",
            "application_name": "psql",
        },
    ),
    (
        "auditd",
        "type=USER_LOGIN msg=audit(1795255200.250:99): pid=77 uid=0 res=failed",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "type": "USER_LOGIN",
            "event_id": "99", "pid": 77, "message": "pid=77 uid=0 res=failed",
        },
    ),
    (
        "kernel",
        "[   12.345678] usb 1-1: low tide",
        {"uptime": "12.345678", "message": "usb 1-1: low tide"},
    ),
    (
        "logcat",
        "11-21 10:00:00.250   77    78 F Tide: low: now",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "CRITICAL", "pid": 77,
            "tid": 78, "logger": "Tide", "message": "low: now",
        },
    ),
    (
        "logcat",
        "W/Tide (  77): low",
        {"level": "WARNING", "pid": 77, "logger": "Tide", "message": "low"},
    ),
    (
        "glog",
        "W1121 10:00:00.250000      77 tide.cc:9] low",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "WARNING", "pid": 77,
            "caller": "tide.cc:9", "message": "low",
        },
    ),
    (
        "chromium",
        "[77:78:1121/100000.250000:ERROR:tide.cc(9)] low",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "ERROR", "pid": 77,
            "tid": 78, "caller": "tide.cc(9)", "message": "low",
        },
    ),
    ("syslog_pri", "<14>low tide", {"level": "INFO", "facility": 1, "message": "low tide"}),
    (
        "ruby",
        "F, [2026-11-21T10:00:00.250000 #77] FATAL -- Tide: low",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "CRITICAL", "pid": 77,
            "logger": "Tide", "message": "low",
        },
    ),
    (
        "dotnet_console",
        "fail: Pier.Tide[9]\n      low",
        {"level": "ERROR", "logger": "Pier.Tide", "event_id": "9", "message": "low"},
    ),
    (
        "websphere",
        "[11/21/26 10:00:00:250 UTC] 0000002a Tide          A TIDE0001I: low",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "INFO",
            "thread": "0000002a", "logger": "Tide", "message": "TIDE0001I: low",
        },
    ),
    (
        "jul",
        "Nov 21, 2026 10:00:00 PM com.example.Tide run\nSEVERE: low",
        {
            "timestamp": at(2026, 11, 21, 22), "level": "ERROR", "level_text": "SEVERE",
            "logger": "com.example.Tide", "method": "run", "message": "low",
        },
    ),
    (
        "oslo",
        "2026-11-21 10:00:00.250 77 WARNING pier.tide [req-7 ann - -] low",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "WARNING", "pid": 77,
            "logger": "pier.tide", "request": "req-7 ann - -", "message": "low",
        },
    ),
    (
        "cisco",
        "Nov 21 2026 10:00:00 gate : %ASA-4-106023: Deny tcp",
        {
            "timestamp": at(2026, 11, 21, 10), "level": "WARNING", "device": "gate",
            "logger": "ASA", "mnemonic": "106023", "message": "Deny tcp",
        },
    ),
    (
        "cef",
        "CEF:0|Pier|Gate|2.1|77|low tide|9|src=10.0.0.7 msg=boats wait here act=drop",
        {
            "level": "CRITICAL", "cef_version": "0", "vendor": "Pier", "product": "Gate",
            "product_version": "2.1", "event_id": "77", "cef_name": "low tide",
            "extension": "src=10.0.0.7 msg=boats wait here act=drop", "src": "10.0.0.7",
            "cef_severity": "9",
            "message": "boats wait here", "act": "drop",
        },
    ),
    (
        "leef",
        "LEEF:1.0|Pier|Gate|2.1|77|devTime=Nov 21 2026 10:00:00\tsev=5\tusrName=ann",
        {
            "timestamp": at(2026, 11, 21, 10), "level": "WARNING", "leef_version": "1.0",
            "vendor": "Pier", "product": "Gate", "product_version": "2.1", "event_id": "77",
            "extension": "devTime=Nov 21 2026 10:00:00\tsev=5\tusrName=ann", "usrName": "ann",
        },
    ),
    (
        "php",
        "[21-Nov-2026 10:00:00 Europe/Berlin] PHP Fatal error:  low tide",
        {
            "timestamp": at(2026, 11, 21, 9), "level": "CRITICAL", "level_text": "Fatal error",
            "message": "low tide",
        },
    ),
    (
        "erlang",
        "=ERROR REPORT==== 1-Nov-2026::10:00:00 ===\nlow tide",
        {"timestamp": at(2026, 11, 1, 10), "level": "ERROR", "message": "low tide"},
    ),
    (
        "samba",
        "[2026/11/21 10:00:00.250000,  1] ../source3/tide.c:9(low)\n  low tide",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "verbosity": "1",
            "caller": "../source3/tide.c:9", "function": "low", "message": "low tide",
        },
    ),
    (
        "db2diag",
        "2026-11-21-10.00.00.250000+060 I9A1   LEVEL: Severe\nPID : 77  TID : 8\nMESSAGE : low",
        {
            "timestamp": at(2026, 11, 21, 9, 0, 0, 250_000), "level": "ERROR", "pid": 77,
            "level_text": "Severe", "record": "I9A1", "message": "PID : 77  TID : 8\nMESSAGE : low",
        },
    ),
    (
        "nagios",
        "[1795255200] HOST ALERT: pier;DOWN;HARD;1;low",
        {
            "timestamp": at(2026, 11, 21, 10), "event": "HOST ALERT",
            "message": "HOST ALERT: pier;DOWN;HARD;1;low",
        },
    ),
    (
        "kafka",
        "[2026-11-21 10:00:00,250] WARN [Pier id=7] low (pier.tide.Gauge)\njava.lang.Error: x",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "WARNING",
            "logger": "pier.tide.Gauge", "message": "[Pier id=7] low\njava.lang.Error: x",
        },
    ),
    (
        "redis",
        "[5] 21 Nov 10:00:00.007 # low",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 7000), "level": "WARNING", "pid": 5,
            "message": "low",
        },
    ),
    (
        "jvm",
        "[2026-11-21T10:00:00.250+0100][0.005s][info][gc,start    ] GC(0) Pause Young",
        {
            "timestamp": at(2026, 11, 21, 9, 0, 0, 250_000), "uptime": "0.005s", "level": "INFO",
            "logger": "gc,start", "message": "GC(0) Pause Young",
        },
    ),
    (
        "jvm",
        "[2026-11-21T10:00:00.250+0000][77][8][error  ][nmt] no tide",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "ERROR", "pid": 77, "tid": 8,
            "logger": "nmt", "message": "no tide",
        },
    ),
    (
        "jvm",
        "[12,045s][warning][class,load]   low: now",
        {
            "uptime": "12,045s", "level": "WARNING", "logger": "class,load",
            "message": "  low: now",
        },
    ),
    (
        "stunnel",
        "2026.11.21 10:00:00 LOG3[12]: low",
        {
            "timestamp": at(2026, 11, 21, 10), "level": "ERROR", "thread": "12", "message": "low",
        },
    ),
    (
        "npm",
        "7 verbose stack low",
        {
            "sequence": "7", "level": "DEBUG", "level_text": "verbose", "message": "stack low",
        },
    ),
    (
        "mssql",
        "2026-11-21 10:00:00.25 spid9s      Tide is low.",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "source": "spid9s",
            "message": "Tide is low.",
        },
    ),
    (
        "supervisor",
        "2026-11-21 10:00:00,250 CRIT Supervisor is low",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "CRITICAL",
            "message": "Supervisor is low",
        },
    ),
    (
        "supervisor",
        "2026-11-21 10:00:00,250 INFO spawned: 'tide' with pid 77",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "INFO",
            "message": "spawned: 'tide' with pid 77",
        },
    ),
    (
        "esp_idf",
        "W (1234) tide: low",
        {"level": "WARNING", "uptime": "1234", "logger": "tide", "message": "low"},
    ),
    (
        "dotnet_trace",
        "Pier.exe Error: 7 : low\n    DateTime=2026-11-21T10:00:00.25Z\n    Id=9",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "ERROR",
            "logger": "Pier.exe", "event_id": "7", "message": "low", "rest": "\n    Id=9",
        },
    ),
    (
        "syslog3164",
        "Nov 21 10:00:00 pier kern.warn tided[77]: low",
        {
            "timestamp": at(2026, 11, 21, 10), "level": "WARNING", "host": "pier", "app": "tided",
            "logger": "tided", "pid": 77, "message": "low",
        },
    ),
    (
        "sanitizer",
        "==77==ERROR: AddressSanitizer: low\nREAD of size 4",
        {"level": "ERROR", "pid": 77, "message": "AddressSanitizer: low\nREAD of size 4"},
    ),
    (
        "ossec",
        ("** Alert 1795255200.99: - tide,\n2026 Nov 21 10:00:00 pier->/a\n"
        "Rule: 7 (level 3) -> 'low'"),
        {
            "timestamp": at(2026, 11, 21, 10), "alert": "99", "flags": "- tide,", "rule": "7",
            "origin": "2026 Nov 21 10:00:00 pier->/a", "rule_level": "3",
            "message": "Rule: 7 (level 3) -> 'low'",
        },
    ),
    (
        "xml",
        ('<log4j:event logger="pier" timestamp="1795255200250" level="WARN" thread="main">\n'
        "<log4j:message><![CDATA[low]]></log4j:message>\n</log4j:event>"),
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "WARNING",
            "logger": "pier", "thread": "main", "message": "low", "rest": "</log4j:event>",
        },
    ),
    (
        "xml",
        ("<record>\n <date>2026-11-21T10:00:00</date>\n <sequence>7</sequence>\n"
        " <logger>pier</logger>\n <level>WARNING</level>\n <thread>1</thread>\n"
        " <message>low</message>\n</record>"),
        {
            "timestamp": at(2026, 11, 21, 10), "level": "WARNING",
            "sequence": "7", "logger": "pier", "rest": "<thread>1</thread>\n ",
            "message": "low</record>",
        },
    ),
    (
        "xml",
        ("<Event xmlns='x'><System><Provider Name='Tide'/><EventID>7</EventID><Level>2</Level>"
        "<Task>0</Task><TimeCreated SystemTime='2026-11-21T10:00:00.25Z'/></System></Event>"),
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "ERROR",
            "logger": "Tide", "rest": " xmlns='x'", "details": "/><EventID>7</EventID>",
            "about": "<Task>0</Task>", "message": "</System></Event>",
        },
    ),
    (
        "aws_vpc",
        "2 123456789012 eni-1a 10.0.0.4 10.0.0.5 4711 80 6 20 4249 1795255200 1795255260 REJECT OK",
        {
            "timestamp": at(2026, 11, 21, 10), "version": "2", "account": "123456789012",
            "interface": "eni-1a", "source": "10.0.0.4", "destination": "10.0.0.5",
            "source_port": "4711", "destination_port": "80", "protocol": "6", "packets": "20",
            "bytes": 4249, "end": "1795255260", "action": "REJECT", "log_status": "OK",
        },
    ),
    (
        "block",
        ("__CURSOR=s\n__REALTIME_TIMESTAMP=1795255200250000\nPRIORITY=4\n_PID=77\n"
        "MESSAGE=low = now"),
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "WARNING", "pid": 77,
            "field__CURSOR": "s", "message": "low = now",
        },
    ),
    (
        "block",
        ("Log Name:      System\nSource:        Tide\nDate:          11/21/2026 10:00:00 AM\n"
        "Level:         Warning\nDescription:\nlow\nAt:  now"),
        {
            "timestamp": at(2026, 11, 21, 10), "level": "WARNING", "Log Name": "System",
            "Source": "Tide", "message": "low\nAt:  now",
        },
    ),
    (
        "block",
        ("Sat 2026-11-21 10:00:00.250000 UTC [s=a;i=1]\n    PRIORITY=3\n    MESSAGE=low\n"
        "    _PID=77"),
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "ERROR", "pid": 77,
            "cursor": "s=a;i=1", "message": "low",
        },
    ),
    (
        "xorg",
        "[    12.345] (EE) no tide",
        {"uptime": "12.345", "level": "ERROR", "message": "no tide"},
    ),
    (
        "macos",
        "2026-11-21 10:00:00.250000+0100 0x2a  Fault   0x0   77   0    tided: (low) now",
        {
            "timestamp": at(2026, 11, 21, 9, 0, 0, 250_000), "level": "CRITICAL", "pid": 77,
            "level_text": "Fault", "thread": "0x2a", "activity": "0x0", "ttl": "0",
            "logger": "tided", "message": "(low) now",
        },
    ),
    (
        "zap",
        "2026-11-21T10:00:00.250Z\tDPANIC\tpier.tide\ttide.go:9\tlow\t{}",
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "level": "CRITICAL",
            "level_text": "DPANIC", "logger": "pier.tide", "caller": "tide.go:9",
            "message": "low\t{}",
        },
    ),
    (
        "gin",
        '[GIN] 2026/11/21 - 10:00:00 | 404 |   1.5ms |   10.0.0.7 | GET      "/tide"',
        {
            "timestamp": at(2026, 11, 21, 10), "level": "WARNING", "status": 404,
            "duration": "1.5ms", "client": "10.0.0.7", "method": "GET", "url": "/tide",
        },
    ),
    (
        "zabbix",
        "    77:20261121:100000.250 low tide",
        {"timestamp": at(2026, 11, 21, 10, 0, 0, 250_000), "pid": 77, "message": "low tide"},
    ),
    ("generic", "21.11.2026 10:00:00 [WARN] low tide now", {
        "timestamp": at(2026, 11, 21, 10), "level": "WARNING", "message": "low tide now",
    }),
    (
        "json",
        '{"ts": 1795255200.5, "severity": "warn", "name": "a.b", "msg": "hi", "n": [1, {"k": 2}]}',
        {
            "timestamp": at(2026, 11, 21, 10, 0, 0, 500_000), "level": "WARNING",
            "logger": "a.b", "message": "hi", "n": '[1, {"k": 2}]',
        },
    ),
    (
        "logfmt",
        'ts=1795255200000 level=debug msg="say \\"hi\\"\\n" status=200 url=/a?b=c',
        {
            "timestamp": at(2026, 11, 21, 10), "level": "DEBUG", "message": 'say "hi"\n',
            "status": 200, "url": "/a?b=c",
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "line", "expected"), EXAMPLES)
def test_a_line_gives_its_fields_and_is_detected(
    name: str, line: str, expected: dict[str, object]
) -> None:
    assert fields(line) == expected | {"format": name}
    assert fields(line, name) == expected | {"format": name}


def test_every_format_has_an_example() -> None:
    headed = {"csv", "w3c", "zeek"}  # and not of one line: see test_formats_heads.py
    assert {name for name, _, _ in EXAMPLES} == set(FORMATS) - {"apache_access", *headed}
    assert FORMATS["apache_access"].patterns == FORMATS["nginx_access"].patterns


def test_no_format_accepts_another_ones_lines() -> None:
    for name, line, _ in EXAMPLES:
        accepted = {other for other, form in FORMATS.items() if form.accepts(line)}
        same = {"nginx_access", "apache_access"} if name == "nginx_access" else {name}
        same |= {"json"} if name in ("docker", "otlp") else set()  # are JSON, and asked first
        assert accepted == same - {"generic"}, line
        for other in accepted:
            assert get_format(other).read(pl.Series([line]))["_fits"].all()


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_frame_has_the_normal_columns(name: str) -> None:
    got = normalise(parse(frame(), name))
    assert got.columns[: 3 + len(NORMAL)] == ["line", "_fits", "format", *NORMAL]
    assert got.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert normalise(parse(frame())).is_empty()


BY_PATTERNS = sorted({name for name, *_ in EXAMPLES if FORMATS[name].patterns})


def test_the_page_on_formats_has_what_writes_each_of_them() -> None:
    page = (DATA.parent / "docs" / "formats.md").read_text(encoding="utf-8")
    assert set(ABOUT) == set(FORMATS)
    rows = [line for line in page.split("\n") if line.startswith("| `")]
    assert rows == [f"| `{name}` | {about} |" for name, about in ABOUT.items()]


@pytest.mark.parametrize("name", BY_PATTERNS)
def test_columns_do_not_depend_on_which_variant_a_line_has(name: str) -> None:
    lines = [line for known, line, _ in EXAMPLES if known == name]
    schemas = {tuple(normalise(parse(frame("?", x), name)).schema.items()) for x in lines}
    assert len(schemas) == 1


@pytest.mark.parametrize(
    ("word", "level"),
    [
        ("notice", "INFO"), ("Warn", "WARNING"), ("err", "ERROR"), ("EMERG", "CRITICAL"),
        ("alert", "CRITICAL"), ("panic", "CRITICAL"), ("trace", "DEBUG"), ("DEBUG3", "DEBUG"),
        ("LOG", "INFO"), ("DETAIL", "INFO"), ("*", "INFO"), ("#", "WARNING"), ("V", "DEBUG"),
        ("W", "WARNING"), ("F", "CRITICAL"), ("loud", None),
    ],
)  # fmt: skip
def test_level_words_become_the_five(word: str, level: str | None) -> None:
    assert fields(f"{word} x", "template:{level} {message}").get("level") == level


@pytest.mark.parametrize(
    "head", ["<{}>1 2026-11-21T10:00:00Z h app - - - ", "<{}>", "<{}>[ 1.000000] "]
)
def test_a_severity_that_says_more_than_a_level_is_kept_by_its_name(head: str) -> None:
    names = [fields(f"{head.format(8 + n)}low {n}").get("level_text") for n in range(8)]
    assert names == ["emerg", "alert", None, None, None, "notice", None, None]


def test_the_severity_of_a_priority_gives_no_name_where_another_level_goes_before_it() -> None:
    head = "<13>Nov 21 10:00:00 h app[1]: "
    lines = [f'{head}{{"level": 30, "msg": "low"}}', f'{head}{{"msg": "low"}}', f"{head}ERROR: low"]
    got = normalise(parse(frame(*lines)), now=NOW)
    assert got["level"].to_list() == ["INFO", "INFO", "ERROR"]
    assert got["level_text"].to_list() == [None, "notice", None]
    assert got["pri_severity"].to_list() == ["5", None, "5"]


@pytest.mark.parametrize("letters", ["V", "VRB", "T", "TRC", "N"])
def test_short_names_that_say_more_than_their_level_are_kept(letters: str) -> None:
    assert fields(f"{letters} x", "template:{level} {message}")["level_text"] == letters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21 10:00:00", at(2026, 11, 21, 10)),
        ("2026-11-21T10:00:00.123456+05:30", at(2026, 11, 21, 4, 30, 0, 123456)),
        ("2026-11-21 10:00:00 UTC", at(2026, 11, 21, 10)),
        ("Dec 31 10:00:00", at(2025, 12, 31, 10)),
        ("Nov 22 10:00:00", at(2026, 11, 22, 10)),
        ("Feb 29 10:00:00", at(2024, 2, 29, 10)),
        ("2026-02-30 10:00:00", None),
        ("soon", None),
    ],
)
def test_times_in_common_layouts_are_read_as_utc(text: str, expected: datetime | None) -> None:
    assert fields(f"[{text}] x", "template:[{timestamp}] {message}").get("timestamp") == expected


def test_layouts_may_change_within_a_frame() -> None:
    times = ["2026-11-21T10:00:00Z", "soon", "1795255200", "21/Nov/2026:10:00:00 +0000", None] * 40
    got = normalise(parse(frame(*(json.dumps({"ts": t}) for t in times)), "json"))
    ten = at(2026, 11, 21, 10)
    assert got["timestamp"].to_list() == [ten, None, ten, ten, None] * 40
    assert got["ts"].drop_nulls().unique().to_list() == ["soon"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("apache_eror", "unknown format 'apache_eror'; did you mean 'apache_error'?"),
        ("nginx", "unknown format 'nginx'; did you mean 'nginx_access' or 'nginx_error'?"),
        ("Apache", "did you mean 'apache_access' or 'apache_error'?"),
        ("access", "did you mean 'nginx_access' or 'apache_access'?"),
        ("mariadb", "did you mean 'mysql_error' or 'mysql_slow'?"),
        ("rust-tracing", "did you mean 'json'?"),
        ("log4net", "did you mean 'log4j'?"),
        ("regex:a(?P<x>[", "unclosed character class"),
        ("regex:(?=a)(?P<x>b)", "look-around"),
        ("regex:(a)b", "named groups"),
        ("regex:", "named groups"),
        ("template:no fields", "{fields} of different names"),
        ("template:{a}{b}", "text between them"),
        ("template:{a} {a}", "of different names"),
        ("template:{a", "write a brace as {{ or }}"),
        ("template:{a:>3} {b}", "{fields} of different names"),
        ("template:{a.b} {c}", "{fields} of different names"),
    ],
)
def test_a_bad_spec_says_what_is_wrong(spec: str, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        get_format(spec)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_regex_may_search_and_alternate() -> None:
    assert fields("id=7 ok", "regex:id=(?P<id>[0-9]+)|(?P<never>never)")["id"] == "7"


def test_a_line_fits_even_if_all_its_groups_are_null() -> None:
    assert parse(frame("x", "y"), "regex:^x(?P<a>a)?$")["_fits"].to_list() == [True, False]


def test_templates_keep_braces_runs_of_blanks_and_the_last_fields_own() -> None:
    got = fields("{7}  INFO   a b:   x ", "template:{{{pid}}} {level} {who}: {message}")
    assert got | {"format": ""} == {
        "format": "", "pid": 7, "level": "INFO", "who": "a b", "message": "  x ",
    }  # fmt: skip


WORDS = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(WORDS, WORDS, st.integers(0, 10**9), TEXTS)
def test_a_template_finds_what_was_filled_in(a: str, b: str, pid: int, text: str) -> None:
    line = f"{a} {b} [{pid}] {text}"
    got = parse(frame(line), "template:{first} {second} [{pid}] {rest}").row(0)
    assert got[3:] == (a, b, str(pid), text)


@example({"\0twice": None})  # what a reader once kept under a key of its own
@example({"*": None, "^a$": "x", "a": "y"})  # to Polars, names that stand for several columns
@given(st.dictionaries(TEXTS, TEXTS | st.integers() | st.none() | st.lists(TEXTS), max_size=6))
def test_json_values_come_back(data: dict[str, object]) -> None:
    got = get_format("json").read(pl.Series([json.dumps(data)]))
    texts = [v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False)
             for v in data.values()]  # fmt: skip
    assert got["_fits"].all()
    assert sorted(map(str, got.row(0)[2:])) == sorted(map(str, texts))


@example({"a": " msg=audit(", "b": ""})
@given(st.dictionaries(st.from_regex(r"\A[a-z]{1,5}\Z"), TEXTS, min_size=2))
def test_logfmt_values_come_back(data: dict[str, str]) -> None:
    def quoted(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'

    line = " ".join(f"{key}={quoted(value)}" for key, value in data.items())
    got = get_format("logfmt").read(pl.Series([line])).row(0, named=True)
    assert got.pop("_fits")
    assert got.pop("format") == "logfmt"
    assert got == data


def test_the_lines_own_columns_are_never_touched() -> None:
    line = '{"line": "L", "_row": "R", "source": "S", "format": "F", "_fits": 0, "": "E"}'
    before = pl.DataFrame({"line": [line], "_row": [1], "source": ["file"], "line_number": [9]})
    got = normalise(parse(before, "json"))
    assert got.select(before.columns).equals(before)
    assert got["format"].item() == "json"
    theirs = got.select("line_", "field_row", "source_", "fieldformat", "field_fits", "field")
    assert theirs.row(0) == ("L", "R", "S", "F", 0, "E")
    got = parse(before, "regex:(?P<line>L).*(?P<_row>R)")
    assert got.select("line_", "field_row").row(0) == ("L", "R")


def test_keys_that_differ_by_their_end_are_both_kept() -> None:
    before = frame('{"a": "1", "a_": "2"}').with_columns(a=pl.lit("mine"))
    before = before.select("a", "line")
    got = normalise(parse(before, "json"))
    assert {got[name].item() for name in got.columns if name.startswith("a")} == {"mine", "1", "2"}


def test_normalise_may_run_twice() -> None:
    once = normalise(parse(frame(*(line for _, line, _ in EXAMPLES))), now=NOW)
    assert normalise(once, now=NOW).select(once.columns).equals(once)


def test_json_values_that_do_not_convert_stay_as_text() -> None:
    got = fields(
        '{"ts": "soon", "time": 0.25, "level": "loud", "status": "ok", "pid": "x"}', "json"
    )
    assert got == {
        "format": "json", "ts": "soon", "time": 0.25, "level_text": "loud", "status_text": "ok",
        "pid_text": "x",
    }  # fmt: skip


def test_a_thousand_keys_become_two_hundred_columns_and_a_rest() -> None:
    for name, line in {
        "json": json.dumps({f"k{i}": i for i in range(1000)}),
        "logfmt": " ".join(f"k{i}={i}" for i in range(1000)),
    }.items():
        got = parse(frame(line), name)
        assert got.width == len(["line", "_fits", "format", "rest"]) + MAX_KEYS
        assert len(json.loads(got["rest"].item())) == 1000 - MAX_KEYS


HOSTILE = [
    "", " ", "\0", "{", "[" * 100_000, '{"a":' * 100_000, '{"a": 9', "null",
    '{"a":1} {"b":2}', '{"a":1},{"a":2}', '{"a":NaN', '"', "=", "a=b", "<999999999999>1 x", None,
]  # fmt: skip


@pytest.mark.parametrize("spec", sorted(set(FORMATS) - {"generic"}))
def test_hostile_lines_do_not_fit_and_harm_nobody(spec: str) -> None:
    good = '{"a": 1, "b": "x"}'
    got = normalise(parse(frame(*HOSTILE, good), spec))
    assert not got["_fits"][: len(HOSTILE)].any()
    assert got["_fits"][-1] == (spec == "json")
    assert got["line"].to_list() == [*HOSTILE, good]


@pytest.mark.parametrize("spec", ["generic", "auto"])
def test_hostile_lines_are_generic_where_no_format_is_named(spec: str) -> None:
    got = normalise(parse(frame(*HOSTILE), spec))
    assert got["_fits"].all()
    assert set(got["format"]) == {"generic"}
    assert got["line"].to_list() == HOSTILE


def test_odd_but_valid_json_fits() -> None:
    lines = [
        '{"a": 1, "a": 2}', '{"a": ["\\\\"]}',
        '{"a": 123456789012345678901234567890}', '{"a": "\\ud800"}',
        '{"a": "x\\u0000y"}', ' {"a": "q"}', '{"a": "\u2028"}', '{"a": "\\":null"}', '{"b": 1}',
        "{}",
        '{"a": "' + "x" * 1_000_000 + '"}', '{"a": ' + "9" * 5000 + "}",
    ]  # fmt: skip
    got = parse(frame(*lines), "json")
    assert got["_fits"].all()
    assert got["a"][:10].to_list() == [
        "2", '["\\\\"]', "123456789012345678901234567890", "?", "x\0y", "q", "\u2028", '":null',
        None, None,
    ]  # fmt: skip


def test_keys_that_the_sample_missed_are_found() -> None:
    lines = ['{"a": "x"}'] * 5000
    lines[7] = '{"a": "y", "rare": "z"}'
    got = parse(frame(*lines), "json")
    assert got["rare"].drop_nulls().to_list() == ["z"]
    assert got["a"][7] == "y"


def test_messages_take_everything() -> None:
    rest = "nul \0 sep \u2028 next \n line \x85" + "x" * 1_000_000
    assert fields(f"ERROR:root:{rest}", "python")["message"] == rest
    assert fields(f"7 {rest}", "template:{pid} {message}")["message"] == rest


def test_mixed_lines_keep_their_order_and_get_their_own_format() -> None:
    before = [(name, line) for name, line, _ in EXAMPLES] * 30 + [
        ("generic", "neither"),
        ("generic", ""),
    ]
    before = before[::9] + before[1::9] + before[2::9] + before[3::9]
    got = normalise(parse(frame(*(line for _, line in before))), now=NOW)
    assert got.select("format", "line").rows() == before
    assert got["_fits"].all()
    for (name, line), row in list(zip(before, got.iter_rows(named=True), strict=True))[:40]:
        found = {k: v for k, v in row.items() if v is not None and k not in ("line", "_fits")}
        assert found == fields(line), name


def test_detection_wants_half_of_the_lines_and_skips_blank_ones() -> None:
    good = "ERROR:root:x"
    found = detect(pl.Series([good, "", "  ", "prose"]))
    assert found is FORMATS["python"]
    assert detect(pl.Series([good, "prose", "more prose"])) is None
    assert detect(pl.Series(["", "\t"])) is None
    assert detect(pl.Series([], dtype=pl.String)) is None


def test_normalise_asks_for_parse_first() -> None:
    with pytest.raises(FormatError, match="parse the frame first"):
        normalise(frame("x"))


REAL = {
    "nginx_access.log": "nginx_access", "nginx_error.log": "nginx_error",
    "apache_access.log": "nginx_access", "apache_error.log": "apache_error",
    "postgresql.log": "postgres", "redis.log": "redis", "dpkg.log": "dpkg",
    "syslog.log": "syslog3164", "syslog5424.log": "syslog5424", "python_app.log": "python",
    "service.jsonl": "json", "service.logfmt": "logfmt", "java_app.log": "log4j",
}  # fmt: skip


@pytest.mark.parametrize(("file", "name"), REAL.items())
def test_real_files_are_detected_and_read(file: str, name: str) -> None:
    lines = (DATA / file).read_text("utf-8", errors="replace").split("\n")
    heads = [x for x in lines if x and not x.startswith(("\t", "java.", "Caused by", "com."))]
    found = detect(pl.Series(heads))
    assert found is FORMATS[name]
    got = normalise(parse(frame(*heads), found.name))
    assert got["_fits"].sum() >= 0.95 * len(heads)
    assert got["timestamp"].count() >= 0.95 * len(heads)


TRUTHS = {  # sample: spec, and our raw column for each of its table's
    "Apache": ("apache_error", {"Level": "level"}),
    "HDFS": (
        "log4j",
        {"Pid": "pid", "Level": "level", "Component": "logger", "Content": "message"},
    ),
    "Spark": ("log4j", {"Level": "level", "Component": "logger", "Content": "message"}),
    "OpenSSH": ("syslog3164", {"Component": "host", "Pid": "pid", "Content": "message"}),
    "OpenStack": (
        "template:{logrecord} {date} {time} {pid} {level} {component} [{addr}] {content}",
        {},
    ),
    "Windows": ("template:{date} {time}, {level}  {component}    {content}", {}),
    "Android": ("template:{date} {time}  {pid}  {tid} {level} {component}: {content}", {}),
    "BGL": (
        (
            "template:{label} {timestamp} {date} {node} {time} {noderepeat} {type} {component}"
            " {level} {content}"
        ),
        {},
    ),
    "HDFS ": ("template:{date} {time} {pid} {level} {component}: {content}", {}),
    "Spark ": ("template:{date} {time} {level} {component}: {content}", {}),
}


@needs_loghub
@pytest.mark.parametrize(("sample", "spec", "names"), [(k, *v) for k, v in TRUTHS.items()])
def test_fields_are_those_of_loghubs_tables(sample: str, spec: str, names: dict[str, str]) -> None:
    path = LOGHUB / sample.strip()
    with path.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = path.with_suffix(".log").read_bytes().decode().removesuffix("\n").split("\n")
    got = parse(frame(*(line.removesuffix("\r") for line in lines)), spec)
    assert got["_fits"].all()
    names = names or {k: k.lower() for k in rows[0] if k.lower() in got.columns}
    for theirs, ours in names.items():
        # loghub cut blanks at the ends of lines
        assert [x.rstrip() for x in got[ours].to_list()] == [row[theirs] for row in rows], theirs
    assert normalise(got)["timestamp"].null_count() == 0


@needs_loghub
def test_apache_messages_begin_with_the_client() -> None:
    with (LOGHUB / "Apache.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = (LOGHUB / "Apache.log").read_text("utf-8").splitlines()
    got = normalise(parse(frame(*lines))).rows(named=True)
    for ours, theirs in zip(got, rows, strict=True):
        assert ours["message"] == theirs["Content"]
        assert (ours["client"] or "") in theirs["Content"]
        assert f"{ours['timestamp']:%a %b %d %H:%M:%S %Y}" == theirs["Time"]


def test_the_mark_before_the_first_line_of_a_file_is_no_part_of_its_format():
    line = "\ufeff2026-11-21 23:37:35,340 INFO shop.cart: added"
    frame = pl.DataFrame({"line": [line, line[1:], line]})
    parsed = parse(frame)

    assert parsed["_fits"].to_list() == [True, True, True]
    assert parsed["line"].to_list() == [line, line[1:], line]
    assert parsed["format"].n_unique() == 1
