"""The head of a line of an unknown layout, step by step: time, level, logger, process, thread.

A line of a sample is looked at in Python; what is found is a list of steps, each a Rust
regex. Lines of one layout have equal steps, so that a layout can be applied to a column.
"""

import re
from dataclasses import dataclass, field, replace

from etl.formats.columns import ungrouped
from etl.formats.parts import (
    BEFORE_LEVEL,
    BLANK,
    CHANNEL,
    DOTTED,
    FACILITY,
    IN_BRACKET,
    LETTER_LATER,
    LETTER_SMALL,
    LEVEL,
    LEVEL_BY_KEY,
    LEVEL_HERE,
    LEVEL_KEY,
    LEVEL_LATER,
    PADDED,
    PARTS,
    PROSE,
    SENTENCE,
    SEPARATED,
    SEPARATOR,
    SLASHED,
    STAMP,
    WEAK,
)

__all__ = ["COLUMN", "Step", "head_pattern", "scan"]

HEAD = 128  # characters within which a time is looked for
LOOK = 320  # characters that are looked at in all


_GLOG = r"[IWEF][0-9]{4,6} [0-9]{2}:"  # whose month and day are one word with the level
_COLUMN = re.compile(r"\w[ \t]{2,}$")  # before a column that is behind another
COLUMN = (0.9, 10)
"""Share and number of lines that make words a column that may as well begin sentences."""
_STOP = re.compile(r":\]?:?\s?|[ \t]*:\s?|[ \t]+-{1,2}[ \t]")  # behind a logger


@dataclass(frozen=True, slots=True)
class Step:
    """One part of a layout.

    Attributes:
        pattern: Rust regex with named groups, from the separators before the part to its end.
        template: The same as text of a template.
        share: Of the lines that have the steps before, those that must have it, too.
        least: How many lines must have it.
    """

    pattern: str
    template: str
    share: float = field(default=0.5, compare=False)
    least: int = field(default=1, compare=False)


def scan(line: str) -> list[Step]:
    """Return the steps of a line's head; none if the line is all message."""
    head = line.partition("\n")[0][:LOOK]
    found = _stamp(head)
    if not found:
        return _tokens(head, 0, set(), is_first=True) or _below(line)
    taken: set[str] = set()
    before = _before(head[: found.start()], taken)
    clock = found.lastgroup == "clock"
    name = "time" if clock else "timestamp"
    shape = f"(?P<{name}>{stamp_shape(found.group())})"
    behind = line[found.end() :].strip(" \t\r])}>|:.-")
    if not behind and before and re.search("[a-z]{2}", LEVEL_HERE.sub("", head[: found.start()])):
        first = _tokens(head, 0, set(), is_first=True)
        text = f"{SEPARATED}(?P<message>\\S[^\\n]{{0,{HEAD}}}?{shape}[^\\w\\n]*)"
        return [*first, Step(text, " {message}", 0)]
    if before is None:
        return [Step(f"(?P<message>[^\\n]{{0,{HEAD}}}?{shape}(?s:.*))", "{message}", 0)]
    step = Step(before.pattern + shape, before.template + f"{{{name}}}", 0)
    steps = [step, *_tokens(head, found.end(), taken, is_first=False)]
    if "level" not in taken and LEVEL_KEY.search(head, found.end()):
        by_key = Step(f"{SEPARATED}(?P<message>{LEVEL_BY_KEY}(?s:.*))", " {message}", 0)
        if re.match("".join(one.pattern for one in [*steps, by_key]), line):
            steps.append(by_key)
    return steps


def _below(line: str) -> list[Step]:
    """Return the step of a record whose time is in one of the lines below its first."""
    found = STAMP.search(line, 0, LOOK) if "\n" in line else None
    if not found or found.lastgroup in ("clock", "epoch"):
        return []
    shape = f"(?P<timestamp>{stamp_shape(found.group())})"
    return [Step(f"(?P<message>(?s:.{{0,{LOOK}}}?){shape}(?s:.*))", "{message}", 0)]


