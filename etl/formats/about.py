"""What writes each format, in words: for `etl formats`, and for the table in docs/formats.md."""

import re
from collections.abc import Mapping

from etl.errors import did_you_mean

__all__ = ["ABOUT", "format_hint"]

MOST = 3
"""Formats that are suggested at once."""

ABOUT: dict[str, str] = {
    "docker": "Docker's json-file driver",
    "otlp": "OpenTelemetry's records, as `POST /v1/logs` puts them",
    "cri": "container runtimes under Kubernetes",
    "compose": "`docker compose logs`",
    "kubectl": "`kubectl logs --prefix`",
    "heroku": "Heroku's log drains",
    "syslog5424": "RFC 5424",
    "syslog3164": "RFC 3164, rsyslog, journalctl, macOS; with a tag or a priority",
    "syslog_pri": "lines with a priority and no more, such as those of firewalls",
    "cisco": "Cisco IOS and ASA",
    "json": (
        "one object a record: ECS, bunyan, pino, zap, zerolog, log4j2, logstash, CLEF, "
        "Serilog, .NET, GCP, GELF, MongoDB 4.4, Rust tracing, journald, AWS, monolog, "
        "OpenTelemetry"
    ),
    "logfmt": "`key=value` pairs: go-kit, logrus, slog, Heroku, FortiGate",
    "csv": "tables with a line of names, also with tabs or semicolons",
    "w3c": "W3C extended logs, such as those of IIS",
    "zeek": "Zeek",
    "cef": "ArcSight's events",
    "leef": "QRadar's events",
    "nginx_access": (
        "common and combined log format, with a host before or fields behind; also Apache's"
    ),
    "apache_access": "the same, as a name for Apache's",
    "nginx_error": "nginx",
    "apache_error": "Apache 2.2 and 2.4",
    "haproxy": "HAProxy, HTTP and TCP",
    "squid": "Squid's native format",
    "envoy": "Envoy's default format",
    "gin": "the Gin web framework",
    "aws_alb": "access logs of AWS load balancers",
    "aws_s3": "access logs of S3",
    "aws_vpc": "flow logs of AWS networks",
    "kafka": "Kafka, with the logger at the end",
    "mssql": "SQL Server's ERRORLOG",
    "npm": "npm's debug log",
    "jvm": "the Java virtual machine, with -Xlog",
    "stunnel": "stunnel",
    "supervisor": "supervisord",
    "ossec": "OSSEC's and Wazuh's alerts",
    "dotnet_trace": ".NET's trace listeners",
    "esp_idf": "Espressif's ESP-IDF",
    "sanitizer": "AddressSanitizer and its siblings",
    "xml": "log4j's and java.util.logging's XML, Windows' events",
    "block": "a key a line: `journalctl -o export` and `-o verbose`, Windows' events as text",
    "postgres": "PostgreSQL's stderr, with Debian's prefix or Amazon RDS's",
    "postgres_csv": "PostgreSQL's csvlog",
    "mysql_error": "MySQL 5.7 and 8, MariaDB",
    "mysql_slow": "the slow query log of MySQL and MariaDB",
    "mongodb": "MongoDB 3.0 to 4.2",
    "redis": "Redis",
    "db2diag": "Db2's diagnostic log",
    "python": "Python's logging",
    "log4j": "log4j, logback, Spring Boot, Hadoop, Spark, Flink",
    "jul": "java.util.logging, two lines a record",
    "websphere": "WebSphere and Liberty",
    "dotnet_console": ".NET's console logger",
    "ruby": "Ruby's Logger, Rails",
    "php": "PHP's error log",
    "zap": "zap's console encoder",
    "glog": "glog, klog, CockroachDB",
    "chromium": "Chromium and Electron",
    "erlang": "Erlang's reports",
    "oslo": "oslo.log",
    "logcat": "Android's logcat: threadtime, time, brief",
    "macos": "`log show`",
    "kernel": "dmesg",
    "xorg": "the X server",
    "auditd": "Linux audit",
    "dpkg": "dpkg",
    "samba": "Samba",
    "nagios": "Nagios",
    "zabbix": "Zabbix",
    "generic": "everything else",
}
"""By the format's name, in the order in which they are listed."""


def format_hint(name: str, known: Mapping[str, str]) -> str:
    """Return `; did you mean 'x' or 'y'?` for a format that is not known: the likelier ones.

    A part of a name (`nginx`) or a word for what writes a format (`kubernetes`, `mariadb`) comes
    before a name that is only spelled alike.

    Args:
        name: What was asked for.
        known: What writes each format, by its name.
    """
    parts = name.lower().replace("-", "_")
    words = re.escape(parts).replace("_", "[ _-]")
    found = [one for one in known if len(parts) > 2 and one.startswith(parts)]
    found = found or [one for one in known if parts in one.split("_")]
    found = found or [one for one, about in known.items() if re.search(rf"(?i)\b{words}\b", about)]
    if parts and found:
        return f"; did you mean {' or '.join(map(repr, found[:MOST]))}?"
    return did_you_mean(name, [*known, "template:…", "regex:…"])
