"""The named formats of programs: what they write, and nothing else.

Patterns are Rust regexes (https://docs.rs/regex) that Python's `re` reads alike. They are
written so that each byte decides what matches it, and alternatives differ in their first
letter: that is 2.5 times faster than `.*?`. A new format is an entry here and a line of it in
the tests; it must not accept the other formats' lines. `REFUSED` holds what a line must not
look like to be of a format.
"""

from etl.formats.access import ACCESS
from etl.formats.daemons import DAEMONS, SUPERVISOR
from etl.formats.levels import WORDS
from etl.formats.stamps import ZONE_NAMES

__all__ = ["ANOTHERS", "DOUBTFUL", "ENVELOPES", "PATTERNS", "REFUSED", "TIME"]

_HMS = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO = f"{_DATE}[ T]{_HMS}"
_BSD = f"[A-Z][a-z]{{2}} [ 0-9][0-9] {_HMS}"
_BSD_YEAR = f"[A-Z][a-z]{{2}} [ 0-9][0-9] [0-9]{{4}} {_HMS}"
_BSD_ANY = f"(?:{_BSD}|{_BSD_YEAR})"
_RFC3339 = rf"{_DATE}T{_HMS}(?:\.[0-9]+)?(?:Z|[+-][0-9:]{{4,5}})"
_CTIME = rf"[A-Z][a-z]{{2}} [A-Z][a-z]{{2}} [ 0-9][0-9] {_HMS}(?:\.[0-9]+)? [0-9]{{4}}"
TIME = (  # what {timestamp} in a template may be: the layouts that hold blanks, else a word
    rf"(?:{_CTIME}|{_BSD}|{_BSD_YEAR}|[0-9]{{6}} [0-9]{{6}}|(?:[0-9]{{1,4}}[./-][0-9]{{1,2}}"
    r"(?:[./-][0-9]{1,4})?(?:[ T]|, ?)|[0-9]{1,2}[ /-][A-Z][a-z]{2}[ /-][0-9]{2,4}[: ]|"
    rf"[0-9]{{8}}[ T-]|[A-Z][a-z]{{2}} [0-9]{{1,2}},? [0-9]{{4}},? )[0-9]{{1,2}}:[0-9]{{2}}:"
    rf"[0-9]{{2}}[0-9.,:]*(?: ?[AP]M)?(?: ?[+-][0-9:]{{2,6}}|Z| (?:{ZONE_NAMES}))?|\S+)"
)
_REST = r"(?P<message>(?s:.*))$"
_QUOTED = r'(?:[^"\\]|\\.)*'

_NGINX = (
    rf"^(?P<timestamp>[0-9]{{4}}/[0-9]{{2}}/[0-9]{{2}} {_HMS}) \[(?P<level>[a-z]+)\] "
    r"(?P<pid>[0-9]+)#(?P<tid>[0-9]+): "
)
_POSTGRES = rf"^(?P<timestamp>{_ISO}(?:\.[0-9]+)? [A-Z0-9:+-]+) \[(?P<pid>[0-9]+)\] "
_PG_LEVEL = "(?P<level>[A-Z]+[1-5]?)"
_DPKG = rf"^(?P<timestamp>{_ISO}) (?P<message>"
_CHANGED = "(?P<action>install|upgrade|remove|purge|disappear)"
_PACKAGE = r"(?P<package>\S+)"
_PYTHON = "(?P<level>DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)"
_JAVA = r"(?P<level>TRACE|DEBUG|INFO|WARN(?:ING)?|ERROR|SEVERE|FATAL)"
_LOG4J = rf"^(?P<timestamp>{_ISO}[.,][0-9]+) +"
_BY = rf"(?P<logger>[^\s:]+)(?: -|:) {_REST}"
_THREAD = r"\[(?P<thread>[^\]]*)\] "
_SPRING = r" (?P<pid>[0-9]+) --- (?:\[(?P<app>[^\]]*)\] )?\[ *(?P<thread>[^\]]*)\] "
_PRI = "(?:<(?P<pri>[0-9]{1,3})>)"
_HOST = "(?P<host>[A-Za-z0-9][A-Za-z0-9_.:%@/-]*)"
# RFC 5424, 6.2.3: a fraction of six digits at most; .NET and Go write more, and no syslog
_SYSLOG = rf"(?P<timestamp>{_BSD}|{_RFC3339.replace('[0-9]+', '[0-9]{1,6}')}) {_HOST} "
_TAG = r"(?P<app>[^\s:\[\]|=0-9][^\s:\[\]|=]*)(?:\[(?P<pid>[0-9]+)\])?(?: \((?P<unit>[^()]*)\))?:"
_FACILITY = "(?:kern|user|mail|daemon|auth|authpriv|cron|local[0-7])"
_SEVERITY = "emerg|alert|crit|err|warn|warning|notice|info|debug"
_CISCO = (
    r"%(?P<logger>[A-Z][A-Z0-9_]*(?:-[A-Z0-9_]+)*)-(?P<level>[0-7])-(?P<mnemonic>[A-Z0-9_]+): *"
)

