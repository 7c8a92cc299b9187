"""The Typer app with all commands, and `main()`, which prints an error as one line.

Exit codes: 0 success, 1 a failed run, 2 a user's mistake, 3 a quality gate of a
batch was not passed. With `--json`, stdout holds one JSON object and nothing else.

A command is a function; its module imports what is slow to load only inside
functions, so that `etl --help` is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Annotated

from typer import Exit, Option, Typer

import etl
from etl.cli import (
    detect,
    dlq,
    listen,
    monitor,
    notebook,
    output,
    run,
    runs,
    store,
    top,
    work,
)
from etl.cli.group import AnyJson, AnyStore, CommandGroup
from etl.cli.loading import exit_fast
from etl.errors import EtlError, GateFailed, UsageError
from etl.text import hide_library_warnings, say

__all__ = ["app", "main"]

COMMANDS = (
    *(detect.detect, detect.formats),
    *(run.run, run.put, listen.listen, work.work, work.serve),
    *(monitor.status, monitor.pause, monitor.resume, monitor.trace, monitor.graph, top.top),
    *(notebook.lab, notebook.app, runs.batch, runs.runs, runs.prune, store.check),
    *(output.query, output.compact),
)
GROUPS = {
    "dlq": (
        "List, replay, discard, reopen, export and import dead letters.",
        (
            *(dlq.list_, dlq.show, dlq.replay, dlq.discard, dlq.reopen),
            *(dlq.export, dlq.import_, dlq.case),
        ),
    ),
    "store": ("Create stores.", (store.init,)),
}


def _group(help: str, commands: Iterable[Callable[..., None]]) -> Typer:
    group = Typer(
        cls=CommandGroup,
        help=help,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in commands:
        group.command(command.__name__.rstrip("_"))(command)
    return group


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer's signature
    if wanted:
        say(f"etl {etl.__version__}")
        raise Exit


Version = Annotated[
    bool,
    Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
]


def _options(version: Version = False, store: AnyStore = None, as_json: AnyJson = False) -> None:
    """Take the options of `etl` itself; the command gets those that are its own, too."""


def _group_options(store: AnyStore = None, as_json: AnyJson = False) -> None:
    """Take the options of a group of commands."""


def _app(commands: Iterable[Callable[..., None]]) -> Typer:
    made = _group("Send log lines through a durable queue and a pipeline.", commands)
    made.callback()(_options)
    return made


app = _app(COMMANDS)
for name, (help, commands) in GROUPS.items():
    group = _group(help, commands)
    group.callback(help=help)(_group_options)
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command line; print an error as one line."""
    hide_library_warnings()
    exit_fast()
    # Typer evaluates the signatures of all commands that it has, which takes 0.02 s
    named = [one for one in COMMANDS if [one.__name__] == sys.argv[1:2]]
    try:
        (_app(named) if named else app)(prog_name="etl")
    except EtlError as error:
        code = 2 if isinstance(error, UsageError) else 3 if isinstance(error, GateFailed) else 1
        _fail(str(error), code)
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("etl"):
            raise
        _fail(f"{error.name} is not installed; run: pip install -e '.[notebook,server]'", 2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _fail(message: str, code: int) -> None:
    say(f"etl: {message}", err=True)
    sys.exit(code)
