"""How the control room opens: in JupyterLab with its console beside the cells, and as a page."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from playwright.sync_api import Page, expect

from etl import Batch, open_queue
from etl.runs.registry import run_rows

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"

CONSOLE = ".etl-console"
PANE = f".jp-LinkedOutputView {CONSOLE}"
TABS = "[...jupyterapp.shell.widgets('main')].map((one) => one.title.label)"

FAIL = """async () => { const panel = jupyterapp.shell.currentWidget;
    const { outputArea } = panel.content.widgets.find(
        (cell) => cell.model.getMetadata('tags')?.includes('console'));
    const renderer = outputArea.widgets[0].widgets.at(-1);
    const manager = await renderer._manager.promise;
    manager.get_model = () => Promise.reject(new Error('widget model not found'));
    await renderer.renderModel(outputArea.model.get(0));
    delete manager.get_model;
    return renderer.node.textContent; }"""
"""Lets the console's cell be drawn when its widget is not there yet; returns what it then says."""

SIDES = """() => { const box = (selector) =>
        document.querySelector(selector).getBoundingClientRect();
    const cells = box('.jp-NotebookPanel'), pane = box('.jp-LinkedOutputView');
    return { cells: [cells.left, cells.right], pane: [pane.left, pane.right],
        bars: ['left', 'right'].map((side) => jupyterapp.shell[`${side}Collapsed`]) }; }"""
"""Returns where cells and pane begin and end, and whether the side bars are closed."""

WAITING = """import time
from pathlib import Path
while not Path({go!r}).exists():
    time.sleep(0.05)
"""
"""Python that waits for a file."""

PIPELINE = """import os
if "JPY_PARENT_PID" in os.environ:
{body}
from etl.demo import dashboard as pipeline
"""
"""A pipeline of a user, whose module does something more in a kernel."""


MODEL = """() => jupyterapp.shell.currentWidget.content.widgets
    .find((cell) => cell.model.getMetadata('tags')?.includes('console'))
    .model.outputs.get(0).data['application/vnd.jupyter.widget-view+json'].model_id"""
"""Returns which widget the console's cell shows."""


def show(screen: Any, url: str) -> Page:
    """Open a page of JupyterLab and wait for the console beside the cells."""
    page = screen.page
    page.set_viewport_size({"width": 1600, "height": 1000})
    page.goto(url)
    page.wait_for_selector(PANE, timeout=60_000)
    return page


def forget(screen: Any, text: str) -> None:
    """Leave out of what went wrong on a page what had to."""
    screen.problems = [one for one in screen.problems if text not in one]


def test_lab_shows_the_console_beside_a_copy_of_its_notebook(opened: Any, screen: Any):
    before = {path.name: path.read_bytes() for path in NOTEBOOKS.glob("*.ipynb")}
    redirect = Path(opened.opened.removeprefix("file://")).read_text()
    page = show(screen, re.search(r'href="(http[^"]+)"', redirect)[1].replace("&amp;", "&"))
    assert f"/lab/tree/{opened.room.relative_to(opened.root)}" in page.url
    assert page.evaluate(TABS) == ["01_control_room.ipynb", "Console"]
    sides = page.evaluate(SIDES)
    assert sides["cells"][1] <= sides["pane"][0] < 900
    assert sides["pane"][1] > 1500
    assert sides["bars"] == [True, True]
    expect(page.locator(".jp-Dirty")).to_have_count(0)
    config = json.loads(page.locator("#jupyter-config-data").text_content())
    assert "@jupyterlab/apputils-extension:announcements" in config["disabledExtensions"]
    screen.shoot("lab_open")
    copy = nbformat.read(opened.room, as_version=4)
    assert [
        cell for cell in copy.cells if cell.cell_type == "code" and not cell.execution_count
    ] == []
    assert {path.name: path.read_bytes() for path in NOTEBOOKS.glob("*.ipynb")} == before
    assert {path.name for path in opened.room.parent.glob("*.ipynb")} == set(before)


def test_a_reload_shows_the_pane_again_and_only_once(opened: Any, screen: Any):
    page = show(screen, opened.room_url)
    for _ in range(2):
        page.reload()
        page.wait_for_selector(PANE, timeout=60_000)
        expect(page.locator(".jp-LinkedOutputView")).to_have_count(1)
        assert page.evaluate(TABS) == ["01_control_room.ipynb", "Console"]
    sides = page.evaluate(SIDES)
    assert sides["cells"][1] <= sides["pane"][0] < 900
    assert len(opened.kernels()) == 1
    forget(screen, "model not found")  # of a slow reload; the next test shows what comes of it


def test_a_widget_that_came_too_late_for_jupyterlab_is_drawn_again(opened: Any, screen: Any):
    page, held = screen.page, []
    opened.wait_for_run()
    page.route("**/etl/has-run", lambda route: held.append(route))  # noqa: PLW0108
    page.goto(opened.room_url)
    page.wait_for_selector(f".jp-NotebookPanel {CONSOLE}", timeout=60_000)
    assert page.evaluate(FAIL) == "Error displaying widget: model not found"
    forget(screen, "model not found")
    held[0].continue_()
    page.wait_for_selector(PANE)
    expect(page.locator(f".jp-NotebookPanel {CONSOLE}")).to_have_count(1)


