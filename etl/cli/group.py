"""A group of commands that takes `--store` and `--json` before the command's name, too."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Option
from typer.core import TyperGroup

__all__ = ["AnyJson", "AnyStore", "CommandGroup"]

AnyStore = Annotated[str | None, Option("--store", help="The same as --store after the command.")]
AnyJson = Annotated[bool, Option("--json", help="The same as --json after the command.")]


class CommandGroup(TyperGroup):
    """Hands its own `--store` and `--json` on to the command, before what that is given itself."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return a command's name, the command, and its arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        store = ctx.params.get("store")
        given = [] if store is None else ["--store", store]
        given += ["--json"] if ctx.params.get("as_json") else []
        return name, command, [*given, *rest]
