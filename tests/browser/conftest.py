"""A real JupyterLab or Voilà, and a real Chromium to look at it. Nothing else can be reached."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "01_control_room.ipynb"

SHOTS = Path(os.environ.get("ETL_SCREENSHOTS", ROOT / "data" / "runs" / "screenshots"))
"""Where the tests leave pictures of what they saw."""

ONLY_HERE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", ONLY_HERE]

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
    "docmanager-extension/plugin": {"autosave": False},
}


class Server:
    """A server process with its own settings, on a free port."""

    def __init__(self, kind: str, home: Path, root: Path, *arguments: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.token, self.root = f"http://127.0.0.1:{port}", secrets.token_hex(8), root
        for name, values in SETTINGS.items():
            file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        own = {
            f"JUPYTER{name}": str(home / name.lower())
            for name in ("_CONFIG_DIR", "_DATA_DIR", "_RUNTIME_DIR", "LAB_WORKSPACES_DIR")
        }
        own |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "IPYTHONDIR": str(home / "ip")}
        own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own["ETL_STORE"] = f"sqlite:///{home / 'store.db'}"
        command = [sys.executable, "-m", kind, "--no-browser", f"--port={port}", *arguments]
        if kind == "jupyterlab":
            command += [
                "--allow-root",
                "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.root_dir={root}",
                f"--IdentityProvider.token={self.token}",
                "--LabApp.expose_app_in_browser=True",
                "--LabApp.news_url=None",
                "--LabApp.extension_manager=readonly",
            ]
        self._log = (home / "server.log").open("wb")
        self._process = subprocess.Popen(
            command,
            env=os.environ | own,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait(home / "server.log")

    def _wait(self, log: Path) -> None:
        for _ in range(600):
            assert self._process.poll() is None, log.read_text()[-3000:]
            with contextlib.suppress(OSError):
                try:
                    urllib.request.urlopen(  # noqa: S310 - our own
                        f"{self.url}/api?token={self.token}", timeout=1
                    ).close()
                except urllib.error.HTTPError as error:
                    error.close()
                return
            time.sleep(0.1)
        pytest.fail(log.read_text()[-3000:])

    def stop(self) -> None:
        """End the server and its kernels."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.3 if number == signal.SIGINT else 10)
                break
        self._log.close()


class Screen:
    """A page that shows a notebook, and what a person or a test does there."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("requestfailed", lambda request: self.problems.append(request.url[:200]))
        page.on("pageerror", lambda error: self.problems.append(f"{error}"[:300]))
        page.on("response", self._look)
        page.on("console", self._hear)

    def _look(self, response: object) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status} {response.request.method} {response.url}")

    def _hear(self, message: object) -> None:
        if message.type == "error":
            self.problems.append(message.text[:300])

    def open(self, server: Server, name: str) -> None:
        """Open a notebook as a single document and wait for its kernel."""
        self.page.goto(f"{server.url}/doc/tree/{name}?reset&token={server.token}")
        self.page.wait_for_selector(".jp-Notebook", timeout=60_000)
        self.page.evaluate(
            """async () => { const panel = jupyterapp.shell.currentWidget;
            await panel.context.ready; await panel.sessionContext.ready;
            await panel.sessionContext.session.kernel.info; }"""
        )

    def run_all(self) -> None:
        """Run every cell; none may fail."""
        assert self.page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        self.wait_for_console()

    def wait_for_console(self) -> None:
        """Wait until the console and its chart are there."""
        self.page.wait_for_selector(".etl-room .js-plotly-plot .main-svg", timeout=60_000)

    def run(self, code: str, *, wait: bool = True) -> str:
        """Run code in the kernel, beside the cells; return the repr of its `_`, if set there."""
        return self.page.evaluate(
            """async ([code, wait]) => {
            const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const future = kernel.requestExecute({ code, store_history: false,
                user_expressions: { v: "_" } });
            if (!wait) return "";
            const v = (await future.done).content;
            return v.user_expressions?.v?.data?.["text/plain"] ?? v.evalue ?? ""; }""",
            [code, wait],
        )

    def click(self, name: str) -> None:
        """Click the console's button of that name."""
        self.page.locator(f".etl-room button:has-text('{name}')").first.click()

    def total(self, name: str) -> str:
        """Return a number of the header."""
        return self.page.locator(f".etl-figure b[data-name='{name}']").inner_text()

    def wait_total(self, name: str, value: str, timeout: float = 20_000) -> None:
        """Wait until a number of the header is this."""
        selector = f".etl-figure b[data-name='{name}']"
        self.page.wait_for_function(
            "([selector, value]) => document.querySelector(selector)?.textContent === value",
            arg=[selector, value],
            timeout=timeout,
        )

    def wait_bars(self, *values: int, timeout: float = 20_000) -> None:
        """Wait until the chart shows these numbers of DEBUG, INFO, WARNING, … lines."""
        self.page.wait_for_function(
            """values => { const bars = document.querySelector('.js-plotly-plot')?.data?.[0];
            return bars?.y && Array.from(bars.y).join() === values.join(); }""",
            arg=list(values),
            timeout=timeout,
        )

    def shoot(self, name: str) -> None:
        """Take a picture of the page."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(400)
        self.page.screenshot(path=SHOTS / f"{name}.png")


@pytest.fixture(scope="session")
def browser() -> Iterator[BrowserContext]:
    """Start Chromium."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "these tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def screen(browser: BrowserContext) -> Iterator[Screen]:
    """Give a fresh page on which nothing goes wrong and nothing is asked of another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 1560})
    shown = Screen(context.new_page())
    yield shown
    in_lab = "/doc/tree/" in shown.page.url
    context.close()
    # Voilà's page asks a CDN for icons that it has, and its own goodbye is refused by its server.
    known = ("fontawesome", "ERR_NAME_NOT_RESOLVED", "/voila/api/shutdown/", "403 (Forbidden)")
    allowed = () if in_lab else known
    assert [text for text in shown.problems if not any(one in text for one in allowed)] == []


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start JupyterLab on an empty folder."""
    root = tmp_path_factory.mktemp("notebooks")
    server = Server("jupyterlab", tmp_path_factory.mktemp("lab"), root)
    yield server
    server.stop()


@pytest.fixture
def control_room(lab: Server) -> str:
    """Give the name of a copy of the control room's notebook."""
    name = f"{secrets.token_hex(4)}.ipynb"
    shutil.copy(NOTEBOOK, lab.root / name)
    return name


@pytest.fixture
def notebook(lab: Server) -> Callable[..., str]:
    """Make a notebook of some cells and give its name."""

    def make(*cells: str) -> str:
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
        made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        name = f"{secrets.token_hex(4)}.ipynb"
        nbformat.write(made, lab.root / name)
        return name

    return make


@pytest.fixture
def voila(tmp_path: Path) -> Iterator[Server]:
    """Start Voilà on a copy of the control room's notebook, with a store that survives."""
    copy = shutil.copy(NOTEBOOK, tmp_path / "room.ipynb")
    home = tmp_path / "home"
    home.mkdir()
    ways = (str(copy), "--Voila.ip=127.0.0.1", "--VoilaConfiguration.show_tracebacks=True")
    server = Server("voila", home, tmp_path, *ways)
    yield server
    server.stop()