def test_a_second_tab_shows_the_same_room(opened: Any, screen: Any, another: Any):
    first, second = show(screen, opened.room_url), show(another, opened.room_url)
    for page in (first, second):
        page.locator(PANE).get_by_role("button", name="Pause").first.wait_for()
    second.locator(PANE).get_by_role("button", name="Pause").first.click()
    first.wait_for_function(
        """async () => { const panel = jupyterapp.shell.currentWidget;
        const kernel = panel.sessionContext.session.kernel;
        const future = kernel.requestExecute({ code: "_ = room.queue.stats().paused",
            store_history: false, user_expressions: { v: "_" } });
        return (await future.done).content.user_expressions.v.data["text/plain"] === "True"; }"""
    )
    assert len(opened.kernels()) == 1
    screen.run("room.queue.resume()")


def test_the_pane_lives_on_when_the_notebook_is_run_again(opened: Any, screen: Any):
    page = show(screen, opened.room_url)
    old = page.evaluate(MODEL)
    assert page.evaluate(
        """async () => { const panel = jupyterapp.shell.currentWidget;
        await panel.sessionContext.session.kernel.restart();
        return await jupyterapp.commands.execute('notebook:run-all-cells'); }"""
    )
    assert page.evaluate(MODEL) != old
    page.wait_for_selector(PANE)
    expect(page.locator(".jp-LinkedOutputView")).to_have_count(1)
    expect(page.locator(PANE)).to_have_count(1)
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    forget(screen, "debugger state")  # JupyterLab asks a kernel that is restarted for it
    forget(screen, "Cannot send")  # a view that is still there, to the kernel that is not


def test_nothing_is_written_to_the_notebooks_of_etl(opened: Any):
    headers = {"Authorization": f"token {opened.token}"}
    with httpx.Client(base_url=opened.url, headers=headers, timeout=60) as client:
        original = "/api/contents/notebooks/02_batch_run.ipynb"
        model = client.get(original).raise_for_status().json()
        refused = client.put(original, json=model)
        renamed = client.patch(original, json={"path": "notebooks/mine.ipynb"})
        deleted = client.delete(original)
        copy = client.put("/api/contents/mine.ipynb", json=model | {"path": "mine.ipynb"})
        moved = client.patch("/api/contents/mine.ipynb", json={"path": "yours.ipynb"})
        gone = client.delete("/api/contents/yours.ipynb")
    for answer in (refused, renamed, deleted):
        assert answer.status_code == 403
        assert answer.json()["message"] == (
            "notebooks/02_batch_run.ipynb is the original; save a copy of it elsewhere"
        )
    assert [copy.status_code, moved.status_code, gone.status_code] == [201, 200, 204]


