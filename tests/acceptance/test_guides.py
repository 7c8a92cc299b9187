"""The tutorial and the how-to guides: every command is given, and says what stands there.

In a guide, a block `sh` is given to a shell, `python` and `toml` with a name in their first line
are written to that file, other `python` runs, `diff` changes a file that is there, and `text` is
what the block before it prints among other lines. Blocks without a language are not run.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from etl import Batch, Worker, open_queue
from etl.demo import dashboard
from etl.server.app import create_app
from etl.server.service import Service

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES = ("alerts", "batches", "format", "processor", "query", "targets", "triage")
FOLLOWED = GUIDES if os.environ.get("ETL_CHAOS_ROUNDS") else ()
"""How-to guides that are followed besides the tutorial; `make chaos` follows all of them."""

RUN = ["tutorial.md", *(f"howto/{name}.md" for name in FOLLOWED)]


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of each block that has a language."""
    text = (DOCS / page).read_text(encoding="utf-8")
    yield from re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def words(text: str) -> str:
    return " ".join(text.split())


class Reader:
    """Somebody who does what a guide says, in an empty folder beside the logs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._said = ""
        programs = str(Path(sys.executable).parent)
        self._environment = os.environ | {
            "PATH": os.pathsep.join([programs, os.environ["PATH"]]),
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "ETL_RUNS": str(folder / "runs"),
            "PYTEST_ADDOPTS": "-p no:cacheprovider",
        }

    def take(self, language: str, text: str) -> None:
        """Do what a block says."""
        name = re.match(r"# (\S+\.\w+)\n", text)
        if name:
            (self._folder / name[1]).write_text(text, encoding="utf-8")
        elif language == "sh":
            self._run("bash", "-euc", text)
        elif language == "python":
            self._run(sys.executable, "-c", text)
        elif language == "diff":
            self._change(text)
        elif language == "text":
            missing = [line for line in text.splitlines() if words(line) not in self._said]
            assert missing == [], self._said
        else:
            pytest.fail(f"a block of {language} is none of those that can be run")

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        self._said = words(done.stdout + done.stderr)

    def _change(self, text: str) -> None:
        old, new = (line[1:] for line in text.splitlines())
        (file,) = [one for one in self._folder.glob("*.py") if old in one.read_text()]
        file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize("page", RUN)
def test_a_reader_gets_what_the_guide_says(page: str, tmp_path: Path):
    shutil.copytree(ROOT / "data", tmp_path / "data", ignore=shutil.ignore_patterns("runs"))
    folder = tmp_path
    if page == "tutorial.md":
        folder = tmp_path / "tutorial"
        folder.mkdir()
    reader = Reader(folder)
    taken = [reader.take(language, text) for language, text in blocks(page)]
    assert len(taken) > 3


def test_the_alerts_ask_for_metrics_that_the_server_has():
    queue = open_queue("sqlite://")
    queue.put(Batch.from_lines(["INFO a", "CRITICAL b"]))
    Worker(queue, dashboard).drain()
    server = httpx.ASGITransport(create_app(Service(queue, run="", log=None), hosts=["here"]))

    async def ask() -> str:
        async with httpx.AsyncClient(transport=server, base_url="http://here") as client:
            return (await client.get("/metrics")).raise_for_status().text

    known = set(re.findall(r"^(etl_\w+)", asyncio.run(ask()), re.MULTILINE))
    page = (DOCS / "howto" / "alerts.md").read_text(encoding="utf-8")
    (rules,) = [text for name, text in blocks("howto/alerts.md") if "alert:" in text]
    alerts = yaml.safe_load(rules)["groups"][0]["rules"]
    assert len({one["alert"] for one in alerts}) == len(alerts) > 1
    named = set(re.findall(r"\b(etl_(?:line|lines|queue|processor|workers)\w*)", page))
    assert named - known == set()
    queue.close()


def test_the_flows_of_the_schedulers_give_commands_that_exist(parse_command):
    flows = [text for language, text in blocks("howto/batches.md") if "def nightly" in text]
    assert len(flows) == 2
    for flow in flows:
        lists = [node for node in ast.walk(ast.parse(flow)) if isinstance(node, ast.List)]
        (command,) = [[ast.unparse(word).strip("'") for word in one.elts] for one in lists]
        assert command[0] == "etl"
        parse_command(command[1:])
