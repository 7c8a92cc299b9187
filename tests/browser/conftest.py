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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import nbformat
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as TookTooLong

from etl import open_queue

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "01_control_room.ipynb"

SHOTS = Path(os.environ.get("ETL_SCREENSHOTS", ROOT / "data" / "runs" / "screenshots"))
"""Where the tests leave pictures of what they saw."""

ONLY_HERE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", ONLY_HERE]

SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "docmanager-extension/plugin": {"autosave": False},
}

WATCH = """window.started = []; addEventListener('animationstart', (event) =>
    window.started.push([event.animationName, performance.now()]), true);"""
"""Keeps what animations have really started, and when."""

SOCKETS = """window.sockets = [];
    window.WebSocket = class extends WebSocket { constructor(...given) {
        if (window.leaving) return { close() {} };
        super(...given); window.sockets.push(this); }
    send(message) { if (!window.leaving) super.send(message); } };"""
"""Keeps the page's connections to kernels; while it is left it renews none and sends nothing."""

BARS = """() => { const bars = document.querySelector('.js-plotly-plot')?.data?.[0];
    return bars && { x: bars.x && Array.from(bars.x), has: Object.keys(bars) }; }"""
"""Returns the numbers of the chart's bars, and what else Plotly knows of them."""

HANG_UP = """async () => { window.leaving = true;
    await Promise.all(window.sockets.filter((one) => one.readyState < WebSocket.CLOSED).map(
        (one) => new Promise((done) => { one.addEventListener("close", done); one.close(); })));
    return window.sockets.length; }"""
"""Closes them, and returns once the server has answered: it writes to none of them any more."""

LAB = (
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.extension_manager=readonly",
)