def test_a_page_that_comes_before_the_notebook_has_run_waits_for_it(
    serve: Callable[..., Any], screen: Any, tmp_path: Path
):
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    file, go = tmp_path / "notebooks" / "01_control_room.ipynb", tmp_path / "go"
    notebook = nbformat.read(file, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = WAITING.format(go=str(go)) + first.source
    nbformat.write(notebook, file)
    server = serve("lab", tmp_path)
    screen.page.goto(server.room_url)
    screen.page.wait_for_selector(".jp-Notebook", timeout=60_000)
    assert screen.page.evaluate(TABS) == ["01_control_room.ipynb"]
    go.touch()
    screen.page.wait_for_selector(PANE, timeout=60_000)
    assert len(server.kernels()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_server_and_its_kernel_whatever_they_are_doing(
    number: int, serve: Callable[..., Any], tmp_path: Path
):
    server = serve("lab", tmp_path)
    server.wait_for_kernels(1)  # which starts, or runs the notebook
    (kernel,) = server.kernels()
    assert server.interrupt(number) == 0
    assert not has_process(kernel)
    assert "Traceback" not in server.log.read_text()
    (run,) = (row for row in run_rows(tmp_path / "data" / "runs") if row["kind"] == "lab")
    assert run["state"] == "finished"
    assert run["store"] == f"sqlite:///{tmp_path / 'store.db'}"


def has_process(pid: int) -> bool:
    """Return whether a process is there, or one of its threads; its parent may not have waited."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_that_it_loads_and_then_the_console_alone(
    scheme: str, serve: Callable[..., Any], screen: Any, tmp_path: Path
):
    go, page, asked = tmp_path / "go", screen.page, []
    body = "".join(f"    {line}\n" for line in WAITING.format(go=str(go)).splitlines())
    (tmp_path / "mine.py").write_text(PIPELINE.format(body=body))
    server = serve("app", tmp_path, options=["--pipeline=mine.py:pipeline", "--workers=2"])
    page.emulate_media(color_scheme=scheme)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url, wait_until="commit")
    expect(page.locator("#loading")).to_be_visible()
    expect(page.get_by_text("Loading …")).to_be_visible()
    expect(page.get_by_text("Starting the kernel …")).to_be_visible()
    screen.shoot(f"app_loading_{scheme}")
    go.touch()
    page.wait_for_selector(CONSOLE, timeout=60_000)
    expect(page.locator("#loading")).to_be_hidden()
    width = page.evaluate(f"document.querySelector('{CONSOLE}').getBoundingClientRect().width")
    assert width >= 1260
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    themes = {"light": "true", "dark": "false"}
    theme = "document.body.dataset.jpThemeLight"
    assert page.evaluate(theme) == themes[scheme]
    screen.shoot(f"app_{scheme}")
    other = "dark" if scheme == "light" else "light"
    page.emulate_media(color_scheme=other)
    page.wait_for_function(f"{theme} === '{themes[other]}'")
    assert [url for url in asked if not url.startswith((server.url, "data:", "blob:"))] == []
    with closing(open_queue(str(tmp_path / "store.db"))) as queue:
        assert len(queue.read("workers")) == 2


def test_all_pages_share_one_kernel_that_ends_with_the_server(
    page_server: Any, screen: Any, another: Any, tmp_path: Path
):
    for one in (screen, another):
        one.page.goto(page_server.url)
    for one in (screen, another):
        one.page.wait_for_selector(CONSOLE, timeout=60_000)
    (kernel,) = page_server.kernels()
    with closing(open_queue(str(tmp_path / "store.db"))) as queue:
        assert len(queue.read("workers")) == 1
        another.leave()
        screen.page.get_by_role("button", name="Pause").first.click()
        while not queue.stats().paused:
            screen.page.wait_for_timeout(20)
        queue.resume()
        screen.leave(page_server.url)
        screen.page.wait_for_selector(CONSOLE, timeout=60_000)
        assert page_server.kernels() == [kernel]
        assert len(queue.read("workers")) == 1
        screen.leave()
        assert page_server.interrupt() == 0
        assert not has_process(kernel)
        assert len(queue.read("workers")) == 0
    said = f"The control room is at {page_server.url}/ (Ctrl-C ends it)\n"
    assert page_server.log.read_text() == said


@pytest.mark.parametrize("command", ["lab", "app"])
def test_a_room_on_a_store_with_lines_of_its_own_only_shows_them(
    command: str, serve: Callable[..., Any], screen: Any, tmp_path: Path
):
    with closing(open_queue(str(tmp_path / "store.db"))) as queue:
        queue.put(Batch.from_lines([f"order {number}" for number in range(30)]))
        server = serve(command, tmp_path)
        screen.page.goto(server.room_url if command == "lab" else server.url)
        box = screen.page.locator(PANE if command == "lab" else CONSOLE)
        box.get_by_text("No workers").wait_for(timeout=60_000)
        expect(box.locator(".etl-figure-waiting b")).to_have_text("30")
        expect(box.get_by_role("button", name="Demo")).to_be_hidden()
        expect(box.get_by_role("button", name="Burst")).to_be_hidden()
        assert "".join(box.get_by_role("alert").all_text_contents()) == ""
        assert queue.stats().waiting == 30
    screen.shoot(f"{command}_own_store")


def test_a_kernel_that_was_killed_has_a_successor(page_server: Any, screen: Any):
    page = screen.page
    page.goto(page_server.url)
    page.wait_for_selector(CONSOLE, timeout=60_000)
    screen.leave()
    (killed,) = page_server.kernels()
    os.kill(killed, signal.SIGKILL)
    while has_process(killed):
        page.wait_for_timeout(20)
    page.goto(page_server.url)
    page.wait_for_selector(CONSOLE, timeout=60_000)
    assert killed not in page_server.kernels()


def test_a_page_says_why_its_cell_failed(serve: Callable[..., Any], screen: Any, tmp_path: Path):
    body = "    raise ValueError('<b>no</b>')\n"
    (tmp_path / "mine.py").write_text(PIPELINE.format(body=body))
    server = serve("app", tmp_path, options=["--pipeline=mine.py:pipeline"])
    screen.page.goto(server.url)
    alert = screen.page.get_by_role("alert")
    expect(alert).to_have_text(re.compile("The control room did not start. .*<b>no</b>"))
    expect(screen.page.locator("#loading")).to_be_hidden()
    assert "ValueError: <b>no</b>" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    assert server.interrupt() == 0


@pytest.mark.parametrize("prefix", ["/tools/etl/", "/tools/etl", "tools"])
def test_the_address_that_is_printed_is_the_one_behind_a_prefix(
    prefix: str, serve: Callable[..., Any], screen: Any, tmp_path: Path
):
    server = serve("app", tmp_path, f"--Voila.base_url={prefix}")
    url = re.search(r"http://\S+", server.said)[0]
    assert url == f"{server.url}/{prefix.strip('/')}/"
    if prefix == "tools":
        screen.page.goto(url)
        screen.page.wait_for_selector(CONSOLE, timeout=60_000)
    else:
        assert httpx.get(url, timeout=60).status_code == 200
