"""What `import etl` costs, what it offers, and which module may know which."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import etl

ROOT = Path(etl.__file__).parent

LOW = {"errors", "lines"}
ENGINE = LOW | {"formats", "processors", "flow", "isolate", "ledger"}
PIPELINE = ENGINE | {"explain", "pipeline", "plan", "runner", "tap"}
STORE = LOW | {"life", "queue"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "life": set(),
    "lines": LOW,
    "formats": LOW,
    "processors": LOW | {"formats"},
    "flow": LOW | {"processors"},
    "isolate": LOW | {"flow", "processors"},
    "ledger": ENGINE,
    "plan": LOW | {"processors"},
    "pipeline": PIPELINE,
    "runner": PIPELINE,
    "explain": PIPELINE | {"sinks"},
    "tap": LOW | {"flow", "frames"},
    "sinks": LOW | {"processors"},
    "queue": STORE,
    "dlq": STORE | {"frames", "plan"},
    "comparison": STORE | {"frames", "registry"},
    "metrics": STORE | {"comparison", "frames"},
    "traces": STORE | {"frames"},
    "sources": STORE,
    "lineage": STORE | {"frames", "sources", "traces"},
    "templates": LOW | {"frames"},
    "figures": {"sinks"},
    "worker": PIPELINE | STORE | {"sinks"},
    "registry": STORE | {"frames"},
    "prune": STORE | {"registry"},
    "rooms": {"batch", "errors", "queue", "registry"},
    "processes": STORE | {"sinks", "worker"},
    "logs": LOW | {"sinks"},
    "server": STORE | {"dlq", "formats", "logs", "metrics", "processes", "traces"},
    "default": PIPELINE | {"sinks"},
    "testing": PIPELINE | STORE | {"sinks", "sources", "worker"},
    "cases": PIPELINE | {"sinks", "testing"},
    "pytest_plugin": {"cases", "errors", "queue", "testing"},
    "demo": PIPELINE | {"sinks"},
}
"""Module by module, the modules that it may import; one that is not here may import any."""

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
)


def room(name: str) -> str:
    """Return the module that a dotted name belongs to: `etl.queue.sqlite` is of `queue`."""
    return name.split(".")[1] if "." in name else ""


def imported(tree: ast.AST) -> set[str]:
    """Return the dotted names that a module imports, but for those only types need."""
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "etl":
            names |= {f"etl.{one.name}" for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
        else:
            names |= imported(node)
    return names


FILES = sorted(ROOT.rglob("*.py"))
MODULES = [path for path in FILES if path != ROOT / "__init__.py"]
OFFERING = [path for path in MODULES if path.stem not in ("__main__", "cli")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    known = {room(name) for name in imported(ast.parse(path.read_text())) if name[:4] == "etl."}

    assert known - {own} <= MAY_IMPORT.get(own, known)


def test_the_table_of_imports_names_modules_that_exist():
    found = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES}

    assert set(MAY_IMPORT) <= found


@pytest.mark.parametrize("wing", ["queue", "formats", "processors", "pipeline"])
def test_the_two_wings_do_not_know_each_other(wing: str):
    other = {"pipeline", "runner", "worker", "cli"} if wing == "queue" else {"queue", "worker"}

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
    assert {name: f"etl.{home}" for name, home in etl._HOME.items()} == names


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'etl' has no attribute 'nope'"):
        etl.nope  # noqa: B018