def head_pattern(line: str) -> tuple[str, str] | None:
    """Return the regexes of what is before a line's time, and of the time; None without one."""
    if re.match(_GLOG, line):
        return "", _GLOG
    head = line[:LOOK]
    found = _stamp(head)
    if not found:
        return None
    before = _before(head[: found.start()], set())
    if before is None:
        return None
    text = found.group()
    hour = text.find(":", 5) + 1  # what is before the minutes is enough to know a head by
    prefix = before.pattern.replace(LEVEL, "[A-Za-z]+")
    return ungrouped(prefix), stamp_shape(text[:hour] or text)


def stamp_shape(text: str) -> str:
    """Return the regex of times that are written as this one is."""
    if text.startswith("@"):
        return "@4[0-9a-f]{23}"
    text = re.sub(r"(?<=[.,])[0-9]+(?= |$|Z|[+-]|[A-Z])", "\0", text)  # a fraction
    text = re.sub(r"[A-Za-z]+", lambda m: "\2" if len(m[0]) > 1 else m[0], text)
    text = re.sub(r"[+-](?=[0-9]{2}:?[0-9]{2}$|[0-9]{2}$)", "\3", text)
    text = re.sub(r"[0-9]+", lambda m: "\4" if len(m[0]) < 3 else f"\5{len(m[0])}\6", text)
    pattern = re.escape(text).replace("\\ ", " ")
    pattern = re.sub(" +", " +", pattern)
    for mark, meaning in (
        ("\2", "[A-Za-z]+"),
        ("\3", "[+-]"),
        ("\4", "[0-9]{1,2}"),
        ("\0", "[0-9]+"),
    ):
        pattern = pattern.replace("\\" + mark, meaning).replace(mark, meaning)
    return re.sub("\\\\?\5([0-9]+)\\\\?\6", r"[0-9]{\1}", pattern).replace("\\-", "-")


def _stamp(head: str) -> re.Match[str] | None:
    """Find the first time; or the next if that has a date and a year, and the first has not."""
    found = STAMP.search(head, 0, HEAD)
    if found and found.lastgroup in WEAK:
        later = STAMP.search(head, found.end(), HEAD)
        between = head[found.end() : later.start()] if later else ""
        close = len(between) < 60 and not LEVEL_LATER.search(between)
        if later and later.lastgroup not in WEAK and close and not _is_prose(between):
            return later
        if found.lastgroup in ("epoch", "clock") and _is_prose(head[: found.start()]):
            return None
    return found


def _is_prose(text: str) -> bool:
    words = text.split()
    return len(words) > 8 or sum(bool(PROSE.match(word)) for word in words) > 1


def _literal(text: str) -> str:
    """Return the regex of a separator: blanks around its characters may be any number."""
    marks = [re.escape(mark) for mark in text if not mark.isspace()]
    if not marks:
        return f"{BLANK}+" if text else ""
    return f"{BLANK}*" + f"{BLANK}*".join(marks) + f"{BLANK}*"


def _before(prefix: str, taken: set[str]) -> Step | None:
    """Return the step of what is before a time, or None if that is prose."""
    if _is_prose(prefix) or len(prefix) > 100 or re.search('[={"]', prefix):
        return None
    return _region(prefix, taken)


