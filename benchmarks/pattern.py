"""The regular expression that all programs of the benchmark parse lines with.

It stands alone, so that who starts and measures programs stays small: a child's peak memory is
counted from the size that its parent had.
"""

from __future__ import annotations

# Anchored at both ends: the regex engine of Polars then takes a half to two thirds of the time.
PATTERN = (
    r"^(?P<date>\d{4}-\d\d-\d\d) (?P<time>\d\d:\d\d:\d\d,\d{3}) (?P<level>[A-Z]+) "
    r"(?P<logger>[^:]+): (?P<message>.*)$"
)
