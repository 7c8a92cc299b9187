"""Write what the reference pages say of commands, endpoints and settings, from the package itself.

    python tools/reference.py

In a page of `docs/reference/`, what stands between `<!-- generated: NAME -->` and
`<!-- end -->` is replaced by what the function of that name in `PARTS` returns. `make docs` runs
this first, and a test compares what is there with what it would write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from etl.cli.app import app
from etl.queue import open_queue
from etl.server.app import create_app
from etl.server.service import Service
from etl.settings import Settings

PAGES = Path(__file__).parent.parent / "docs" / "reference"

TYPES = {"int": "N", "float": "N", "path": "PATH", "str": "TEXT"}


def table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table, or nothing if it has no row."""
    lines = [tuple(row) for row in rows]
    every = [head, ("---",) * len(head), *lines] if lines else []
    return "\n".join(f"| {' | '.join(row)} |" for row in every)


def commands() -> str:
    """Return a section for each command, with what it takes."""
    root = get_command(app)
    named = [(f"etl {name}", command) for name, command in root.commands.items()]
    parts = []
    for name, command in named:
        inner = getattr(command, "commands", None)
        parts.append(f"## {name}")
        if inner is None:
            parts += _command(name, command)
            continue
        parts.append(command.help)
        for key, one in inner.items():
            parts += [f"### {name} {key}", *_command(f"{name} {key}", one)]
    return "\n\n".join(filter(None, parts))


def _command(name: str, command: Any) -> list[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    words = [("{}" if one.required else "[{}]").format(_shown(one)) for one in arguments]
    about = command.help.split("\f")[0].strip()
    return [
        re.sub(r"(?<=\n)  +", "", about),
        "```\n" + " ".join([name, "[OPTIONS]", *words]) + "\n```",
        table(("argument", "what it is"), ((f"`{_shown(one)}`", one.help) for one in arguments)),
        table(
            ("option", "what it is", "default"),
            ((_option(one), _about(one), _default(one)) for one in options if one.name != "help"),
        ),
    ]


def _shown(argument: Any) -> str:
    return argument.name.rstrip("_").upper() + ("…" if argument.nargs == -1 else "")


def _option(option: Any) -> str:
    if option.is_flag:
        return ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kind = option.type.name.split()[0]  # "int range" is a kind of "int"
    value = option.metavar or "|".join(getattr(option.type, "choices", ())) or TYPES[kind]
    return f"`{option.opts[0]} {value.replace('|', '/')}`"  # "|" ends a cell


def _about(option: Any) -> str:
    return option.help + (f" Or `{option.envvar}`." if option.envvar else "")


def _default(option: Any) -> str:
    value = option.default
    if option.is_flag:
        return f"`{option.opts[0]}`" if value else ""
    if option.name == "workers" and value == Settings.workers != 1:
        return "one per core"
    return "" if not value or callable(value) else f"`{value}`"


def endpoints() -> str:
    """Return a table of the paths of the HTTP server."""
    service = Service(open_queue("sqlite://"), run="", log=None)  # type: ignore[arg-type]
    schema = create_app(service)._app.openapi()  # type: ignore[attr-defined]  # noqa: SLF001
    rows = (
        (f"`{method.upper()} {path}`", about.get("description", about["summary"]).splitlines()[0])
        for path, methods in schema["paths"].items()
        for method, about in methods.items()
    )
    return table(("endpoint", "what it does"), rows)


def defaults() -> str:
    """Return a table of the defaults and limits that are the same everywhere."""
    about = dict(_attributes(Settings.__doc__ or ""))
    named = [name for name, hint in Settings.__annotations__.items() if "ClassVar" in hint]
    values = {name: f"`{getattr(Settings, name)}`" for name in named} | {"workers": "one per core"}
    return table(
        ("setting", "default", "what it is"),
        ((f"`{name}`", values[name], about[name]) for name in named),
    )


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    for name, about in re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", text, re.MULTILINE):
        yield name, " ".join(about.split())


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "endpoints": endpoints,
    "defaults": defaults,
}


def written(text: str) -> str:
    """Return the text of a page with its generated parts as they should be."""
    return re.sub(
        r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    """Write the pages."""
    for page in sorted(PAGES.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = written(before)
        if after != before:
            page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
