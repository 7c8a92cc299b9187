"""The work of the benchmark in lnav, without its screen: a log format, and SQL to files.

What differs: a line that matches nothing belongs to the message before it, as lnav sees it; it is
cut off from that, and written nowhere. lnav writes no Parquet: lines become JSON, with their line
number, level and message only.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from pattern import PATTERN
from programs import installed

TIME = re.compile(r"\(\?P<date>(.*?)\) \(\?P<time>(.*?)\) ")

LAYOUT = TIME.sub(lambda found: f"(?<timestamp>{found[1]} {found[2]}) ", PATTERN)

FORMAT = {
    "$schema": "https://lnav.org/schemas/format-v1.schema.json",
    "bench_log": {
        "title": "Benchmark",
        "regex": {"line": {"pattern": LAYOUT.replace("?P<", "?<")}},
        "level-field": "level",
        "body-field": "message",
        "value": {"logger": {"kind": "string"}, "level": {"kind": "string"}},
        "sample": [{"line": "2026-11-21 10:11:12,345 INFO shop: a line"}],
    },
}

LINES = (
    ";SELECT line_number, level, "
    "CASE WHEN level LIKE 'WARN%' THEN upper(body) ELSE body END AS message "
    "FROM (SELECT log_line + 1 AS line_number, level, "
    "substr(log_body, 1, instr(log_body || char(10), char(10)) - 1) AS body FROM bench_log)"
)

COUNTS = ";SELECT level, count(*) AS lines FROM bench_log GROUP BY level"


def command(source: Path, out: Path) -> list[str]:
    """Return the command line, once its format is written below the output folder.

    Raises:
        NotInstalled: If there is no lnav.
    """
    program = installed("lnav", "lnav")
    formats = out / "home" / "formats" / "bench"
    formats.mkdir(parents=True)
    (formats / "bench.json").write_text(json.dumps(FORMAT), encoding="utf-8")
    steps = (
        LINES,
        f":write-jsonlines-to {out / 'lines.jsonl'}",
        COUNTS,
        f":write-json-to {out / 'counts.json'}",
    )
    home = str(out / "home")
    return ["env", f"HOME={home}", program, "-nq", "-I", home, *(f"-c{one}" for one in steps),
            str(source)]  # fmt: skip
