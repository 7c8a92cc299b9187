"""A pipeline as it was at one moment: its nodes, checked and put in order.

Batches run through a `Plan`; a change of the `Pipeline` makes a new one.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from typing import Any, Literal, get_args

import polars as pl

from etl.errors import PipelineError, did_you_mean
from etl.processors.processor import Columns, Sink, Stateful
from etl.processors.retry import Retry
from etl.processors.secrets import mask
from etl.records.result import INPUT

__all__ = ["INPUT", "Node", "OnError", "Plan"]

OnError = Literal["dead-letter", "drop", "stop"]

COUNTED = {"format", "timestamp"}
"""Columns whose first setting says by which formats records were read, and with what times."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One named processor, how rows come to it, and what happens when it fails.

    Attributes:
        name: Its name.
        processor: A function `frame -> frame` or `(frame, batch) -> frame`, or a sink.
        after: Names of what it follows.
        when: Which rows take this branch, or None.
        tee: Whether it gets a copy of the rows.
        retry: How often rows that raise are tried.
        timeout: Seconds that one call may take, or None.
        on_error: What happens to rows that still fail.
    """

    name: str
    processor: Any
    after: tuple[str, ...]
    when: pl.Expr | None = None
    tee: bool = False
    retry: Retry = field(default_factory=lambda: Retry(attempts=1))
    timeout: float | None = None
    on_error: OnError = "dead-letter"

    def __post_init__(self) -> None:
        """Raise PipelineError if the name or an option cannot be used."""
        if problem := next(self._problems(), None):
            raise PipelineError(problem)

    def _problems(self) -> Iterator[str]:
        name, processor, timeout = self.name, self.processor, self.timeout
        if name in ("", INPUT):
            yield f"a processor cannot be named {name!r}; choose another name"
        if not callable(processor) and not self.is_sink:
            yield f"processor {name!r} must be a function from frame to frame, got {processor!r}"
        if inspect.iscoroutinefunction(getattr(processor, "function", processor)):
            yield f"processor {name!r} is async; use a plain function, which may block"
        if not isinstance(self.when, pl.Expr | None):
            yield f"when of {name!r} must be a Polars expression, got {self.when!r}; use pl.col()"
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            yield f"timeout of {name!r} must be seconds > 0, got {timeout!r}"
        if not isinstance(self.retry, Retry):
            yield f"retry of {name!r} must be a Retry, got {self.retry!r}; use Retry(attempts=3)"
        known = get_args(OnError)
        if self.on_error not in known:
            hint = did_you_mean(str(self.on_error), known)
            yield f"on_error={self.on_error!r} is unknown{hint}"

    @cached_property
    def is_sink(self) -> bool:
        """Whether rows end here and are staged rather than passed on."""
        return isinstance(self.processor, Sink)

    @cached_property
    def takes_batch(self) -> bool:
        """Whether the processor has a second parameter without a default."""
        try:
            parameters = inspect.signature(self.processor).parameters.values()
        except (TypeError, ValueError):
            return False
        places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return sum(one.kind in places and one.default is one.empty for one in parameters) > 1

    @cached_property
    def stateful(self) -> Stateful | None:
        """The processor, if it has a state."""
        return self.processor if isinstance(self.processor, Stateful) else None

    @property
    def only_polars(self) -> bool:
        """Whether all work on rows is Polars'; see `processor.only_polars`."""
        places = (self.processor, type(self.processor))  # not a base class
        declared = any("only_polars" in getattr(one, "__dict__", {}) for one in places)
        if self.timeout is not None or not declared:
            return False
        given = [self.when, *getattr(self.processor, "__dict__", {}).values()]
        given += (self.expressions or {}).values()
        return not any(_has_python(one) for one in given if isinstance(one, pl.Expr))

    @property
    def expressions(self) -> Mapping[str, pl.Expr] | None:
        """What the processor makes of columns, row by row, if that is all that it does.

        Columns that begin with `_` are the engine's, which reads them after each processor.
        """
        if self.timeout is not None or type(self.processor) is not Columns:
            return None
        made = self.processor.expressions
        return None if any(name.startswith("_") for name in made) else made

    def source(self) -> str:
        """Return the text that the pipeline's version is made of."""
        when = _text_of(self.when)
        options = (self.name, self.after, when, self.tee, self.retry, self.timeout)
        return f"{options!r} {self.on_error} {_source_of(self.processor)}"


