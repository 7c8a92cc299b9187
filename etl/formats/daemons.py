"""The formats of brokers, databases, daemons and agents that are few and fixed.

As in `catalogue`, patterns are Rust regexes that Python's `re` reads alike. A group `trace`
goes on with the message.
"""

__all__ = ["DAEMONS", "SUPERVISOR"]

_HMS = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_REST = r"(?P<message>(?s:.*))$"
_UPTIME = "[0-9]+[.,][0-9]{3}s|[0-9]{1,10}ms|[0-9]{1,16}ns"
_XLOG = (
    r"(?:\[(?P<pid>[0-9]+) *\](?:\[(?P<tid>[0-9]+) *\])?)?"
    r"\[(?P<level>trace|debug|info|warning|error) *\]\[(?P<logger>[a-z0-9_]+(?:,[a-z0-9_]+)*) *\]"
    rf" ?{_REST}"
)
SUPERVISOR = (
    "(?:spawned: |success: |exited: |stopped: |waiting for |reaped |received |gave up: "
    "|daemonizing|supervisord started|RPC interface |Set uid |Included extra |Supervisor is "
    "|Server '|Unlinking )"
)
"""What supervisord says."""

DAEMONS: dict[str, str | tuple[str, ...]] = {
    "kafka": (  # kafka.apache.org: config/log4j.properties, [%d] %p %m (%c)%n
        rf"^\[(?P<timestamp>{_DATE} {_HMS},[0-9]{{3}})\] "
        "(?P<level>TRACE|DEBUG|INFO|WARN|ERROR|FATAL) "
        r"(?P<message>[^\n]*) \((?P<logger>[A-Za-z_][\w$-]*(?:\.[\w$-]+)+)\)"
        r"(?P<trace>(?:\n(?s:.*))?)$"
    ),
    "jvm": (  # docs.oracle.com, java(1): -Xlog; the decorations stand in this order
        (
            rf"^\[(?P<timestamp>{_DATE}T{_HMS}\.[0-9]{{3}}[+-][0-9]{{4}})\]"
            rf"(?:\[(?P<uptime>{_UPTIME}) *\])?{_XLOG}"
        ),
        rf"^\[(?P<uptime>{_UPTIME}) *\]{_XLOG}",
    ),
    "stunnel": (  # stunnel(8): levels are syslog's
        rf"^(?P<timestamp>[0-9]{{4}}\.[0-9]{{2}}\.[0-9]{{2}} {_HMS}) LOG(?P<level>[0-7])"
        rf"\[(?P<thread>[^\]\n]*)\]: {_REST}"
    ),
    "npm": (  # docs.npmjs.com: npm-debug.log
        r"^(?P<sequence>[0-9]+) (?P<level>silly|verbose|info|http|timing|notice|warn|error) "
        rf"{_REST}"
    ),
    "mssql": (  # learn.microsoft.com: SQL Server's ERRORLOG
        rf"^(?P<timestamp>{_DATE} {_HMS}\.[0-9]{{2}}) "
        r"(?P<source>Server|Logon|Backup|spid[0-9]+s?) +"
        r"(?P<message>(?:(?P<level>Error|Warning): )?(?s:.*))$"
    ),
    "supervisor": (  # supervisord.org: logging
        rf"^(?P<timestamp>{_DATE} {_HMS},[0-9]{{3}}) (?P<level>CRIT|ERRO|WARN|INFO|DEBG|TRAC|BLAT) "
        rf"(?P<message>{SUPERVISOR}(?s:.*))$"
    ),
    "sanitizer": rf"^==(?P<pid>[0-9]+)==(?P<level>ERROR|WARNING): {_REST}",  # clang.llvm.org
    "esp_idf": (  # docs.espressif.com: milliseconds since the start
        r"^(?P<level>[EWIDV]) \((?P<uptime>[0-9]+)\) (?P<logger>[^\s:]+): "
        rf"{_REST}"
    ),
    "dotnet_trace": (  # learn.microsoft.com: TraceListener, its options below the message
        r"^(?P<logger>[^\s:]+) (?P<level>Critical|Error|Warning|Information|Verbose): "
        r"(?P<event_id>-?[0-9]+) : (?P<message>(?s:.*?))"
        r"(?:\n\s*DateTime=(?P<timestamp>\S+)(?P<rest>(?s:.*)))?$"
    ),
    "ossec": (  # documentation.wazuh.com: alerts.log
        r"^\*\* Alert (?P<timestamp>[0-9]{10})\.(?P<alert>[0-9]+): ?(?P<flags>[^\n]*)\n"
        r"(?P<origin>[^\n]*)\n"
        r"(?P<message>Rule: (?P<rule>[0-9]+) \(level (?P<rule_level>[0-9]+)\) (?s:.*))$"
    ),
    "xml": (  # log4j's XMLLayout, java.util.logging's XMLFormatter, Windows' events
        (
            r'^<log4j:event logger="(?P<logger>[^"]*)" timestamp="(?P<timestamp>[0-9]+)" '
            r'(?:sequenceNumber="(?P<sequence>[0-9]+)" )?level="(?P<level>[A-Z]+)" '
            r'thread="(?P<thread>[^"]*)">\s*<log4j:message><!\[CDATA\[(?P<message>(?s:.*?))\]\]>'
            r"</log4j:message>\s*(?P<rest>(?s:.*))$"
        ),
        (
            r"^<record>\s*<date>(?P<timestamp>[^<]*)</date>\s*"
            r"(?:<millis>(?P<millis>[0-9]*)</millis>\s*)?(?:<nanos>(?P<nanos>[0-9]*)</nanos>\s*)?"
            r"(?:<sequence>(?P<sequence>[0-9]*)</sequence>\s*)?"
            r"(?:<logger>(?P<logger>[^<]*)</logger>\s*)?<level>(?P<level>[A-Z]+)</level>\s*"
            r"(?P<rest>(?s:.*?))<message>(?P<message>(?s:.*?))</message>\s*(?P<trace>(?s:.*))$"
        ),
        (
            r"^<Event\b(?P<rest>[^>]*)>\s*<System>\s*<Provider Name=['\"](?P<logger>[^'\"]*)['\"]"
            r"(?P<details>(?s:.*?))<Level>(?P<event_level>[0-5])</Level>(?P<about>(?s:.*?))"
            r"<TimeCreated SystemTime=['\"](?P<timestamp>[^'\"]+)['\"] */>\s*(?P<message>(?s:.*))$"
        ),
    ),
}