PATTERNS: dict[str, str | tuple[str, ...]] = {
    **ACCESS,
    **DAEMONS,
    "syslog5424": (  # RFC 5424; rsyslog leaves a second blank before the message
        rf"^{_PRI}[0-9]{{1,2}} (?P<timestamp>\S+) (?P<host>\S+) (?P<app>\S+) "
        rf'(?P<pid>\S+) (?P<msgid>\S+) (?P<data>-|(?:\[(?:[^\]\\"]|"{_QUOTED}")*\])+)'
        r"(?: +(?P<message>(?:[^ ](?s:.*))?))?$"
    ),
    # kubernetes.io: what a container runtime writes; P is a part of a line, F its end
    "cri": (
        rf"^(?P<timestamp>{_RFC3339}) (?P<stream>stdout|stderr) (?P<flags>[FP](?::\w+)*)"
        r" ?(?P<message>(?s:.*))$"
    ),
    # docker compose logs, kubectl logs --prefix
    "compose": r"^(?P<container>[A-Za-z0-9][\w.-]*[-_][0-9]+) +\| ?(?P<message>(?s:.*))$",
    "kubectl": r"^\[pod/(?P<pod>[^/\]\s]+)/(?P<container>[^/\]\s]+)\] ?(?P<message>(?s:.*))$",
    # devcenter.heroku.com/articles/logging: source and dyno
    "heroku": (
        rf"^(?P<timestamp>{_RFC3339}) (?P<app>app|heroku)\[(?P<dyno>[\w.-]+)\]: "
        r"(?P<message>(?s:.*))$"
    ),
    "apache_error": (  # 2.2, and 2.4 with module, pid and thread; before the client may be
        # where it was written, and the error of the system (ErrorLogFormat's %F and %E)
        rf"^\[(?P<timestamp>{_CTIME})\] \[(?:(?P<logger>[^\]:]*):)?(?P<level>[a-z]+[0-9]?)\] "
        r"(?:\[pid (?P<pid>[0-9]+)(?::tid (?P<tid>[0-9]+))?\] )?"
        r"(?P<message>(?:(?:[\w.]+\([0-9]+\): )?(?:\([0-9]+\)[^\[\n]*: )?"
        r"\[client (?P<client>[^\]]*)\] )?(?s:.*))$"
    ),
    "nginx_error": (
        rf"{_NGINX}\*(?P<connection>[0-9]+) {_REST}",
        rf"{_NGINX}(?P<message>(?:(?:[^*]|\*[^0-9])(?s:.*))?)$",
    ),
    # docs.haproxy.org, 8.2.2 and 8.2.3: TCP and HTTP logs, behind a syslog header
    "postgres": (  # log_line_prefix '%m [%p] %q%u@%d ', Debian's and the default
        rf"{_POSTGRES}{_PG_LEVEL}:  {_REST}",
        rf"{_POSTGRES}(?P<user>[^\s@]+)@(?P<database>\S+) {_PG_LEVEL}:  {_REST}",
        # Amazon RDS: '%t:%r:%u@%d:[%p]:', perhaps with a blank behind; the client may be
        # [local] or have colons
        (
            rf"^(?P<timestamp>{_ISO}(?:\.[0-9]+)? [A-Z0-9+-]+):(?P<client>[^\s@]*):"
            r"(?P<user>[^\s@:]*)@(?P<database>[^\s:]*):\[(?P<pid>[0-9]+)\]: ?"
            rf"{_PG_LEVEL}:  ?{_REST}"
        ),
    ),
    "mysql_error": (  # dev.mysql.com: 8.0 and 5.7; MariaDB's
        (
            rf"^(?P<timestamp>{_RFC3339}) (?P<thread>[0-9]+) "
            r"\[(?P<level>System|Note|Warning|ERROR)\] "
            rf"(?:\[(?P<code>MY-[0-9]+)\] \[(?P<logger>[^\]]*)\] )?{_REST}"
        ),
        (
            rf"^(?P<timestamp>{_DATE} +[0-9]{{1,2}}:[0-9]{{2}}:[0-9]{{2}}) (?P<thread>[0-9]+) "
            rf"\[(?P<level>Note|Warning|ERROR)\] {_REST}"
        ),
    ),
    "mysql_slow": (  # dev.mysql.com: the slow query log; a record is a block
        r"^(?:# Time: (?P<timestamp>\S+(?: +[0-9:]+)?)\s*\n)?# User@Host: (?P<user>[^\n]*?)"
        r"(?:\s+Id: +(?P<connection>[0-9]+))?\s*\n(?:# (?P<thread>Thread_id[^\n]*)\n)?"
        r"# Query_time: (?P<duration>[0-9.]+) (?P<rest>[^\n]*)\n"
        r"(?P<message>(?:(?:use [^\n]*\n)?SET timestamp=(?P<ts>[0-9]+);)?(?s:.*))$"
    ),
    "mongodb": (  # 3.0 to 4.2
        rf"^(?P<timestamp>{_RFC3339}) (?P<level>[FEWID][1-5]?) +(?P<logger>[A-Z_]+|-) +"
        rf"\[(?P<thread>[^\]]*)\] {_REST}"
    ),
    "redis": (  # src/server.c, serverLogRaw: role is M, S, C or X; before 3.0 without it;
        # serverLogFromHandler: a signal handler may not format a time, and writes seconds
        (
            r"^(?P<pid>[0-9]+):(?P<role>[A-Z]) (?P<timestamp>[0-9]{1,2} [A-Z][a-z]{2} "
            rf"[0-9]{{4}} {_HMS}(?:\.[0-9]+)?) (?P<level>[.*#-]) {_REST}"
        ),
        (
            r"^\[(?P<pid>[0-9]+)\] (?P<timestamp>[0-9]{1,2} [A-Z][a-z]{2} "
            rf"{_HMS}(?:\.[0-9]+)?) (?P<level>[.*#-]) {_REST}"
        ),
        rf"^(?P<pid>[0-9]+):(?P<role>signal-handler) \((?P<timestamp>[0-9]{{10}})\) {_REST}",
    ),
    "dpkg": (  # dpkg(1), --log: a package with its installed version, and the available one
        rf"{_DPKG}(?P<action>status) (?P<state>\S+) {_PACKAGE} (?P<version>\S*))$",
        rf"{_DPKG}{_CHANGED} {_PACKAGE} (?P<old_version>\S+)(?: (?P<version>\S+))?)$",
        # the version that is there is the one that is worked on, and none comes after it
        rf"{_DPKG}(?P<action>configure|trigproc) {_PACKAGE} (?P<version>\S+)(?: \S+)?)$",
        rf"{_DPKG}(?P<action>startup|conffile) (?P<state>[^\n]*))$",
    ),
    "auditd": (  # Linux audit: one line of an event
        r"^(?:node=(?P<host>\S+) )?type=(?P<type>[A-Z0-9_\[\]]+) msg=audit\((?P<timestamp>[0-9.]+):"
        r"(?P<event_id>[0-9]+)\): ?(?P<message>(?:[^\n]*?\bpid=(?P<pid>[0-9]+))?(?s:.*))$"
    ),
    "nagios": (  # assets.nagios.com: events of services and hosts
        r"^\[(?P<timestamp>[0-9]{10})\] (?P<message>(?P<event>(?:(?:CURRENT|INITIAL|PASSIVE) )?"
        r"(?:SERVICE|HOST|EXTERNAL) [A-Z ]+): (?s:.*))$"
    ),
    "kernel": (  # dmesg
        r"^(?:<(?P<pri>[0-9]+)>)?\[ *(?P<uptime>[0-9]+\.[0-9]{6})\]"
        r"(?:\[ *(?P<thread>[TC][0-9]+)\])?"
        rf" {_REST}"
    ),
    "macos": (  # log show: the default style
        rf"^(?P<timestamp>{_ISO}\.[0-9]{{6}}[+-][0-9]{{4}}) +(?P<thread>0x[0-9a-f]+) +"
        r"(?P<level>De(?:fault|bug)|Info|Error|Fault|Activity) +(?P<activity>0x[0-9a-f]+) +"
        rf"(?P<pid>[0-9]+) +(?P<ttl>[0-9]+) +(?P<logger>[^:\n]+): {_REST}"
    ),
    "zap": (  # go.uber.org/zap: the console encoder
        rf"^(?P<timestamp>{_RFC3339})\t(?P<level>[A-Z]+)\t(?:\[?(?P<logger>[\w./-]+)\]?\t)?"
        rf"(?P<caller>[^\s:]+:[0-9]+)\t{_REST}"
    ),
    "zabbix": (  # zabbix.com: server and agent
        rf"^ *(?P<pid>[0-9]+):(?P<timestamp>[0-9]{{8}}:[0-9]{{6}}\.[0-9]{{3}}) {_REST}"
    ),
    "xorg": (  # the X server's log: seconds since its start
        r"^\[ *(?P<uptime>[0-9]+\.[0-9]{3})\] "
        r"(?:\((?P<level>II|WW|EE|NI|!!|\?\?|\*\*|==|--|\+\+)\) )?"
        rf"{_REST}"
    ),
    "php": (  # php.net: error_log
        r"^\[(?P<timestamp>[0-9]{2}-[A-Z][a-z]{2}-[0-9]{4} [0-9:]{8}(?: [\w/+-]+)?)\] PHP "
        rf"(?P<level>Notice|Warning|Deprecated|Fatal error|Parse error|[A-Z][a-z ]+): +{_REST}"
    ),
    "erlang": (  # erlang.org: reports of the old logger
        r"^=(?P<level>[A-Z]+) REPORT==== (?P<timestamp>[0-9]+-[A-Z][a-z]{2}-[0-9]{4}::"
        rf"[0-9:.]+(?: UTC)?) ===\r?\n{_REST}"
    ),
    "samba": (  # a head, and the message below it
        r"^\[(?P<timestamp>[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:.]+), +(?P<verbosity>[0-9]+)"
        r"(?P<rest>[^\]\n]*)\] (?P<caller>\S+?:[0-9]+)\((?P<function>[^)\n]*)\)\s*"
        r"(?P<message>(?s:.*))$"
    ),
    "db2diag": (  # ibm.com/docs: a block, with the offset in minutes
        r"^(?P<timestamp>[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9.]{15}[+-][0-9]{3}) (?P<record>\S+) +"
        r"LEVEL: (?P<level>\w+)(?P<rest>[^\n]*)\r?\n"
        r"(?P<message>(?:PID *: (?P<pid>[0-9]+))?(?s:.*))$"
    ),
    "logcat": (  # developer.android.com/tools/logcat: threadtime, time, brief
        (
            r"^(?P<timestamp>(?:[0-9]{4}-)?[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{3,6}) +"
            r"(?P<pid>[0-9]+) +"
            r"(?P<tid>[0-9]+) (?P<level>[VDIWEFAS]) (?P<logger>.*?) *: (?P<message>(?s:.*))$"
        ),
        (
            r"^(?:(?P<timestamp>[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{3}) )?(?P<level>[VDIWEFA])/"
            rf"(?P<logger>[^(]*?) *\( *(?P<pid>[0-9]+)\): {_REST}"
        ),
    ),
    "glog": (  # github.com/google/glog, and klog
        (
            rf"^(?P<level>[IWEF])(?P<timestamp>[0-9]{{4}} {_HMS}\.[0-9]{{6}}) +(?P<pid>[0-9]+) "
            rf"(?P<caller>[^\s:]+:[0-9]+)\] {_REST}"
        ),
        # CockroachDB's: with a year
        (
            rf"^(?P<level>[IWEF])(?P<timestamp>[0-9]{{6}} {_HMS}\.[0-9]{{6}}) (?P<pid>[0-9]+) "
            rf"(?:(?P<channel>[0-9]+)@)?(?P<caller>[^\s:]+:[0-9]+) {_REST}"
        ),
    ),
    "chromium": (  # chromium.org: its logging, with month and day
        r"^\[(?P<pid>[0-9]+):(?P<tid>[0-9]+):(?P<timestamp>[0-9]{4}/[0-9]{6}\.[0-9]+):"
        rf"(?P<level>[A-Z]+[0-9]*):(?P<caller>[^\]]+)\] {_REST}"
    ),
    "ruby": (  # docs.ruby-lang.org: Logger::Formatter
        rf"^[DIWEFAU], \[(?P<timestamp>{_ISO}\.[0-9]+) #(?P<pid>[0-9]+)\] +(?P<level>[A-Z]+) -- "
        r"(?P<logger>[^\n:]*(?:::[^\n:]+)*): ?(?P<message>(?s:.*))$"
    ),
    "dotnet_console": (  # learn.microsoft.com: the simple console formatter
        r"^(?:(?P<timestamp>[^a-z][^\n]*?) ?)??(?P<level>trce|dbug|info|warn|fail|crit): "
        r"(?P<logger>[^\s\[\]]+)\[(?P<event_id>-?[0-9]+)\](?:\r?\n| ) *(?P<message>(?s:.*))$"
    ),
    "websphere": (  # ibm.com/docs: basic format
        rf"^\[(?P<timestamp>[0-9./]+,? {_HMS}:[0-9]{{3}} \w+)\] (?P<thread>[0-9a-f]{{8}}) "
        rf"(?P<logger>\S+) +(?P<level>[FEWAICDORZ123<>]) {_REST}"
    ),
    "jul": (  # java.util.logging.SimpleFormatter: two lines
        r"^(?P<timestamp>[A-Z][a-z]{2} [0-9]{1,2}, [0-9]{4},? [0-9:]+\s(?:AM|PM)) (?P<logger>\S+) "
        rf"(?P<method>\S+)\r?\n(?P<level>[A-Z]+): {_REST}"
    ),
    "oslo": (  # docs.openstack.org/oslo.log: logging_context_format_string
        rf"^(?:(?P<file>\S+) )?(?P<timestamp>{_DATE} {_HMS}\.[0-9]{{3}}) (?P<pid>[0-9]+) "
        r"(?P<level>TRACE|DEBUG|INFO|AUDIT|WARNING|ERROR|CRITICAL) (?P<logger>[\w.]+) "
        rf"\[(?P<request>-|(?:None )?req-[^\]]*)\] {_REST}"
    ),
    "python": (
        rf"^(?P<timestamp>{_ISO}(?:[.,][0-9]+)?) {_PYTHON} +(?P<logger>[A-Za-z_][^\s:]*): {_REST}",
        rf"^(?P<timestamp>{_ISO}(?:[.,][0-9]+)?) - (?P<logger>\S+) - {_PYTHON} - {_REST}",
        rf"^{_PYTHON}:(?P<logger>[^\s:]*):{_REST}",
    ),
    "log4j": (  # and logback, Spring Boot, Hadoop, Spark
        rf"{_LOG4J}{_JAVA} +{_THREAD}{_BY}",
        rf"{_LOG4J}{_THREAD} *{_JAVA} +{_BY}",
        rf"{_LOG4J}{_JAVA} +(?P<logger>[A-Za-z]\S*) +\[(?P<marker>[^\]]*)\] - {_REST}",
        rf"{_LOG4J}{_JAVA} +(?P<logger>[^\s:]+) - {_REST}",
        rf"^(?P<timestamp>{_ISO}\S*) +{_JAVA}{_SPRING}(?P<logger>\S+) *: {_REST}",
        rf"^(?P<timestamp>[0-9]{{2}}/[0-9]{{2}}/[0-9]{{2}} {_HMS}) {_JAVA} +{_BY}",
        rf"^(?P<timestamp>[0-9]{{6}} [0-9]{{6}}) (?P<pid>[0-9]+) {_JAVA} +{_BY}",
    ),
    "cisco": (  # IOS and ASA: facility, severity, mnemonic
        (
            rf"^{_PRI}?(?:(?P<sequence>[0-9]+): )?(?:(?P<host>[^\s%:*]+):? )??"
            rf"(?:(?P<count>[0-9]+): )?[*.]?(?P<timestamp>{_BSD_ANY}"
            rf"(?:\.[0-9]+)?(?: [A-Z]{{3,4}})?)(?: (?P<device>[^\s:%]+))? ?: {_CISCO}{_REST}"
        ),
        rf"^{_PRI}?{_CISCO}{_REST}",
    ),
    "syslog3164": (  # RFC 3164 and rsyslog's lines with a full timestamp: a tag, or a priority
        rf"^{_PRI}?{_SYSLOG}{_TAG} {_REST}",
        rf"^{_PRI}?{_SYSLOG}{_TAG}(?P<message>(?:[^ ](?s:.*))?)$",
        # F5 and busybox: a level between host and tag
        rf"^{_PRI}?{_SYSLOG}(?:{_FACILITY}\.)?(?P<level>{_SEVERITY}) {_TAG} {_REST}",
        rf"^{_PRI}?(?P<timestamp>{_BSD_YEAR}) {_HOST} {_TAG} {_REST}",
        # macOS and iOS: a level behind the tag, no host before it, an ISO time with a blank
        rf"^{_SYSLOG}(?P<app>[^\s:\[\]|=]+)\[(?P<pid>[0-9]+)\] <(?P<level>[A-Z][a-z]+)>: {_REST}",
        rf"^{_PRI}?(?P<timestamp>{_BSD}) (?P<app>[^\s:\[\]|=]+)\[(?P<pid>[0-9]+)\]: {_REST}",
        (
            rf"^(?P<timestamp>{_ISO}[+-][0-9:]{{2,5}}) (?P<host>[\w.-]+) (?P<app>[^\s:\[\]|=]+)"
            rf"\[(?P<pid>[0-9]+)\]: {_REST}"
        ),
        rf"^{_PRI}{_SYSLOG}(?P<message>(?:[^\s:\[]+(?:\s|\[[^0-9]|$)|[:\[])(?s:.*))$",
        # Palo Alto Networks: commas instead of a tag
        rf"^{_PRI}?{_SYSLOG}(?P<message>[0-9]+,[0-9]{{4}}/[0-9]{{2}}/(?s:.*))$",
        rf"^{_SYSLOG}(?P<message>(?:last message repeated|message repeated|-- MARK)(?s:.*))$",
    ),
    "syslog_pri": rf"^{_PRI}(?P<message>[^\s<](?s:.*))$",  # a priority and no more
}
ENVELOPES = {
    "syslog5424",
    "syslog3164",
    "syslog_pri",
    "cri",
    "compose",
    "kubectl",
    "heroku",
    "docker",
    "otlp",
}
"""Formats whose message is a line of another program, to be read again."""