@dataclass(frozen=True)
class Plan:
    """A pipeline as it was at one moment: what a batch runs through.

    Attributes:
        name: The pipeline's name.
        nodes: The nodes by name, in the order in which they were added.
    """

    name: str
    nodes: Mapping[str, Node]

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """The nodes, each after those it follows; sinks last.

        Raises:
            PipelineError: If the nodes do not make a DAG.
        """
        sorter = TopologicalSorter({name: node.after for name, node in self.nodes.items()})
        try:
            sorter.prepare()
        except CycleError as error:
            ring = " → ".join(error.args[1])
            raise PipelineError(
                f"pipeline {self.name!r} has a cycle: {ring}; change one 'after='"
            ) from error
        names: list[str] = []
        while sorter.is_active():
            ready = sorter.get_ready()
            names += sorted(ready, key=[INPUT, *self.nodes].index)
            sorter.done(*ready)
        nodes = (self.nodes[name] for name in names if name != INPUT)
        return tuple(sorted(nodes, key=lambda node: node.is_sink))

    @cached_property
    def children(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that follow each name, in the order in which they were added."""
        names = (INPUT, *self.nodes)
        return {
            name: tuple(node for node in self.nodes.values() if name in node.after)
            for name in names
        }

    @cached_property
    def chains(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that only set columns, two or more in a row, by the name of the first one.

        Not those of columns by which formats are counted, after each processor.
        """
        found: dict[str, tuple[Node, ...]] = {}
        for node in reversed(self.order):
            if node.expressions is not None and not COUNTED & node.expressions.keys():
                found[node.name] = (node, *found.get(self._only_next(node), ()))
        return {name: chain for name, chain in found.items() if len(chain) > 1}

    def _only_next(self, node: Node) -> str:
        """Return the name of what gets all rows of a node and no others; else an empty one."""
        after = self.children[node.name]
        if len(after) != 1 or after[0].after != (node.name,):
            return ""
        return "" if after[0].tee or after[0].when is not None else after[0].name

    @cached_property
    def only_polars(self) -> bool:
        """Whether all work on rows is Polars', in every processor and branch."""
        return all(node.only_polars for node in self.nodes.values())

    @property
    def edges(self) -> list[tuple[str, str]]:
        """The pairs of nodes between which lines go."""
        return [(before, node.name) for node in self.nodes.values() for before in node.after]

    @cached_property
    def version(self) -> str:
        """Twelve hex digits that change when any processor's source or place does."""
        text = "\n".join(node.source() for node in self.nodes.values())
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def stateful(self) -> Mapping[str, Stateful]:
        """The processors that have a state, by name."""
        return {
            name: node.stateful for name, node in self.nodes.items() if node.stateful is not None
        }

    @cached_property
    def masks(self) -> tuple[mask, ...]:
        """What hides secrets, for all text that is kept of lines elsewhere than in outputs."""
        return tuple(
            node.processor.everywhere()
            for node in self.nodes.values()
            if isinstance(node.processor, mask)
        )

    def masked(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return rows as they may be kept and shown: with what `masks` hide replaced."""
        for one in self.masks:
            frame = one(frame)
        return frame

    def masked_text(self, text: str) -> str:
        """Return a text as it may be kept and shown."""
        for one in self.masks:
            text = one.text(text)
        return text

    def with_own_states(self) -> Plan:
        """Return this plan with copies of its stateful processors: this one's do not change."""
        copies = {
            name: replace(self.nodes[name], processor=copy.deepcopy(processor))
            for name, processor in self.stateful.items()
        }
        return Plan(self.name, {**self.nodes, **copies})

    def up_to(self, name: str) -> Plan:
        """Return this plan without what comes after a processor."""
        gone: set[str] = set()
        for node in self.order:
            if gone.union((name,)).intersection(node.after):
                gone.add(node.name)
        kept = {key: node for key, node in self.nodes.items() if key not in gone}
        return Plan(self.name, kept)

    def check(self) -> Plan:
        """Return this plan if it can run.

        Raises:
            PipelineError: If it is empty, names an unknown processor, has a
                cycle, a branch that no line can reach, or a sink that is no leaf.
        """
        if self._problem:
            raise PipelineError(self._problem)
        return self

    @cached_property
    def _problem(self) -> str | None:
        return next(self._problems(), None)

    def _problems(self) -> Iterator[str]:
        if not self.nodes:
            yield f"pipeline {self.name!r} has no processors; add one with .add()"
        for name, node in self.nodes.items():
            if not node.after:
                yield f"processor {name!r} comes after nothing; name its 'after='"
            for parent in node.after:
                if parent not in (INPUT, *self.nodes):
                    hint = did_you_mean(parent, [INPUT, *self.nodes])
                    yield f"unknown processor {parent!r} in after={parent!r}{hint}"
                elif parent != INPUT and self.nodes[parent].is_sink:
                    yield (
                        f"{name!r} comes after {parent!r}, but {parent!r} is a sink and lines end "
                        f"there; put {name!r} after what comes before {parent!r}"
                    )
        self.order  # noqa: B018 - raises if there is a cycle
        for parent, children in self.children.items():
            branches = [node for node in children if not node.tee]
            for first, node in combinations(branches, 2):
                if _text_of(first.when) == _text_of(node.when):
                    same = "no 'when='" if node.when is None else f"the same when={node.when}"
                    yield (
                        f"unreachable branch {node.name!r} after {parent!r}: {first.name!r} comes "
                        f"first and has {same}; give {node.name!r} a 'when=' of its own, or "
                        "tee=True"
                    )


def _source_of(processor: Any) -> str:
    """Return a processor's source, with its settings if it is an object."""
    if isinstance(processor, partial):
        named = sorted((name, _text_of(value)) for name, value in processor.keywords.items())
        settings = f"{[_text_of(value) for value in processor.args]} {named}"
        return f"{_source_of(processor.func)} {settings}"
    kind = processor if inspect.isroutine(processor) else type(processor)
    try:
        text = inspect.getsource(kind)
    except (OSError, TypeError):
        code = getattr(processor, "__code__", None)
        text = f"{code.co_code!r} {code.co_consts!r} {code.co_names!r}" if code else repr(kind)
    return text if kind is processor else f"{text} {_settings(processor)}"


def _settings(processor: Any) -> str:
    """Return the fields that an object was made with, but not what it has counted since."""
    given = getattr(processor, "__dataclass_fields__", {})
    wanted = [name for name, item in given.items() if not callable(item.default_factory)]
    return repr([(name, _text_of(getattr(processor, name))) for name in wanted])


def _has_python(expression: pl.Expr) -> bool:
    """Return whether an expression calls a Python function, or may."""
    try:
        return b"python" in expression.meta.serialize()
    except pl.exceptions.PolarsError:  # a function that cannot be written down
        return True


def _text_of(value: Any) -> str:
    """Return text that is the same for the same setting; `str` of an expression is cut short."""
    if isinstance(value, pl.Expr):
        try:
            return hashlib.sha256(value.meta.serialize()).hexdigest()
        except pl.exceptions.PolarsError:  # it holds a Python function
            return str(value)
    if isinstance(value, Mapping):
        return repr([(key, _text_of(one)) for key, one in value.items()])
    return _source_of(value) if callable(value) else str(value)
