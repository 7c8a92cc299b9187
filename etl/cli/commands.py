"""Commands that a person can paste: this installation's, with words as a shell takes them."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import etl
from etl.settings import Settings

__all__ = ["etl_command", "etl_with", "python_code", "quoted", "relative", "work_command"]


def etl_command(verb: str, *words: str, store: str | None = None) -> str:
    """Return a call of `etl` that works in the shell in which this one was called.

    Args:
        verb: Its subcommand, such as `dlq list`.
        words: Options and arguments; each is quoted.
        store: Path or URL of the store that it is for.
    """
    beside = Path(sys.executable).with_name("etl")
    name = _on_path("etl") or (_place(beside) if beside.exists() else f"{_python()} -m etl")
    named = [] if store is None else ["--store", relative(store)]
    return " ".join([name, verb, *map(quoted, [*words, *named])])


def etl_with(extra: str, module: str, command: str) -> str:
    """Return a command, after the installation of an extra of etl if a module of it is missing."""
    root = Path(etl.__file__).parents[1]
    if find_spec(module) or not (root / "pyproject.toml").exists():
        return command
    place = _place(root) if root != Path.cwd() else "."
    return f"{_python()} -m pip install -q -e {quoted(f'{place}[{extra}]')} && {command}"


def work_command(url: str) -> str:
    """Return the command that processes a store with the pipeline that it was last run with."""
    from etl.runs.registry import last_pipeline

    pipeline = last_pipeline(url) or Settings.pipeline
    named = [] if pipeline == Settings.pipeline else ["--pipeline", pipeline]
    return etl_command("work", "--drain", *named, store=url)


def python_code(code: str) -> str:
    """Return a call of the Python that etl is installed in, with code of one line."""
    return f"{_python()} -c {quoted(code)}"


def relative(place: str) -> str:
    """Return a path or a store's URL as people read it: relative, if it is below this folder."""
    from etl.queue.urls import file_of

    path, here = file_of(place), Path.cwd()
    return str(path.relative_to(here) if path and path.is_relative_to(here) else path or place)


def quoted(text: str) -> str:
    """Return a text as one word for a shell, in one line that can be copied from a terminal."""
    if not text.isprintable():  # bash's and zsh's way to write a tab
        escaped = text.replace("\\", "\\\\").replace("'", "\\'")
        return "$'" + re.sub("[^ -~]", lambda char: _escape(char[0]), escaped) + "'"
    return (
        f'"{text}"'
        if re.search("[ {']", text) and not re.search(r'["$`!\\]', text)
        else shlex.quote(text)
    )


def _escape(char: str) -> str:
    if char == "\t":
        return "\\t"
    if "\udc80" <= char <= "\udcff":  # a byte of a name that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else f"\\U{ord(char):08x}"


def _python() -> str:
    """Return how the Python is called that etl is installed in."""
    return _on_path("python") or _on_path("python3") or _place(Path(sys.executable))


def _on_path(name: str) -> str:
    """Return a program's name if a shell finds that of this installation by it, else nothing."""
    found = shutil.which(name)
    own = Path(sys.executable).parent.resolve()
    ours = found and own in (Path(found).parent.resolve(), Path(found).resolve().parent)
    return name if ours else ""


def _place(path: Path) -> str:
    """Return a path as one word for a shell, relative to the current folder if it is below it."""
    return quoted(relative(str(path)))
