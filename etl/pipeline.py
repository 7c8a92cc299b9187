"""The DAG of processors: build it, change it while it runs, check it, draw it.

    pipeline = (
        Pipeline("errors")
        .add("parse", Parse())
        .add("warn", upper("message"), when=pl.col("level") == "WARNING")
        .add("rest", after="parse")
        .add("end", Parquet(), after=("warn", "rest"))
    )

Adding a name that exists replaces its processor, and a running worker takes
the new one at its next batch. How a batch runs through it is in `runner.py`.
"""

from __future__ import annotations

import hashlib
import html
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import polars as pl

from etl.errors import PipelineError, UsageError, did_you_mean
from etl.processors import Retry, Sink

if TYPE_CHECKING:
    from etl.explain import Explanation
    from etl.lines import Batch, Outcome

__all__ = ["INPUT", "Node", "Pipeline", "Plan", "load_pipeline"]

INPUT = "input"
"""The name that stands for the batch itself in `after=`."""

OnError = Literal["dead-letter", "drop", "stop"]

_UNSET: Any = object()


def passing(frame: pl.DataFrame) -> pl.DataFrame:
    """Pass rows on unchanged: the processor of a step that only branches or merges."""
    return frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One named processor and how lines come to it."""

    name: str
    processor: Any
    after: tuple[str, ...]
    when: pl.Expr | None = None
    tee: bool = False
    retry: Retry = field(default_factory=lambda: Retry(attempts=1))
    timeout: float | None = None
    on_error: OnError = "dead-letter"

    @property
    def is_sink(self) -> bool:
        """Whether rows end here and are staged rather than passed on."""
        return isinstance(self.processor, Sink)

    def source(self) -> str:
        """Return the text that the pipeline's version is made of."""
        when = _text_of(self.when)
        options = (self.name, self.after, when, self.tee, self.retry, self.timeout)
        return f"{options!r} {self.on_error} {_source_of(self.processor)}"


