"""The work of the benchmark in syslog-ng: its regular expression, branches, and files of text.

What differs: it reads standard input, because its other sources wait for more and never end. It
counts nothing, and drops empty lines and those that begin with a zero byte; so there are no line
numbers, only the serial numbers that it gives to what it takes. It writes no Parquet: lines become
JSON, with that number, level and message only.
"""

from __future__ import annotations

from pathlib import Path

from pattern import PATTERN
from programs import installed

CONFIGURATION = """@version: 3.38
options {{
  keep-hostname(yes); use-uniqid(yes); threaded(yes); stats-freq(0);
  log-msg-size(1048576); log-fifo-size(200000); flush-lines(1000);
}};
source lines {{ stdin(flags(no-parse) log-fetch-limit(10000) log-iw-size(100000)); }};
parser fields {{ regexp-parser(patterns('{pattern}')); }};
template line {{ template("$(format-json {number} level=${{level}} message=${{message}})\\n"); }};
template upper {{
  template("$(format-json {number} level=${{level}} message=$(uppercase ${{message}}))\\n");
}};
template dead {{ template("$(format-json {number} line=${{MESSAGE}})\\n"); }};
destination warn {{ file("{out}/lines-warn.jsonl" template(upper)); }};
destination info {{ file("{out}/lines-info.jsonl" template(line)); }};
destination rest {{ file("{out}/lines-rest.jsonl" template(line)); }};
destination dead {{ file("{out}/dead.jsonl" template(dead)); }};
log {{
  source(lines);
  if {{
    parser(fields);
    if (match("^WARN" value("level"))) {{ destination(warn); }}
    elif (match("^INFO$" value("level"))) {{ destination(info); }}
    else {{ destination(rest); }};
  }} else {{ destination(dead); }};
  flags(flow-control);
}};
"""

PIPE = 'cat "$1" | exec "$2" -F --no-caps -f "$3/bench.conf" -R "$3/p" -p "$3/pid" -c "$3/ctl"'
"""A pipe, as it cannot wait for a file to be readable."""


def command(source: Path, out: Path) -> list[str]:
    """Return the command line, once its configuration is written to the output folder.

    Raises:
        NotInstalled: If there is no syslog-ng.
    """
    program = installed("syslog-ng", "syslog-ng-core")
    number = "line_number=int64(${RCPTID})"
    text = CONFIGURATION.format(pattern=PATTERN.replace("?P<", "?<"), out=out, number=number)
    (out / "bench.conf").write_text(text, encoding="utf-8")
    return ["sh", "-c", PIPE, "sh", str(source), program, str(out)]