class Server:
    """`etl lab` or `etl app` with its own settings, on a free port, in a checkout of its own.

    Args:
        command: `lab` or `app`.
        home: Where it is started; what is there already takes the place of the checkout's.
        more: Further options of Jupyter's server.
        options: Further options of the command.

    Attributes:
        url: Where it is; `opened` is what it had a browser open.
        root: Its folder.
    """

    def __init__(self, command: str, home: Path, *more: str, options: Sequence[str] = ()) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._address = ("127.0.0.1", port)
        self.url, self.token = f"http://127.0.0.1:{port}", secrets.token_hex(8)
        self.root, self._opened = home, home / "opened"
        (home / "data").mkdir()  # where it keeps its runs, too
        samples = [f"data/{path.name}" for path in (ROOT / "data").glob("*.*l*")]
        for name in ("etl", "notebooks", *samples):
            if not (home / name).exists():
                (home / name).symlink_to(ROOT / name)
        open_queue(str(home / "store.db")).close()
        for name, values in SETTINGS.items():
            file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        browser = home / "browser.sh"
        browser.write_text('printf "%s" "$1" > "$0.part"; mv "$0.part" "${0%/*}/opened"')
        own = {
            f"JUPYTER{name}": str(home / name.lower())
            for name in ("_CONFIG_DIR", "_DATA_DIR", "_RUNTIME_DIR", "LAB_WORKSPACES_DIR")
        }
        own |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "IPYTHONDIR": str(home / "ip")}
        own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own |= {"ETL_RUNS": str(home / "data" / "runs"), "PYTHONPATH": str(home)}
        own |= {"BROWSER": f"/bin/sh {browser} %s"}
        line = [sys.executable, "-m", "etl", command, f"--port={port}", "--store=store.db"]
        line += options
        self.log = home / "server.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*line, "--", *more, *(LAB if command == "lab" else ())],
                cwd=home,
                env=os.environ | own | {"JUPYTER_TOKEN": self.token},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        for _ in range(600):
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            with contextlib.suppress(OSError), socket.create_connection(self._address, 1):
                return
            time.sleep(0.1)
        pytest.fail(self.log.read_text()[-3000:])

    @property
    def opened(self) -> str:
        """Wait for the address that a browser was given, and return it."""
        for _ in range(600):
            if self._opened.exists():
                return self._opened.read_text()
            time.sleep(0.1)
        pytest.fail(f"no browser was opened: {self.log.read_text()}")

    def kernels(self) -> list[int]:
        """Return the ids of the processes that run notebooks."""
        listed = subprocess.run(
            ["ps", "--no-headers", "-o", "pid,args", "--ppid", str(self._process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = listed.stdout.splitlines()
        return [int(line.split()[0]) for line in lines if "ipykernel" in line]

    @property
    def room(self) -> Path:
        """Return the copy of the control room's notebook."""
        (found,) = (self.root / "data" / "runs").glob("*/01_control_room.ipynb")
        return found

    def wait_for_run(self) -> None:
        """Wait until the copy of the notebook is saved with what its cells show."""
        for _ in range(600):
            cells = nbformat.read(self.room, as_version=4).cells
            if all(cell.execution_count for cell in cells if cell.cell_type == "code"):
                return
            time.sleep(0.1)
        pytest.fail(f"the notebook has not run: {self.log.read_text()}")

    @property
    def room_url(self) -> str:
        """Return where the control room is in JupyterLab."""
        path = self.room.relative_to(self.root)
        return f"{self.url}/lab/tree/{path}?token={self.token}"

    def end_kernels(self) -> None:
        """End all kernels, as a person does with JupyterLab's list of them."""
        headers = {"Authorization": f"token {self.token}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=60) as client:
            for kernel in client.get("/api/kernels").raise_for_status().json():
                client.delete(f"/api/kernels/{kernel['id']}").raise_for_status()

    def wait_for_kernels(self, count: int) -> None:
        """Wait until so many notebooks run."""
        for _ in range(300):
            if len(self.kernels()) == count:
                return
            time.sleep(0.1)
        pytest.fail(f"{self.kernels()} run, not {count}")

    @property
    def said(self) -> str:
        """Wait for the address that `etl app` prints, and return all that it has printed."""
        for _ in range(300):
            if "Ctrl-C" in (text := self.log.read_text()):
                return text
            time.sleep(0.1)
        pytest.fail(f"no address was printed: {self.log.read_text()}")

    def interrupt(self, number: int = signal.SIGINT) -> int:
        """Press Ctrl-C, or send another signal, and return the exit code."""
        if number == signal.SIGINT:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)
        return self._process.wait(30)

    def stop(self) -> None:
        """End the server and its kernels, whatever state they are in."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
                break


class Screen:
    """A page that shows a notebook, and what a person or a test does there."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        page.add_init_script(WATCH)
        page.add_init_script(SOCKETS)
        page.on("requestfailed", self._note_failed)
        page.on("pageerror", lambda error: self.problems.append(f"{error}"[:300]))
        page.on("response", self._look)
        page.on("console", self._hear)

    def _note_failed(self, request: object) -> None:
        if request.failure != "net::ERR_ABORTED":  # what a page that is left no longer waits for
            self.problems.append(request.url[:200])

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

    def leave(self, url: str = "about:blank") -> None:
        """Go to another page once the connections to kernels are closed.

        A page that is just left cuts them; the server then fails to write what a kernel
        sends at that moment, and says so in its log.
        """
        assert self.page.evaluate(HANG_UP) > 0
        self.page.goto(url)

    def run_cell(self, start: str, how: str = "run-cell") -> None:
        """Run the cell that begins so, or with `run-all-above` those before it."""
        assert self.page.evaluate(
            """([start, how]) => { const notebook = jupyterapp.shell.currentWidget.content;
            notebook.activeCellIndex = notebook.widgets.findIndex(
                (cell) => cell.model.sharedModel.source.startsWith(start));
            return jupyterapp.commands.execute(`notebook:${how}`); }""",
            [start, how],
        )

    def run_all(self) -> None:
        """Run every cell; none may fail."""
        assert self.page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        self.wait_for_room()

    def wait_for_room(self) -> None:
        """Wait until the control room and its chart are there."""
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
        """Click the control room's button of that name."""
        self.page.locator(f".etl-room button:has-text('{name}')").first.click()

    def total(self, name: str) -> str:
        """Return a number of the header's sum."""
        return self.page.locator(f".etl-term-{name} b").first.inner_text()

    def wait_total(self, name: str, value: str, timeout: float = 30_000) -> None:
        """Wait until a number of the header's sum is this; `open` are open dead letters."""
        selector = ".etl-figure-open b" if name == "open" else f".etl-term-{name} b"
        self.page.wait_for_function(
            "([selector, value]) => document.querySelector(selector)?.textContent === value",
            arg=[selector, value],
            timeout=timeout,
        )

    def wait_state(self, state: str) -> None:
        """Wait until the light shows a state: working, paused, …"""
        self.page.wait_for_selector(f".etl-bar.etl-is-{state}", timeout=30_000)

    def wait_said(self, text: str, timeout: float = 30_000) -> None:
        """Wait until an answer stands beside the buttons."""
        self.page.locator(f".etl-answer span:text-is('{text}')").first.wait_for(timeout=timeout)

    def wait_bars(self, *values: int, timeout: float = 30_000) -> None:
        """Wait until the chart shows these numbers of DEBUG, INFO, WARNING, … lines."""
        try:
            self.page.wait_for_function(
                f"values => ({BARS})()?.x?.join() === values.join()",
                arg=list(values),
                timeout=timeout,
            )
        except TookTooLong as error:
            shown = self.page.evaluate(BARS)
            text = f"the bars are not {list(values)}: {shown}; the page said {self.problems}"
            raise AssertionError(text) from error

    def open_kind(self) -> None:
        """Open the drawer of the first kind of dead letters."""
        self.page.locator(".etl-kinds .etl-why").first.click()
        self.page.locator(".etl-drawer .etl-about h2").first.wait_for()

    def press_main(self, label: str) -> None:
        """Press the drawer's main button once it says this."""
        self.page.locator(f".etl-drawer [data-action=main]:has-text('{label}')").first.click()

    def shoot(self, name: str) -> None:
        """Take a picture of the page."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(400)
        self.page.screenshot(path=SHOTS / f"{name}.png")


@pytest.fixture(scope="module")  # while it is open, its event loop is that of the thread
def browser() -> Iterator[Browser]:
    """Start Chromium."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "these tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def shots() -> Path:
    """Return the folder for pictures of what tests saw."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS


@contextlib.contextmanager
def new_screen(browser: Browser) -> Iterator[Screen]:
    """Give a fresh page on which nothing goes wrong and nothing is asked of another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    shown = Screen(context.new_page())
    yield shown
    lab_page = any(part in shown.page.url for part in ("/doc/tree/", "/lab/"))
    context.close()
    # Voilà's page is gone when its goodbye is answered.
    known = () if lab_page else ("/voila/api/shutdown/",)
    assert [text for text in shown.problems if not any(one in text for one in known)] == []


@pytest.fixture
def screen(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Screen]:
    """Give a page, and end the kernels that are left when it is closed."""
    with new_screen(browser) as shown:
        yield shown
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").end_kernels()


@pytest.fixture
def another(browser: Browser) -> Iterator[Screen]:
    """Give a second page, of another visitor."""
    with new_screen(browser) as shown:
        yield shown


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start `etl lab`; in the end Ctrl-C stops it cleanly."""
    server = Server("lab", tmp_path_factory.mktemp("lab"))
    yield server
    try:
        assert server.interrupt() == 0
    finally:
        server.stop()


@pytest.fixture
def control_room(lab: Server) -> str:
    """Give the name of a copy of the control room's notebook, with a store of its own."""
    name = f"{secrets.token_hex(4)}.ipynb"
    text = NOTEBOOK.read_text().replace('store = \\"\\"  ', 'store = \\"sqlite://\\"  ')
    assert 'sqlite://\\"  ' in text
    (lab.root / name).write_text(text)
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
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers of a test's own."""
    started: list[Server] = []

    def start(command: str, home: Path, *more: str, options: Sequence[str] = ()) -> Server:
        started.append(Server(command, home, *more, options=options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def page_server(tmp_path: Path, serve: Callable[..., Server]) -> Server:
    """Start `etl app`."""
    return serve("app", tmp_path)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start an `etl lab` for tests that share the room with which it opens."""
    server = Server("lab", tmp_path_factory.mktemp("opened"))
    yield server
    server.stop()
