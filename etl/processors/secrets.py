"""Replace secrets in text by their kind: keys, tokens, passwords, card numbers, addresses.

The patterns are meant to find what programs write by mistake, not what somebody hides: text
that is encoded once more, or a password in a sentence, is not found. Whole columns are
searched at once; rows in which nothing looks like a secret cost one search for literals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl

from etl.errors import PipelineError, did_you_mean
from etl.processors.processor import only_polars

__all__ = ["SecretKind", "mask"]

SecretKind = Literal["private_key", "token", "password", "card", "email"]

NAMES = (
    r"(?:passw(?:or)?d|passphrase|passwd|pwd|secret|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|account[_-]?key|encryption[_-]?key|token|authorization|credentials?|session[_-]?id)"
)
"""What a name has in it whose value is secret."""

KEY = NAMES + r"\d*(?:[_.-][\w.-]*)?"
"""The end of such a name: `db_password`, `secret_access_key`, `api-key.prod`."""

SECRET_NAME = re.compile(rf"{KEY}$", re.IGNORECASE)

IS = r"\s*(?:[:=]|=>)\s*"

QUOTED = r"""(?:(\\+["'])[^"'\\]*|(")(?:[^"\\]|\\.)*|(')(?:[^'\\]|\\.)*)"""
"""A value in quotes, up to the closing one; the opening one is captured."""

BARE = r"""(?:(?:bearer|basic|digest|token)\s+)?[^\s,;&"'<>(){}\[\]\\]+"""


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What is replaced, by what, and literals of which at least one is in every such text."""

    regex: str
    by: str
    literals: tuple[str, ...]

    def replace(self, texts: pl.Series) -> pl.Series:
        """Return texts with what this finds replaced."""
        return texts.str.replace_all(self.regex, self.by)


PASSWORDS = (
    *("passw", "pwd", "passphrase", "secret", "token", "authorization", "credential"),
    *(
        f"{word}{dash}{what}"
        for word, what in (
            ("api", "key"),
            ("access", "key"),
            ("private", "key"),
            ("account", "key"),
            ("encryption", "key"),
            ("session", "id"),
        )
        for dash in ("", "_", "-")
    ),
)
"""Literals of `NAMES`."""

TOKENS = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "npm_", "xox", "xapp-"),
    *("k_live_", "k_test_", "sk-", "AIza", "hf_", "SG."),
)
"""How the tokens of some services begin."""

PATTERNS: Mapping[SecretKind, tuple[_Pattern, ...]] = {
    "private_key": (
        _Pattern(
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?"
            r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
            "<private_key>",
            ("PRIVATE KEY",),
        ),
    ),
    "token": (
        _Pattern(
            r"\b(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z0-9]{16}\b",
            "<token>",
            ("AKIA", "ASIA", "ABIA", "ACCA", "AROA", "AIDA"),
        ),
        _Pattern(r"\beyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)*", "<token>", ("eyJ",)),
        _Pattern(
            r"\b(?:gh[pousr]_\w{16,}|github_pat_\w{20,}|glpat-[\w-]{16,}|npm_\w{30,}"
            r"|xox[a-z]-[\w-]{8,}|xapp-[\w-]{8,}|[sr]k_(?:live|test)_\w{10,}|sk-[\w-]{20,}"
            r"|AIza[\w-]{30,}|hf_\w{20,}|SG\.[\w-]{10,}\.[\w-]{10,})",
            "<token>",
            TOKENS,
        ),
        _Pattern(r"(?i)\b(bearer)\s+[\w.~+/=-]{8,}", "$1 <token>", ("bearer",)),
    ),
    "password": (
        _Pattern(rf"(?i)({KEY}\\*[\"']?{IS}){QUOTED}", "${1}${2}${3}${4}<password>", PASSWORDS),
        _Pattern(rf"(?i)({KEY}(\\*[\"']){IS})-?\d[\d.eE+-]*", "${1}${2}<password>${2}", PASSWORDS),
        _Pattern(rf"(?i)({KEY}{IS}){BARE}", "${1}<password>", PASSWORDS),
        _Pattern(rf"(?i)(--?(?:[\w-]*-)?{KEY}\s+)[^\s<-]\S*", "${1}<password>", PASSWORDS),
        _Pattern(r"(\w://[^\s/:@\"']*:)[^\s/@\"'<]+@", "${1}<password>@", ("://",)),
    ),
    "email": (_Pattern(r"[\w.%+-]+@[\w-]+(?:\.[\w-]+)+", "<email>", ("@",)),),
}
"""The patterns of each kind but cards, in the order in which they are replaced."""

LONG_NUMBER = r"[0-9 -]{13}"
"""What any text with a card number has in it."""

CARD = r"\b[2-6][0-9](?:[ -]?[0-9]){11,17}\b"
"""What may be a card number: 13 to 19 digits, in groups or not."""

BRANDS = (
    r"^(?:4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d+"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|(?:6(?:011|4[4-9]|5\d|2\d)|35[2-8]\d)\d+)$"
)
"""Digits with which card numbers of the usual brands begin, and how many they have then."""

LEFT_ALONE = {"source", "format"}
"""Columns of the pipeline's own, which no log line has written."""


@only_polars
@dataclass(frozen=True)
class mask:  # noqa: N801 - a verb, like a function
    """Replace secrets in text by their kind, such as `<email>`.

    Where a pipeline has this, all that is kept of its lines elsewhere is masked as well: dead
    letters, also of lines that failed before they came here, traces, errors, what taps and
    `explain` show. Text in a column whose name says that it is secret (`password`) is replaced
    as a whole; numbers in it, and numbers that are card numbers, become null.

    Args:
        columns: Names of the columns to mask; by default all that hold text.
        kinds: What to replace: private_key, token (of AWS, GitHub, Slack, Google, JWT, Bearer
            and the like), password (values of keys such as `api_key=`, and in URLs), card
            (with a valid check digit), email.
        patterns: Further kinds: a name, which is shown, and a Rust regex.

    Raises:
        PipelineError: If there is no such kind, or a regex cannot be used.
    """

    columns: Sequence[str] | None = None
    kinds: Sequence[SecretKind] = get_args(SecretKind)
    patterns: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        for kind in self.kinds:
            if kind not in get_args(SecretKind):
                hint = did_you_mean(str(kind), get_args(SecretKind))
                raise PipelineError(f"mask: unknown kind {kind!r}{hint}")
        for name, regex in (self.patterns or {}).items():
            try:
                pl.Series([""]).str.contains(regex)
            except (pl.exceptions.PolarsError, TypeError) as error:
                why = str(error).split("\n", maxsplit=1)[0]
                raise PipelineError(f"mask: the pattern {name!r} cannot be used: {why}") from error

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows with their secrets replaced."""
        names = [name for name in frame.columns if self._is_meant(name)]
        return frame.with_columns(self._column(frame[name]) for name in names)

    def everywhere(self) -> mask:
        """Return this mask for all columns: what is kept of lines has no other text."""
        return mask(kinds=self.kinds, patterns=self.patterns)

    def text(self, text: str) -> str:
        """Return a text with its secrets replaced."""
        return str(self.texts(pl.Series([text]))[0])

    def texts(self, texts: pl.Series) -> pl.Series:
        """Return a String column with its secrets replaced."""
        literals = [one for pattern in self._patterns() for one in pattern.literals]
        if literals:
            texts = _where(texts, _has_any(texts, literals), self._replace)
        if "card" in self.kinds:
            texts = _where(texts, texts.str.contains(LONG_NUMBER), _without_cards)
        for name, regex in (self.patterns or {}).items():
            texts = texts.str.replace_all(regex, f"<{name}>".replace("$", "$$"))
        return texts

    def _patterns(self) -> list[_Pattern]:
        return [pattern for kind in self.kinds for pattern in PATTERNS.get(kind, ())]

    def _replace(self, texts: pl.Series) -> pl.Series:
        """Return texts, each of which has one of the literals, with what patterns find replaced."""
        for one in self._patterns():
            found = _has_any(texts, one.literals)
            texts = _where(texts, found, one.replace)
        return texts

    def _is_meant(self, name: str) -> bool:
        if self.columns is not None:
            return name in self.columns
        return not name.startswith("_") and name not in LEFT_ALONE

    def _column(self, values: pl.Series) -> pl.Series:
        """Return a column of any type with its secrets replaced."""
        dtype = values.dtype
        if isinstance(dtype, pl.Struct):
            fields = map(self._column, values.struct.unnest().get_columns())
            masked = pl.when(values.is_not_null()).then(pl.struct(*fields))
            return pl.select(masked.alias(values.name)).to_series()
        if isinstance(dtype, pl.List):
            each = pl.element().map_batches(self._column, return_dtype=dtype.inner)
            return values.list.eval(each)
        if isinstance(dtype, pl.Categorical | pl.Enum):
            values = values.cast(pl.String)
        if values.dtype == pl.String:
            return self._texts_of(values)
        return self._numbers_of(values) if values.dtype.is_numeric() else values

    def _texts_of(self, texts: pl.Series) -> pl.Series:
        if not self._is_secret(texts):
            return self.texts(texts)
        given = texts.str.len_bytes() > 0
        return _where(texts, given, lambda few: few.clear(few.len()).fill_null("<password>"))

    def _numbers_of(self, numbers: pl.Series) -> pl.Series:
        """Return numbers with null for those that are secret."""
        if self._is_secret(numbers):
            return numbers.clear(numbers.len())
        if "card" not in self.kinds or not numbers.dtype.is_integer():
            return numbers
        large = numbers.cast(pl.Float64) >= 1e12
        return _where(numbers, large, lambda few: few.set(_is_card(few.cast(pl.String)), None))

    def _is_secret(self, values: pl.Series) -> bool:
        """Return whether a column's name says that its values are secret."""
        return "password" in self.kinds and SECRET_NAME.search(values.name) is not None


def _where(
    texts: pl.Series, found: pl.Series, change: Callable[[pl.Series], pl.Series]
) -> pl.Series:
    """Return a column with those rows changed for which `found` is true."""
    places = found.fill_null(value=False).arg_true()
    if places.is_empty():
        return texts
    return texts.scatter(places, change(texts.gather(places)))


def _has_any(texts: pl.Series, literals: Sequence[str]) -> pl.Series:
    return texts.str.contains_any(list(literals), ascii_case_insensitive=True)


def _without_cards(texts: pl.Series) -> pl.Series:
    """Return texts with card numbers replaced."""
    candidates = texts.str.contains(CARD)
    found = (
        texts.filter(candidates)
        .str.extract_all(CARD)
        .explode(empty_as_null=False, keep_nulls=False)
        .unique()
    )
    cards = found.filter(_is_card(found.str.replace_all(r"[ -]", "")))
    if cards.is_empty():
        return texts
    return texts.str.replace_many(dict.fromkeys(cards, "<card>"), leftmost=True)


def _is_card(digits: pl.Series) -> pl.Series:
    """Return which digits begin as a card number does and have its check digit (Luhn)."""
    padded = pl.col("digits").str.zfill(19)
    place = [padded.str.slice(index, 1).cast(pl.Int32, strict=False) for index in range(19)]
    doubled = [(digit * 2) // 10 + (digit * 2) % 10 for digit in place[1::2]]
    total = pl.sum_horizontal(*place[0::2], *doubled)
    good = pl.col("digits").str.contains(BRANDS) & (total % 10 == 0)
    return digits.to_frame("digits").select(good).to_series()
