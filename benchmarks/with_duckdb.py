"""The work of the benchmark in DuckDB: `read_csv` of whole lines, `regexp_extract`, `COPY`.

Lines are parsed once into a temporary table, which both files and the counts are read from: that
takes more memory than to read the file again for each of them, and two thirds of the CPU time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import duckdb
from pattern import PATTERN
from work import LINES, main

FIELDS = [name for name in LINES if name != "line_number"]

GROUPS = re.sub(r"\?P<\w+>", "", PATTERN)
"""The regular expression; `regexp_extract` is given the names of its groups apart."""

PARSED = f"""
CREATE TEMP TABLE parsed AS
SELECT row_number() OVER () AS line_number, line, regexp_extract(line, '{GROUPS}', {FIELDS}) AS f
FROM (
    SELECT coalesce(line, '') AS line
    FROM read_csv(
        $source, columns = {{'line': 'VARCHAR'}}, header = false, delim = '\x01', quote = '',
        escape = '', auto_detect = false, strict_mode = false
    )
)
"""

WRITE_LINES = """
COPY (
    SELECT line_number, f.date AS date, f.time AS time, f.level AS level, f.logger AS logger,
        CASE WHEN f.level LIKE 'WARN%' THEN upper(f.message) ELSE f.message END AS message
    FROM parsed WHERE f.level <> ''
) TO '{}' (FORMAT parquet, COMPRESSION lz4_raw)
"""

WRITE_DEAD = """
COPY (SELECT line_number, line FROM parsed WHERE f.level = '')
TO '{}' (FORMAT parquet, COMPRESSION lz4_raw)
"""

COUNTS = "SELECT f.level, count(*) FROM parsed GROUP BY ALL"


def run(source: Path, out: Path) -> tuple[Mapping[str, int], int]:
    """Do the work on one file."""
    db = duckdb.connect(config={"temp_directory": str(out / "spill")})
    db.execute(PARSED, {"source": str(source)})
    db.execute(WRITE_LINES.format(out / "lines.parquet"))
    db.execute(WRITE_DEAD.format(out / "dead.parquet"))
    counts = dict(db.execute(COUNTS).fetchall())
    dead = counts.pop("", 0)
    return counts, dead


if __name__ == "__main__":
    main(run)
