"""What `import etl` costs, what it offers, and which module may know which."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import etl

ROOT = Path(etl.__file__).parent

BASE = {"errors", "settings", "text", "filesystem", "records"}
ENGINE = BASE | {"formats", "processors", "sinks", "pipeline", "execution"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "settings": {"errors"},
    "text": {"errors"},
    "filesystem": set(),
    "records": BASE,
    "formats": BASE,
    "queue": BASE,
    "sources": BASE | {"formats", "queue"},
    "processors": BASE | {"formats"},
    "sinks": BASE | {"processors"},
    "pipeline": BASE | {"processors"},
    "execution": BASE | {"formats", "processors", "pipeline"},
    "dlq": BASE | {"queue", "processors", "pipeline", "execution"},
    "analysis": BASE | {"formats", "queue", "sources"},
    "outputs": BASE | {"processors", "sinks", "queue"},
    "workers": ENGINE | {"queue", "outputs"},
    "runs": ENGINE | {"queue", "sources", "analysis", "outputs", "workers", "store"},
    "testing": ENGINE | {"queue", "sources", "workers"},
    "store": BASE | {"queue", "dlq", "analysis", "outputs"},
    "web": set(),
    "notebook": ENGINE
    | {"queue", "sources", "dlq", "analysis", "workers", "runs", "store"}
    | {"server", "web"},
    "server": ENGINE
    | {"queue", "sources", "dlq", "analysis", "workers", "runs", "store"}
    | {"web"},
    "cli": ENGINE
    | {"queue", "sources", "dlq", "analysis", "workers", "runs", "testing", "store"}
    | {"notebook", "server", "outputs"},
    "default": {"pipeline", "processors", "sinks"},
    "demo": {"pipeline", "processors", "sinks"},
    "__main__": {"cli"},
    "__init__": set(),
}
"""Folder by folder, the folders that it may import; what is not named here may import nothing."""

DELEGATES = {
    "records": {"formats", "sources"},
    "pipeline": {"execution"},
    "testing": {"testing"},
}
"""What functions may load when they are called: a pipeline explains itself by a dry run, and
a batch finds its format by its name, and a reference the file that was renamed."""

HEAVY = (
    "pandas",
    "polars",
    "plotly",
    "IPython",
    "fastapi",
    "structlog",
    "typer",
    "rich",
    "anyio",
    "psycopg",
    "distributed",
)


def folder_of(name: str) -> str:
    """Return the folder that a dotted name belongs to: `etl.queue.sqlite` is of `queue`."""
    return name.split(".")[1] if "." in name else ""


def imported(tree: ast.AST, *, functions: bool) -> set[str]:
    """Return the dotted names that a module imports, but for those only types need.

    Args:
        tree: The module.
        functions: Those inside of functions, rather than those at its top.
    """
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom) and not functions:
            if isinstance(node, ast.Import):
                names |= {one.name for one in node.names}
            elif node.module == "etl":
                names |= {f"etl.{one.name}" for one in node.names}
            else:
                assert node.level == 0, "imports are absolute"
                names.add(node.module or "")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and functions:
            names |= imported(node, functions=False)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names |= imported(node, functions=functions)
    return names


FILES = sorted(ROOT.rglob("*.py"))
MODULES = [path for path in FILES if path != ROOT / "__init__.py"]
OFFERING = [path for path in MODULES if "__all__" in path.read_text()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    tree = ast.parse(path.read_text())
    known, later = (
        {folder_of(name) for name in imported(tree, functions=inside) if name[:4] == "etl."}
        for inside in (False, True)
    )

    assert known - {own} <= MAY_IMPORT[own]
    assert later - {own} <= MAY_IMPORT[own] | DELEGATES.get(own, set())


def test_the_table_of_imports_names_every_folder():
    assert set(MAY_IMPORT) == {
        path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES
    }


def test_the_folders_are_in_an_order_in_which_none_needs_a_later_one():
    TopologicalSorter(
        {own: others - {own} for own, others in MAY_IMPORT.items()}
    ).prepare()  # raises if two need each other


def test_the_top_level_has_few_modules():
    modules = {path.name for path in ROOT.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert len(modules) <= 8


@pytest.mark.parametrize("wing", ["queue", "formats", "processors", "pipeline"])
def test_the_two_wings_do_not_know_each_other(wing: str):
    other = {"pipeline", "execution", "workers", "cli"} if wing == "queue" else {"queue", "workers"}

    assert not MAY_IMPORT[wing] & other


@pytest.mark.parametrize("path", OFFERING, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_offers_names_that_it_has(path: Path):
    dotted = ".".join(("etl", *path.relative_to(ROOT).with_suffix("").parts))
    module = importlib.import_module(dotted.removesuffix(".__init__"))

    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(set(module.__all__)) == len(module.__all__)


def test_a_fresh_import_loads_nothing_heavy():
    code = f"import etl, sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", etl.__all__)
def test_every_public_name_can_be_had(name: str):
    assert getattr(etl, name) is not None
    assert name in dir(etl)


def test_the_names_for_type_checkers_are_the_public_ones():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    names = {
        one.asname: node.module
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for one in node.names
    }

    assert sorted(names) == sorted(etl.__all__)
    assert {name: f"etl.{home}" for name, home in (etl._HOME | etl._MODULES).items()} == names


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'etl' has no attribute 'nope'"):
        etl.nope  # noqa: B018