def _region(text: str, taken: set[str]) -> Step:
    """Return the step of a stretch of a head that ends before something known."""
    pattern, template, at = "", "", 0
    while at < len(text):
        mark = re.compile(r"[\s|,;:=#\[\](){}<>\"'*\-]+").match(text, at)
        group = re.compile(r"\[ *[^\[\]]+\]").match(text, at)
        level = LEVEL_HERE.match(text + " ", at) if "level" not in taken else None
        word = level["word"] if level else ""
        boxed = level and level["open"] and level["close"]
        if level and (word.isupper() or word.islower() or boxed):
            pattern += f"{BLANK}*{_literal(level['open'])}(?P<level>{LEVEL})\\b[*!]*"
            template += level["open"] + "{level}"
            taken.add("level")
            at = level.end("stars")
        elif group:
            content = group[0][1:-1]
            name = "pid" if content.isdigit() and "pid" not in taken else "thread"
            name = name if name not in taken else "rest"
            taken.add(name)
            inner = "[0-9]+" if name == "pid" else r"[^\[\]]*"
            pattern += rf"\[ *(?P<{name}>{inner})\]"
            template += f"[{{{name}}}]"
            at = group.end()
        elif mark:
            pattern += _literal(mark[0])
            template += re.sub(r"\s+", " ", mark[0])
            at = mark.end()
        else:
            joined = BEFORE_LEVEL.match(text, at)  # MainThread::ERROR::
            word = joined[0] if joined else re.findall(r"^[^\s|,;\[\](){}<>\"']+|^.", text[at:])[0]
            bare = word.rstrip(":") or word
            is_logger = re.fullmatch(DOTTED, bare) and "logger" not in taken
            name = "logger" if is_logger else "rest"
            if bare.isdigit() and len(bare) < 9 and not {"pid", "thread"} <= taken:
                name = "thread" if "pid" in taken else "pid"
            taken.add(name)
            inner = "[0-9]+" if name == "pid" else r"[^\s|,;\[\](){}<>\"']+?"
            pattern += f"(?P<{name}>{inner})"
            template += f"{{{name}}}"
            at += len(bare)
    return Step(pattern, template)


def _tokens(head: str, at: int, taken: set[str], *, is_first: bool) -> list[Step]:
    """Return the steps from a place on, after a time or at the beginning of a line."""
    steps: list[Step] = []
    while len(steps) < 8:
        space = SEPARATOR.match(head, at)
        gap = space[0] if space else ""
        if is_first and not steps and gap.strip():
            gap = ""
        here = at + len(gap)
        step, end = _next(head, here, taken, is_first=is_first and not steps)
        if not step:
            break
        pattern = _literal(gap) + step.pattern
        template = re.sub(r"\s+", " ", gap) + step.template
        steps.append(replace(step, pattern=pattern, template=template))
        at = end
        if step.template.endswith((":", " -")):  # the head ends here, or a level is behind
            behind = LEVEL_HERE.match(head, at)
            end = behind.end() if behind and "level" not in taken else len(head)
            if head[end : end + 1] not in (":", "-", "]"):
                break
        if is_first and "level" not in taken:
            break
    return steps


def _next(head: str, at: int, taken: set[str], *, is_first: bool) -> tuple[Step | None, int]:
    """Return the step that begins at a place, and where it ends."""
    if "level" not in taken:
        step, end = _level(head, at, taken, is_first=is_first)
        if step or is_first:
            return step, end
    delimiter = head[at - 1 : at] if at and head[at - 1] in "|\t;," else ""
    delimiter = delimiter or ("|" if head[:at].rstrip().endswith("|") else "")
    if delimiter:
        end = head.find(delimiter, at, at + 60)
        word = head[at:end].strip()
        plain = " " not in word and "=" not in word and word[:1] not in ("{", '"')
        if end >= 0 and word and plain:
            number = word.isdigit() and len(word) < 9
            names = ("pid", "thread", "rest") if number else ("logger", "caller", "thread", "rest")
            name = next(n for n in names if n not in taken or n == "rest")
            taken.add(name)
            stop = re.escape(delimiter)
            inner = "[0-9]+" if name == "pid" else rf"[^{stop}\s](?:[^{stop}\n]*[^{stop}\s])?"
            gone = f"(?P<{name}>{inner})[ ]*{stop}"
            return Step(gone, f"{{{name}}}{delimiter}"), head.index(delimiter, at) + 1
    is_open = head.count("[", 0, at) > head.count("]", 0, at)
    if is_open and "logger" not in taken and (found := IN_BRACKET.match(head, at)):
        taken.add("logger")
        return Step(r"(?P<logger>[^\s\[\]]+)\]", "{logger}]"), found.end()
    in_column = "level" in taken and "logger" not in taken and _COLUMN.search(head, 0, at)
    if in_column and (found := PADDED.match(head, at)):
        taken.add("logger")
        return Step(r"(?P<logger>[A-Za-z_][\w.$-]*)[ \t]{3,}", "{logger}", 0.9), found.end()
    for fields, look, pattern, template in PARTS:
        own = set(fields.split())
        if own & taken - {"rest"} or (look.pattern.startswith(DOTTED) and "level" not in taken):
            continue
        if found := look.match(head, at):
            taken |= own
            ends = template.endswith((":", " -")) and _STOP.match(head, found.end())
            return Step(pattern, template), ends.end() if ends else found.end()
    return None, at


