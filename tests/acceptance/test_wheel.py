"""A wheel has all that etl needs: it is installed apart and started in an empty folder."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
TOKEN = secrets.token_hex(8)


class Installed:
    """etl from a wheel, in an environment that has the packages of this one beside it.

    Attributes:
        folder: Where its commands are started.
    """

    def __init__(self, home: Path) -> None:
        build = [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "-t",
            "wheel",
            "-d",
            str(home / "dist"),
        ]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True, env=own_environment())
        (wheel,) = (home / "dist").glob("*.whl")
        self._bin, self.folder = home / "venv" / "bin", home / "empty"
        venv.create(home / "venv", symlinks=True)
        python = self._bin / "python"
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps"]
        install += ["--no-index", "--disable-pip-version-check", str(wheel)]
        subprocess.run(install, check=True, capture_output=True, env=own_environment())
        (site,) = (home / "venv" / "lib").glob("*/site-packages")
        # A path in a .pth file comes after the wheel's; .pth files there are not read, and so
        # not that of an editable install of the checkout.
        (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        self.folder.mkdir()

    def command(self, *words: str) -> list[str]:
        """Return the command line of a command of the wheel."""
        return [str(self._bin / "etl"), *words]

    def run(self, *words: str, python: bool = False) -> str:
        """Run a command, or Python with arguments, which has to succeed; return what it prints."""
        line = [str(self._bin / "python"), *words] if python else self.command(*words)
        done = subprocess.run(
            line,
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return an environment that leads to no checkout, but to the files of Jupyter."""
        data = Path(sysconfig.get_path("data"), "share", "jupyter")
        home = {
            f"JUPYTER_{name}_DIR": str(self.folder.parent / name) for name in ("CONFIG", "DATA")
        }
        home |= {"IPYTHONDIR": str(self.folder.parent / "ipython"), "JUPYTER_TOKEN": TOKEN}
        return (
            own_environment() | home | {"JUPYTER_PATH": str(data), "JUPYTERLAB_DIR": f"{data}/lab"}
        )

    @contextmanager
    def serving(self, *words: str) -> Iterator[httpx.Client]:
        """Start a server with a command, yield a client of it, and end it with Ctrl-C."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            self.command(*words, f"--port={port}", "--no-browser"),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        address = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"token {TOKEN}"}
        retries = httpx.HTTPTransport(retries=12)  # waits longer each time
        try:
            with httpx.Client(
                base_url=address, headers=headers, timeout=120, transport=retries
            ) as client:
                yield client
        finally:
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert "Traceback" not in said


def own_environment() -> dict[str, str]:
    """Return this environment without what names a checkout, a store or a folder of runs."""
    names = ("PYTHONPATH", "VIRTUAL_ENV", "ETL_STORE", "ETL_RUNS")
    return {name: value for name, value in os.environ.items() if name not in names}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


def test_what_is_imported_comes_from_the_wheel(installed: Installed):
    where = "import etl, importlib.metadata as m; print(etl.__file__, m.version('etl'))"
    file, version = installed.run("-c", where, python=True).split()
    assert Path(file).is_relative_to(installed.folder.parent / "venv")
    assert version == __import__("etl").__version__


def test_a_run(installed: Installed):
    lines = [f"2026-01-01 00:00:0{n},000 INFO shop: order {n}" for n in range(5)]
    (installed.folder / "app.log").write_text("\n".join(lines) + "\n")
    assert json.loads(installed.run("run", "app.log", "--json"))["done"] == 5


def test_a_batch_of_its_sample_logs(installed: Installed):
    installed.run("batch", "--out", "today")
    assert (installed.folder / "today" / "report.html").stat().st_size > 10_000
    done = json.loads((installed.folder / "today" / "run.ipynb").read_text())
    assert [
        one for cell in done["cells"] for one in cell.get("outputs", []) if "ename" in one
    ] == []


def test_lab_opens_with_the_notebook_run(installed: Installed):
    with installed.serving("lab") as client:
        assert client.get("/etl/has-run").status_code == 204
        (room,) = installed.folder.glob("data/runs/*/01_control_room.ipynb")
        page = client.get(f"/lab/tree/{room.relative_to(installed.folder)}")
        assert page.status_code == 200
        assert "etl-console" in page.text
        script = client.get("/lab/extensions/etl-console/static/console.js")
        assert script.status_code == 200
        cells = json.loads(room.read_text())["cells"]
        outputs = [one for cell in cells for one in cell.get("outputs", [])]
        assert [one for one in outputs if "ename" in one] == []
        assert any("widget-view" in kind for one in outputs for kind in one.get("data", ()))
        assert len(list(room.parent.glob("*.ipynb"))) == 5


def test_the_page_shows_the_console(installed: Installed):
    with installed.serving("app") as client:
        page = client.get("/")
        assert page.status_code == 200
        assert re.search(r"cell-output\+json.*widget-view", page.text)
        assert client.get("/voila/static/voila.js").status_code == 200
