"""Processors that only set columns, several at once: in a row, or on branches that merge again.

Step by step each branch gets its rows, and where branches merge they are put back in order. If
no processor on a branch does more than say what it makes of a column (`expressions`), it is
enough to note for each row which branch it takes. Those in a row are one query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from etl.execution.routing import RoutedRows
from etl.pipeline.plan import Node, Plan

__all__ = ["Branches", "branches_after", "set_columns", "where"]


@dataclass(frozen=True)
class Branches:
    """Some branches of one processor, each of one node, and the node where all of them merge.

    Attributes:
        nodes: The nodes.
        merge: What comes after each of them, and after nothing else.
    """

    nodes: tuple[Node, ...]
    merge: Node

    def take(self, routed: RoutedRows) -> tuple[RoutedRows, list[pl.Series]]:
        """Return rows as they come to the merge, and the `_row` of those on each branch.

        Raises:
            PolarsError: If a condition cannot be evaluated, or an expression.
        """
        (path,) = routed.paths
        frame, rows = routed.frame, routed.frame["_row"]
        if not rows.is_sorted():  # a processor has changed their order, and a merge restores it
            frame = frame.sort("_row", maintain_order=True)
            rows = frame["_row"]
        places = self._places(frame)
        taken = pl.Series("_path", [0], pl.UInt32).new_from_index(0, len(rows))
        for number, its in enumerate(places):
            if number and len(its):
                taken = taken.scatter(its, number)
        for node, its in zip(self.nodes, places, strict=True):
            if node.expressions and len(its):
                frame = _with_columns(frame, its, node.expressions)
        paths = tuple((*path, node.name) for node in self.nodes)
        return RoutedRows(frame.hstack([taken]), paths), [rows[its] for its in places]

    def _places(self, frame: pl.DataFrame) -> list[pl.Series]:
        """Return the places of the rows that take each branch: the first whose condition holds."""
        rest = pl.int_range(frame.height, dtype=pl.UInt32, eager=True)
        found = {}
        for node in self.nodes:
            if node.when is None:
                continue
            holds = where(_needed(frame, [node.when])[rest], node.when)
            found[node.name], rest = rest.filter(holds), rest.filter(~holds)
        return [found.get(node.name, rest) for node in self.nodes]


def branches_after(plan: Plan, name: str) -> Branches | None:
    """Return the branches after a processor; None if their rows must be parted step by step."""
    nodes = plan.children[name]
    after = [plan.children[node.name] for node in nodes]
    if len(nodes) < 2 or any(len(one) != 1 for one in after):
        return None
    merge = after[0][0]
    one_rest = [node.when is None for node in nodes].count(True) == 1
    simple = all(not node.tee and _names_columns(node) for node in nodes)
    alone = {*merge.after} == {node.name for node in nodes}
    if not (one_rest and simple and alone) or merge.when is not None or merge.tee:
        return None
    return Branches(nodes, merge)


def where(frame: pl.DataFrame, when: pl.Expr) -> pl.Series:
    """Return for each row whether a condition holds, also one that is the same for all."""
    return frame.with_columns(when.fill_null(value=False).alias("_when"))["_when"]


def _names_columns(node: Node) -> bool:
    """Return whether a node only sets columns, from columns that are named and not selected."""
    if node.expressions is None:
        return False
    used = [*node.expressions.values(), *([] if node.when is None else [node.when])]
    return not any(one.meta.has_multiple_outputs() for one in used)


def _needed(frame: pl.DataFrame, expressions: Iterable[pl.Expr]) -> pl.DataFrame:
    """Return the columns that expressions name; all if they name none."""
    named = [name for one in expressions for name in one.meta.root_names()]
    return frame[[name for name in frame.columns if name in named] or frame.columns]


def _with_columns(
    frame: pl.DataFrame, places: pl.Series, expressions: Mapping[str, pl.Expr]
) -> pl.DataFrame:
    """Return rows of which those at some places have what expressions make of them."""
    some = _needed(frame, expressions.values())[places]
    made = some.with_columns(one.alias(name) for name, one in expressions.items())
    at = pl.int_range(frame.height, dtype=pl.UInt32, eager=True)
    at = at.scatter(places, pl.int_range(len(places), dtype=pl.UInt32, eager=True) + frame.height)
    return frame.with_columns(
        pl.concat([frame[name], made[name]], rechunk=True).gather(at) for name in expressions
    )


def set_columns(nodes: Sequence[Node], frame: pl.DataFrame) -> pl.DataFrame:
    """Return rows with the columns that processors set, one after the other.

    Raises:
        PolarsError: If an expression cannot be evaluated, or gives no value for each row.
    """
    query = frame.lazy()
    for node in nodes:
        query = query.with_columns(**(node.expressions or {}))
    # Also a column that is set again later is made: it may fail.
    made = query.collect(optimizations=pl.QueryOptFlags.none())
    if made.height != frame.height:
        raise pl.exceptions.ShapeError(f"{made.height} values for {frame.height} rows")
    return made
