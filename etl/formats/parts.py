"""What the parts of a head look like: levels, processes, threads, loggers, separators.

`scan` looks for them in lines of an unknown layout, in Python; the patterns that it puts
together of them are Rust's.
"""

import re
from typing import Any, cast

from etl.formats.levels import LETTERS, UPPER_WORDS, WORDS
from etl.formats.stamps import STAMP as STAMP_TEXT
from etl.formats.stamps import STAMP_END, STAMP_START

__all__ = [
    "BEFORE_LEVEL",
    "BLANK",
    "CHANNEL",
    "DOTTED",
    "FACILITY",
    "IN_BRACKET",
    "LETTER_LATER",
    "LETTER_SMALL",
    "LEVEL",
    "LEVEL_BY_KEY",
    "LEVEL_HERE",
    "LEVEL_KEY",
    "LEVEL_LATER",
    "PADDED",
    "PARTS",
    "PROSE",
    "SENTENCE",
    "SEPARATED",
    "SEPARATOR",
    "SLASHED",
    "STAMP",
    "WEAK",
]


class _Lazy:
    """A regex that is compiled when it is first used: to compile all takes 30 ms of each start."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(self._pattern)
        for method in ("match", "search", "sub"):
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def lazy(pattern: str) -> re.Pattern[str]:
    """Return what takes the place of a compiled regex."""
    return cast("re.Pattern[str]", _Lazy(pattern))


_WORD = "|".join(WORDS)
_CAPITAL = "|".join(word.capitalize() for word in WORDS)
_UPPER = "|".join(
    sorted({word.upper() for word in WORDS} | set(UPPER_WORDS), key=lambda w: -len(w))
)
_END = r"(?=[\s:|,;!\[\])}>/\-]|$)"
_ANY_LEVEL = rf"(?:{_UPPER}|{_CAPITAL}|{_WORD})"
LEVEL = rf"(?:(?i:{_WORD})|{'|'.join(UPPER_WORDS)}|[{LETTERS}])"
BLANK = r"[ \t]"
STAMP = lazy(STAMP_START + STAMP_TEXT + STAMP_END)
WEAK = {"epoch", "clock", "two_numbers", "bd", "db", "short"}
_NAME = r"[A-Za-z_$][\w$]*"
DOTTED = rf"{_NAME}(?:(?:\.|::|\\|/){_NAME})+"
_NO_LOGGER = r"(?!https?:|\w*(?:Error|Exception|Warning)\b)"
_SOURCE = r"[\w./\\-]+\.(?:c|cc|cpp|cs|go|h|java|js|kt|php|py|rb|rs|scala|ts):[0-9]+"

SEPARATOR = lazy(
    r"[\])}>\"']*[ \t]*(?:(?:[|,;]|(?::(?!:)|-{1,3}>?|=>)(?=[ \t\[(<{|A-Z0-9]|$))[ \t]*)?"
    r"(?:-{1,3}[ \t]+)?"
)
LEVEL_HERE = lazy(
    rf"(?P<open>(?:##)?[\[(<{{]?) *(?P<word>{_ANY_LEVEL}|[{LETTERS}](?=[\s|!\])>/]|:(?![0-9])))"
    rf"(?P<stars>\**){_END}(?P<close> *[\])}}>])?"
)
FACILITY = lazy(rf"(?:kern|user|mail|daemon|auth|authpriv|cron|local[0-7])\.(?P<word>{_WORD})(?= )")
CHANNEL = lazy(rf"(?P<logger>[\w-]+)\.(?P<word>{_ANY_LEVEL})(?=:)")
LEVEL_LATER = lazy(
    rf"(?:^|(?<=[\s\[(<|):\-]))(?:(?:{_UPPER})\**{_END}|[\[(<](?:{_ANY_LEVEL}) *[\])>]"
    rf"|(?:{_WORD}|{_CAPITAL})(?=: )|(?:{_CAPITAL})(?= \[))"
)
LEVEL_KEY = lazy(rf"\b(?:level|severity|lvl)=\"?(?:{_ANY_LEVEL})\b")
LEVEL_BY_KEY = rf"[^\n]{{0,300}}?\b(?:level|severity|lvl)=\"?(?P<level>{LEVEL})\b"
SEPARATED = r"[\])}>\"']?[ \t]*(?:[|:;,-]+[ \t]+)?"
IN_BRACKET = lazy(r"[A-Za-z_][\w.:/$-]*\]")
"""A word that ends a bracket in which time and level are."""
BEFORE_LEVEL = lazy(rf"[^\s:]+(?=::(?:{_UPPER})\b)")
LETTER_LATER = lazy(r"(?<=\s)(?:(?:[DWEFV]|I(?! (?:am|will|have|can|do)\b))(?=\s)|\[[DIWEFT]\])")
LETTER_SMALL = lazy(r"[diwef](?=[ \t]+[A-Za-z_\[(])")
SLASHED = lazy(rf"\[(?P<name>[^\[\]/]{{1,60}})/(?P<word>{_UPPER})\]")
PADDED = lazy(r"[A-Za-z_][\w.$-]{0,40}(?=[ \t]{3,}\S)")
"""A word of a column: several blanks are behind it."""
SENTENCE = r" [a-z][a-z'-]*[.,;!?]?(?:\s|$)"
"""What is behind the first word of a sentence, and behind no level in capitalised form."""
PROSE = lazy(r"[a-z]{2,}[.,]?$")

# What may follow time or level: fields, what it looks like, its pattern, its text in a template.
# The first whose fields are not taken yet wins. Those that end with a mark end the head.
PARTS: tuple[tuple[str, re.Pattern[str], str, str], ...] = tuple(
    (fields, lazy(look), pattern, template)
    for fields, look, pattern, template in (
        ("pid", r"\[#?[0-9]{1,8}\]", r"\[#?(?P<pid>[0-9]+)\]", "[{pid}]"),
        ("pid", r"\[pid[ :=]*[0-9]+\]", r"\[pid[ :=]*(?P<pid>[0-9]+)\]", "[pid {pid}]"),
        ("pid", r"[0-9]{1,8}(?= +---)", "(?P<pid>[0-9]+)", "{pid}"),
        ("thread", r"<[0-9]{1,8}>", r"<(?P<thread>[0-9]+)>", "<{thread}>"),
        ("pid", r"<[0-9]{1,8}>", r"<(?P<pid>[0-9]+)>", "<{pid}>"),
        ("thread", r"<[0-9]+\.[0-9]+\.[0-9]+>", r"<(?P<thread>[0-9.]+)>", "<{thread}>"),
        ("caller", rf"\{{{_SOURCE}\}}", r"\{(?P<caller>[^\s{}]+)\}", "{{{caller}}}"),
        ("caller", rf"\[{_SOURCE}\]", r"\[(?P<caller>[^\s\[\]]+:[0-9]+)\]", "[{caller}]"),
        ("caller", rf"{_SOURCE}(?=[\s\]:])", r"(?P<caller>[^\s\[\]:]+:[0-9]+)", "{caller}"),
        ("logger", rf"\[{DOTTED} *\]", r"\[(?P<logger>[A-Za-z_$][^\s\[\]]*) *\]", "[{logger}]"),
        ("thread", r"\[ *[^\[\]\"*]{1,60}\]", r"\[ *(?P<thread>[^\[\]\"*]*)\]", "[{thread}]"),
        ("rest", r"\[ *[^\[\]\"*]{1,60}\]", r"\[ *(?P<rest>[^\[\]\"*]*)\]", "[{rest}]"),
        ("thread", r"\([^()]{1,40}\)(?= )", r"\((?P<thread>[^()]*)\)", "({thread})"),
        (
            "logger pid",
            r"[^\s\[\]:]{1,60}\[[0-9]+\](?=:)",
            r"(?P<logger>[^\s\[\]:]+)\[(?P<pid>[0-9]+)\]:",
            "{logger}[{pid}]:",
        ),
        (
            "logger",
            rf"{_NO_LOGGER}[A-Za-z_$][\w$./\\:@-]{{0,80}}?(?=[ \t]*:[ \t]|:$)",
            r"(?P<logger>[^\s\[\](){}|]+?)[ \t]*:(?:\s|$)",
            "{logger}:",
        ),
        (
            "logger",
            r"[A-Za-z_$][\w$./\\:@-]{0,80}(?= +-{1,2} )",
            r"(?P<logger>[^\s\[\](){}|]+)[ \t]+-{1,2}[ \t]",
            "{logger} -",
        ),
        ("logger", rf"{DOTTED}(?=[\s\]])", r"(?P<logger>[A-Za-z_$][^\s\[\](){}|]*)", "{logger}"),
        # after a level directly, without a blank: INFO:root:message
        ("logger", r":[A-Za-z_$][\w$.-]{0,60}(?=:)", r":(?P<logger>[^\s:]+):", ":{logger}:"),
    )
)
