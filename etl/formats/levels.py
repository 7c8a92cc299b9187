"""What levels are called, and which of our five each name means.

DEBUG INFO WARNING ERROR CRITICAL. A name that says more than its level (`notice`, `HINT`)
is kept beside it.
"""

import re

import polars as pl

__all__ = [
    "LETTERS",
    "LEVELS",
    "LEVEL_NUMBERS",
    "SEVERITIES",
    "UPPER_WORDS",
    "WORDS",
    "read_levels",
]

_NAMES = {
    # 0 to 7 are syslog's (RFC 5424) and GELF's, 10 to 60 pino's and bunyan's, 1xx to 5xx HTTP's;
    # . - * # are Redis's, a o r WebSphere's, trc to ftl and trce to crit those of .NET
    "DEBUG": """debug dbg dbug deb debu debug1 debug2 debug3 debug4 debug5 trace trce trc trac
        tracing verbose vrb vbse fine finer finest fein all silly config
        debg blat ddebug subdebug d v t . - 7 10 20""",
    "INFO": """info inf information informational informative notice note statement hint detail
        context query log audit success ok default http event activity report progress ii i n a o
        * 6 5 30 1xx 2xx 3xx""",
    "WARNING": "warning warn wrn warnung deprecated alarm ww w # 4 40 4xx",
    "ERROR": "error err eror erro severe fail failure crash ee e r 3 50 5xx",
    "CRITICAL": """critical crit fatal ftl fata alert emerg emergency panic pani dpanic fault f c
        0 1 2 60""",
}
LEVELS = {
    word: level
    for level, names in _NAMES.items()
    for name in names.split()
    for word in (name, name.upper(), name.capitalize())
}
LEVEL_NUMBERS = {  # keys whose numbers mean something of their own
    # docs.python.org/3/library/logging.html#logging-levels
    "levelno": {"10": "DEBUG", "20": "INFO", "30": "WARNING", "40": "ERROR", "50": "CRITICAL"},
    # opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber
    "severitynumber": {str(n): _level for _level, numbers in {
        "DEBUG": range(1, 9), "INFO": range(9, 13), "WARNING": range(13, 17),
        "ERROR": range(17, 21), "CRITICAL": range(21, 25),
    }.items() for n in numbers},
    # CEF: 0 to 3 low, 4 to 6 medium, 7 and 8 high, 9 and 10 very high; LEEF's sev likewise
    "cefseverity": {
        **{str(n): _level for _level, numbers in {
            "INFO": range(4), "WARNING": range(4, 7), "ERROR": range(7, 9),
            "CRITICAL": range(9, 11),
        }.items() for n in numbers},
        "Low": "INFO", "Medium": "WARNING", "High": "ERROR", "Very-High": "CRITICAL",
        "Unknown": "INFO",
    },
}  # fmt: skip
# learn.microsoft.com: Windows' event levels; 0 is always logged
LEVEL_NUMBERS["eventlevel"] = dict(
    zip("012345", ("INFO", "CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"), strict=True)
)
# docs.nextcloud.com, loglevel
LEVEL_NUMBERS["nextcloudlevel"] = dict(
    zip("01234", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), strict=True)
)
SEVERITIES = {0: "emerg", 1: "alert", 5: "notice"}
"""Syslog's severities that say more than one of our five (RFC 5424, 6.2.1), as syslog(3) names
them."""
LEVEL_NUMBERS["sev"] = LEVEL_NUMBERS["cefseverity"]
_UPPER = """ALARM ALL AUDIT CONFIG CONTEXT DETAIL EVENT FAIL FAILURE FAULT FINE FINER FINEST HINT
    LOG NOTE QUERY SILLY STATEMENT SUCCESS"""
UPPER_WORDS = sorted(_UPPER.split(), key=lambda word: (-len(word), word))
"""Names that a reader looks for in capitals only: in small letters they are other words."""
WORDS = sorted(
    {n for names in _NAMES.values() for n in names.split() if n[:-1].isalpha() and len(n) > 2}
    - {word.lower() for word in UPPER_WORDS if word not in ("FAIL", "NOTE")}
    - {"1xx", "2xx", "3xx", "4xx", "5xx", "http", "default"}
    - {"activity", "report", "progress", "crash"},
    key=lambda word: (-len(word), word),
)
"""The same in any letters."""
LETTERS = "DIWEFCVTN"
_PLAIN = {
    "debug", "dbg", "info", "information", "warning", "warn", "error", "err", "critical", "crit",
    "fatal", "inf", "wrn", "dbug", "fail",
}  # fmt: skip
_SHORT = {"v", "vrb", "t", "trc", "n"}  # verbose, trace, notice


def read_levels(
    text: pl.Series, numbers: dict[str, str] | None = None
) -> tuple[pl.Series, pl.Series | None]:
    """Return which of our five levels each text means, null where it means none.

    The second series holds the texts that mean none or say more than their level, and is None
    if there are none. `numbers` are meanings that only this column has.
    """
    meant = LEVELS if numbers is None else LEVELS | numbers
    names = {name: _level_of(name, meant) for name in text.drop_nulls().unique()}
    levels = text.replace_strict(names, default=None, return_dtype=pl.String)
    kept = [name for name, level in names.items() if level is None or not _is_plain(name)]
    return levels, text.set(~text.is_in(kept), None) if kept else None


def _level_of(name: str, meant: dict[str, str]) -> str | None:
    """Return the level of a name, also in odd letters (`wArN`, ` Info*`), or of a number."""
    if name in meant:
        return meant[name]
    if name.startswith('["'):  # tags, such as Kibana's
        return next((meant[w] for w in re.findall(r'"(\w{4,})"', name) if w in meant), None)
    bare = name.strip(" \t[]()<>:*\"'").lower()
    bare = re.sub("[+-][0-9]+$", "", bare)  # Go's slog: DEBUG+2
    bare = {"fatal error": "fatal", "parse error": "error"}.get(bare, bare)  # PHP's
    if bare.isascii() and bare.isdigit() and 10 <= int(bare) < 70:
        bare = str(int(bare) // 10 * 10)  # pino's own levels, such as 35
    return meant.get(bare)


def _is_plain(name: str) -> bool:
    bare = name.strip(" *").lower()
    return bare in _PLAIN or (len(name) < 4 and name.strip() in LEVELS and bare not in _SHORT)