@dataclass(frozen=True)
class Plan:
    """A pipeline as it was at one moment, checked and put in order: what a batch runs through."""

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
                f"pipeline {self.name!r} goes in a circle: {ring}; change one 'after='"
            ) from error
        added = {name: place for place, name in enumerate(self.nodes)}
        names: list[str] = []
        while sorter.is_active():
            ready = sorter.get_ready()
            names += sorted((name for name in ready if name != INPUT), key=added.__getitem__)
            sorter.done(*ready)
        return tuple(sorted(map(self.nodes.__getitem__, names), key=lambda node: node.is_sink))

    @cached_property
    def children(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that follow each name, in the order in which they were added."""
        names = (INPUT, *self.nodes)
        return {
            name: tuple(node for node in self.nodes.values() if name in node.after)
            for name in names
        }

    @cached_property
    def version(self) -> str:
        """Twelve hex digits that change when any processor's source or place does."""
        text = "\n".join(node.source() for node in self.nodes.values())
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def check(self) -> Plan:
        """Return this plan if it can run.

        Raises:
            PipelineError: If it is empty, names an unknown processor, has a
                cycle, a branch that no line can reach, or a sink that is not a leaf.
        """
        if not self.nodes:
            raise PipelineError(f"pipeline {self.name!r} has no processors; add one with .add()")
        for node in self.nodes.values():
            if not node.after:
                raise PipelineError(
                    f"processor {node.name!r} comes after nothing; name its 'after='"
                )
            for parent in node.after:
                self._check_parent(node, parent)
        self.order  # noqa: B018 - raises if there is a cycle
        for name, children in self.children.items():
            _check_branches(name, children)
        return self

    def _check_parent(self, node: Node, parent: str) -> None:
        if parent != INPUT and parent not in self.nodes:
            hint = did_you_mean(parent, [INPUT, *self.nodes])
            raise PipelineError(f"unknown processor {parent!r} in after={parent!r}{hint}")
        if parent != INPUT and self.nodes[parent].is_sink:
            raise PipelineError(
                f"{node.name!r} comes after {parent!r}, but {parent!r} is a sink and lines end "
                f"there; put {node.name!r} after what comes before {parent!r}"
            )


class Pipeline:
    """A named DAG of processors.

    Args:
        name: Shown in drawings and kept with runs.
    """

    def __init__(self, name: str = "pipeline") -> None:
        self.name = name
        self._plan = Plan(name, {})

    def add(
        self,
        name: str,
        processor: Any = _UNSET,
        *,
        after: str | Iterable[str] = _UNSET,
        when: pl.Expr | None = _UNSET,
        tee: bool = _UNSET,
        retry: Retry = _UNSET,
        timeout: float | None = _UNSET,
        on_error: OnError = _UNSET,
    ) -> Any:
        """Add a processor, or replace the one of that name and keep its place.

        Returns this pipeline, or, without a processor, a decorator:
        `@pipeline.add("fix", after="parse")`. Options that are not given keep
        their value when a processor is replaced.

        Args:
            name: The processor's name: not empty, and not "input".
            processor: A callable frame -> frame, a sink, or None to pass rows on.
            after: Name or names that it follows; by default the one added
                last, for the first one "input".
            when: Only rows where this holds take this branch. A row goes to
                the first branch whose `when` holds, else to the one without.
            tee: Give this branch a copy of the rows; they go on elsewhere as well.
            retry: How often rows that raise are tried; by default once.
            timeout: Seconds that one call may take.
            on_error: What becomes of rows that still fail: "dead-letter",
                "drop" (filtered), or "stop" (the batch is given back and the
                queue paused).

        Raises:
            PipelineError: If the name or an option cannot be used.
        """
        options: dict[str, Any] = {
            "after": (after,) if isinstance(after, str) else after,
            "when": when,
            "tee": tee,
            "retry": retry,
            "timeout": timeout,
            "on_error": on_error,
        }
        options = {key: value for key, value in options.items() if value is not _UNSET}
        if processor is _UNSET:
            return partial(self._decorate, name, options)
        chosen = passing if processor is None else processor
        _check_node(name, chosen, options)
        nodes = dict(self._plan.nodes)
        if name in nodes:
            nodes[name] = replace(nodes[name], processor=chosen, **options)
        else:
            options.setdefault("after", (next(reversed(nodes), INPUT),))
            nodes[name] = Node(name=name, processor=chosen, **options)
        self._plan = Plan(self.name, nodes)
        return self

    def _decorate(self, name: str, options: dict[str, Any], function: Any) -> Any:
        self.add(name, function, **options)
        return function

    def plan(self) -> Plan:
        """Return the pipeline as it is now, checked.

        Raises:
            PipelineError: If it cannot run; see `Plan.check`.
        """
        return self._plan.check()

    @property
    def version(self) -> str:
        """Twelve hex digits that change when any processor's source or place does."""
        return self._plan.version

    def __getitem__(self, name: str) -> Node:
        """Return the node of a name."""
        try:
            return self._plan.nodes[name]
        except KeyError:
            hint = did_you_mean(name, self._plan.nodes)
            raise PipelineError(f"unknown processor {name!r}{hint}") from None

    def run(self, batch: Batch) -> Outcome:
        """Run one batch and throw away what its sinks staged: for tests and trials."""
        from etl.runner import Runner

        return Runner(self).trial(batch)

    def explain(self, line: str | bytes, *, format: str | None = None) -> Explanation:
        """Run one line with no side effects and show it before and after every hop."""
        from etl.explain import explain

        return explain(self, line, format=format)

    def to_mermaid(self) -> str:
        """Return the DAG as a Mermaid flowchart."""
        ids = {name: f"n{number}" for number, name in enumerate((INPUT, *self._plan.nodes))}
        lines = ["flowchart LR", f"    {ids[INPUT]}([{INPUT}])"]
        for node in self._plan.nodes.values():
            left, right = ("[(", ")]") if node.is_sink else ("[", "]")
            lines.append(f"    {ids[node.name]}{left}{_label(node.name)}{right}")
        for node in self._plan.nodes.values():
            arrow = "-.->" if node.tee else "-->"
            label = "" if node.when is None else f"|{_label(_short(node.when))}|"
            lines += [
                f"    {ids[parent]} {arrow}{label} {ids[node.name]}"
                for parent in node.after
                if parent in ids
            ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        names = ", ".join(self._plan.nodes) or "empty"
        return f"<Pipeline {self.name}: {names}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{_cell(node.name)}</td><td>{_cell(', '.join(node.after))}</td>"
            f"<td>{_cell('' if node.when is None else _short(node.when))}"
            f"{' (copy)' if node.tee else ''}</td><td>{_cell(_describe(node.processor))}</td></tr>"
            for node in self._plan.nodes.values()
        )
        return (
            f"<table><caption>{_cell(self.name)} · version {self.version}</caption><thead><tr>"
            "<th>processor</th><th>after</th><th>when</th><th>what</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )


def load_pipeline(target: str) -> Pipeline:
    """Import a pipeline by `module:attr` or `path/to/file.py:attr`.

    `attr` is a `Pipeline`, or a function without arguments that returns one.

    Raises:
        UsageError: If there is no such module or attribute, or it is something else.
    """
    module_name, colon, attribute = target.rpartition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(f"pipeline {target!r} is not 'module:attr'; for example etl.demo:levels")
    try:
        module = _import(module_name, target)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        raise UsageError(
            f"pipeline {target!r} cannot be imported: there is no module {error.name!r}; run from "
            "its folder, or name a file"
        ) from error
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise UsageError(f"pipeline {target!r} cannot be imported: {why}") from error
    try:
        found = getattr(module, attribute)
    except AttributeError:
        names = [key for key, value in vars(module).items() if isinstance(value, Pipeline)]
        hint = did_you_mean(attribute, names)
        raise UsageError(f"module {module_name!r} has no {attribute!r}{hint}") from None
    if not isinstance(found, Pipeline) and callable(found):
        try:
            found = found()
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise UsageError(f"{target!r} makes no Pipeline: {why}") from error
    if not isinstance(found, Pipeline):
        kind = type(found).__name__
        raise UsageError(f"{target!r} is a {kind}, not a Pipeline; name a Pipeline or a function")
    found.plan()
    return found


def _import(name: str, target: str) -> Any:
    if name.endswith(".py"):
        path = Path(name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise UsageError(f"pipeline {target!r}: there is no file {name!r}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _check_node(name: str, processor: Any, options: dict[str, Any]) -> None:
    if not name or name == INPUT:
        raise PipelineError(f"a processor cannot be named {name!r}; choose another name")
    if not callable(processor) and not isinstance(processor, Sink):
        raise PipelineError(
            f"processor {name!r} is {processor!r}, which cannot be called; give a function "
            "from frame to frame"
        )
    if "after" in options:
        options["after"] = tuple(options["after"])
    known = get_args(OnError)
    on_error = options.get("on_error", known[0])
    if on_error not in known:
        raise PipelineError(f"on_error={on_error!r} is unknown{did_you_mean(str(on_error), known)}")


def _check_branches(parent: str, children: tuple[Node, ...]) -> None:
    """Refuse a branch that no line can take: its rows all go to an earlier one."""
    earlier: list[Node] = []
    for node in children:
        if node.tee:
            continue
        for other in earlier:
            if _same_condition(node.when, other.when):
                what = "has no 'when='" if node.when is None else f"has the same when={node.when}"
                raise PipelineError(
                    f"unreachable branch {node.name!r} after {parent!r}: {other.name!r} comes "
                    f"first and {what}; give {node.name!r} a 'when=' of its own, or tee=True"
                )
        earlier.append(node)


def _same_condition(one: pl.Expr | None, other: pl.Expr | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.meta.eq(other)


def _source_of(processor: Any) -> str:
    """Return a processor's source, and its settings if it is an object."""
    if isinstance(processor, partial):
        settings = f"{processor.args} {sorted(processor.keywords.items())}"
        return f"{_source_of(processor.func)} {settings}"
    kind = processor if inspect.isroutine(processor) else type(processor)
    try:
        text = inspect.getsource(kind)
    except (OSError, TypeError):
        code = getattr(processor, "__code__", None)
        text = f"{code.co_code!r} {code.co_consts!r} {code.co_names!r}" if code else repr(kind)
    return text if kind is processor else f"{text} {_settings(processor)}"


def _settings(processor: Any) -> str:
    """Return the fields that an object was made with; what it has counted since is not in it."""
    given = getattr(processor, "__dataclass_fields__", {})
    wanted = [name for name, item in given.items() if not callable(item.default_factory)]
    return repr([(name, _text_of(getattr(processor, name))) for name in wanted])


def _text_of(value: Any) -> str:
    """Return text that is the same for the same setting; that of an expression is cut short."""
    if isinstance(value, pl.Expr):
        try:
            return hashlib.sha256(value.meta.serialize()).hexdigest()
        except pl.exceptions.PolarsError:  # it holds a Python function
            return str(value)
    return _source_of(value) if callable(value) else str(value)


def _describe(processor: Any) -> str:
    function = getattr(processor, "function", processor)
    name = getattr(function, "__name__", type(processor).__name__)
    return f"each {name}" if function is not processor else name


def _short(expression: pl.Expr) -> str:
    return re.sub(r"col\(\"(\w+)\"\)|\[|\]", r"\1", str(expression))


def _label(text: str) -> str:
    return '"' + html.escape(text, quote=True).replace("\n", " ") + '"'


def _cell(text: str) -> str:
    return html.escape(text, quote=True)