_LEVEL = "(?:" + "|".join((*WORDS, "[0-9]+")) + ")"
REFUSED = {  # what the other syslog formats take
    "syslog_pri": rf"^<[0-9]+>(?:[0-9]{{1,2}} |{_BSD_ANY}|{_RFC3339}|\[ *[0-9]+\.)",
    # a host or a tag that is a level or a number, CRI's streams
    "syslog3164": (
        rf"^(?:<[0-9]+>)?(?:{_BSD_ANY}|{_RFC3339}) "
        rf"(?:(?:(?i:{_LEVEL})|stdout|stderr|{_FACILITY}\.[a-z]+|[^\s\[]*:|app\[[a-z][^\]]*\]:) "
        rf"|\S+ (?i:{_LEVEL})(?:\[[^\]]*\])?: )"
    ),
}
ANOTHERS = {"python": rf"^{_ISO},[0-9]+ [A-Z]+ {SUPERVISOR}"}
"""Lines of a format that is asked before this one, which would accept them: looked for in a
sample only."""
DOUBTFUL = {  # prose may look so: lines of a format, and lines that begin alike
    "syslog3164": (rf"^{_RFC3339} ([^\s\[\]]+) [^\s:\[\]]+: ", rf"^{_RFC3339} "),
    "python": (
        rf"^{_ISO}(?:[.,][0-9]+)? [A-Z]+ +()[A-Za-z_]\w*: ",
        rf"^{_ISO}[.,]?[0-9]* [A-Z]",
    ),
}
"""A word with a colon is no tag and no logger where most lines that begin alike have none, or
each has another host."""