def _level(head: str, at: int, taken: set[str], *, is_first: bool) -> tuple[Step | None, int]:
    """Return the step of a level that is here, or soon behind a few other words."""
    if found := LEVEL_HERE.match(head, at):
        word, after = found["word"], head[found.end("stars") : found.end("stars") + 1]
        boxed = bool(found["open"] and found["close"])
        marked = boxed or after in (":", "|", "\t", "]", "/") or head[at - 1 : at] in ("|", "\t")
        if not is_first or marked or (word.isupper() and len(word) > 2):
            share = 0 if marked or (word.isupper() and len(word) > 2) else 0.5
            least = 1
            is_first_word = word.istitle() and not marked and head[:at].rstrip(" ")[-1:] != "|"
            if is_first_word and re.match(SENTENCE, head[found.end("word") :]):
                share, least = COLUMN  # Error handler installed
            taken.add("level")
            pattern = f"{_literal(found['open'])}(?P<level>{LEVEL})\\b[*!]*{BLANK}*"
            end = found.end("stars")
            end += len(head[end:]) - len(head[end:].lstrip(" \t")) if found["close"] else 0
            template = found["open"] + "{level}"
            name = re.compile(r"/([\w.$-]+)").match(head, end)
            if name:
                name_of = "thread" if found["open"] or not is_first else "logger"
                taken.add(name_of)
                return (
                    Step(
                        f"{pattern}/(?P<{name_of}>[^\\s\\]:(]+)",
                        f"{template}/{{{name_of}}}",
                        share=share,
                    ),
                    name.end(),
                )
            return Step(pattern, template, share, least), end
    for look, fields, template in (
        (CHANNEL, rf"(?P<logger>[\w-]+)\.(?P<level>{LEVEL})", "{logger}.{level}"),
        (FACILITY, rf"[a-z0-7]+\.(?P<level>{LEVEL})", "{level}"),
        (SLASHED, rf"\[(?P<thread>[^\[\]/]+)/(?P<level>{LEVEL})\]", "[{thread}/{level}]"),
    ):
        if found := look.match(head, at):
            taken |= {"level", *found.re.groupindex} - {"word"}
            return Step(fields, template, 0), found.end()
    if not is_first and head[at - 1 : at].isspace() and (found := LETTER_SMALL.match(head, at)):
        taken.add("level")
        return Step("(?P<level>[diwef])", "{level}", share=0.9), found.end()
    return (None, at) if is_first else _level_later(head, at, taken)


def _level_later(head: str, at: int, taken: set[str]) -> tuple[Step | None, int]:
    """Return the step of a level behind a few other words."""
    for look, most in ((LEVEL_LATER, 7), (LETTER_LATER, 3)):
        found = look.search(head, at, at + 100)
        between = head[at : found.start()] if found else ""
        if not found or not between.strip() or len(between.split()) > most or _is_prose(between):
            continue
        inside = set(taken)
        region = _region(between, inside)
        here = LEVEL_HERE.match(head, found.start())
        if here and not head[here.end("stars") :].strip(" \t])}>:|-"):
            continue  # the end of a sentence
        if not here or "level" in inside:
            continue
        taken |= inside | {"level"}
        pattern = f"{region.pattern}{_literal(here['open'])}(?P<level>{LEVEL})\\b[*!]*{BLANK}*"
        share = 0 if here["open"] and here["close"] else 0.2
        template = region.template + here["open"] + "{level}"
        return Step(pattern, template, share), here.end("stars")
    return None, at
