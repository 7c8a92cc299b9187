"""The dashboard of `etl serve` as a person sees it: a real server, a real Chromium."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from etl import Batch, Worker, open_queue
from etl.demo import dashboard
from etl.queue import DeadLetterFilter, Queue

TOKEN = "correct-horse-battery-staple"  # noqa: S105
HOSTILE = "CRITICAL <img src=x onload=hacked=1>\u202e</td><script>hacked = 1</script>"
LINES = [
    *(f"INFO user {number} logged in" for number in range(200)),
    *(f"WARNING disk {number} is 91 % full" for number in range(40)),
    *(f"ERROR payment {number} timed out" for number in range(20)),
    *(f"CRITICAL node {number} lost power" for number in range(29)),
    HOSTILE,
    *(f"\tno level {number}" for number in range(5)),
]

WIDER = """() => [...document.querySelectorAll('body *')].filter((node) => node.checkVisibility()
    && node.getBoundingClientRect().right > innerWidth + 0.5
    && !node.closest('.etl-scroll, .etl-map, .etl-cut, .etl-latest'))
    .map((node) => node.outerHTML.slice(0, 90))"""
"""Returns what stands out of the window at its right."""


STILL = "() => document.getAnimations().every((one) => one.playState !== 'running')"
"""Is true once nothing moves."""


class Server:
    """`etl serve` on a free port, with a store of its own."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.log = folder / "serve.log"
        command = [sys.executable, "-m", "etl", "serve", "--store", str(folder / "orders.db")]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--port", "0", *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env=os.environ | environment,
            )
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        assert "http" in told, self.log.read_text()
        self.url = told.split()[-1].replace("localhost", "127.0.0.1")

    def stop(self) -> None:
        """End it as Ctrl-C does; pages that are open do not hold it up."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)
        assert self.process.returncode in (0, -signal.SIGINT), self.log.read_text()
        assert "graceful shutdown exceeded" not in self.log.read_text()
        assert "Traceback" not in self.log.read_text()


STATE = {
    "state": "working",
    "totals": {"accepted": 9, "done": 4, "filtered": 0, "dead": 2, "leased": 1, "waiting": 2},
    "conserved": True,
    "open": 1,
    "discarded": 1,
    "oldest": 4.2,
    "empty_in": None,
    "growing": False,
    "rate": 0.5,
    "dead_last_minute": 1,
    "history": {"rate": [0, 1, 2]},
    "workers": [{"state": "working"}, {"state": "late"}],
    "kinds": [{}],
}
"""As much of an overview as the header reads."""

GROWN = STATE | {
    "state": "paused",
    "totals": dict.fromkeys(STATE["totals"], 1_234_567_890) | {"accepted": 6_172_839_450},
    "open": 987_654,
    "oldest": 98_765.0,
    "rate": 123_456.7,
    "growing": True,
}

DRAW = """async ([id, ...states]) => { const { header } = await import('/static/parts.js');
    const el = document.createElement('section'); el.id = id;
    document.querySelector('main').prepend(el); const update = header(el, () => {}), seen = [];
    for (const state of states) { update(state); seen.push(
        [...el.querySelectorAll('b, .etl-light, .etl-tick, .etl-op, .etl-spark')].map((node) =>
            { const { left, width } = node.getBoundingClientRect();
              return Math.round(node.matches('.etl-sum b') ? left + width / 2 : left); })); }
    return seen; }"""
"""Draws states in a header, one after another; returns where its parts stood each time."""

WORDS = """async () => { const { number, duration, ago, rate, visible } =
        await import('/static/parts.js');
    return [[0, 999, 18995, 999999, 1240000, 123456789, 2e9, null].map(number),
        [0, 0.42, 9.96, 38.2, 60, 67, 3600, 7500, 277200].map(duration),
        [0.2, 5.4, 12, 59.6, 75, 7500].map(ago), [0, 61.44, 99.96, 12345].map(rate),
        visible('a\\tb\\0\\x1b[31m\\u202e')]; }"""


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """Give the store, in which some lines were processed and some failed."""
    with closing(open_queue(f"sqlite:///{tmp_path / 'orders.db'}")) as opened:
        opened.put(Batch.from_lines(LINES, source="app.log"))
        Worker(opened, dashboard).drain()
        yield opened


@pytest.fixture
def serve(queue: Queue, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers of the store."""
    with ExitStack() as stack:

        def start(*options: str, **environment: str) -> Server:
            server = Server(tmp_path, *options, **environment)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def problems() -> Iterator[list[str]]:
    """Collect what goes wrong on pages, and what they ask of other servers: nothing may be left."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def visit(browser: Browser, problems: list[str]) -> Iterator[Callable[..., Page]]:
    """Open pages."""
    with ExitStack() as stack:

        def open_page(url: str, *, width: int = 1440, **options: Any) -> Page:
            context = browser.new_context(viewport={"width": width, "height": 900}, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.on("console", lambda said: said.type == "error" and problems.append(said.text))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "request",
                lambda sent: sent.url.startswith((url, "data:")) or problems.append(sent.url),
            )
            page.goto(url)
            return page

        yield open_page


@pytest.fixture
def page(serve: Callable[..., Server], visit: Callable[..., Page]) -> Page:
    """Open the dashboard of a server without a token."""
    shown = visit(serve().url + "/")
    expect(figure(shown, "open")).to_have_text("35")
    return shown


def figure(page: Page, name: str) -> Any:
    """Return a number of the header."""
    return page.locator(f".etl-figure-{name} b")


def dead(page: Page) -> Any:
    """Return the panel of dead letters."""
    return page.get_by_role("region", name="Dead letters", exact=True)


def press(page: Page, name: str) -> None:
    """Press the button of that name."""
    page.get_by_role("button", name=name, exact=True).click()


@pytest.fixture
def shoot(shots: Path) -> Callable[[Page, str], None]:
    """Take a picture of a whole page."""
    return lambda page, name: page.screenshot(path=shots / f"dashboard-{name}.png", full_page=True)


def violations(page: Page) -> list[str]:
    """Return what axe finds."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:150]}" for one in found for node in one["nodes"]]


def test_it_shows_what_the_store_looks_like_and_follows_it(page, queue):
    expect(page).to_have_title("orders.db · etl")
    expect(page.locator(".etl-state")).to_contain_text("No workers")
    expect(page.locator(".etl-sum")).to_have_attribute(
        "aria-label",
        "295 accepted = 260 done + 0 filtered + 35 dead + 0 processing + 0 waiting: it adds up",
    )
    expect(page.locator("#rate .etl-line")).to_have_attribute("d", re.compile("^M.*L"))
    expect(page.locator("#backlog .etl-line")).to_have_attribute("d", re.compile("^M.*L"))
    boxes = page.locator("#pipeline svg [data-processor]")
    assert boxes.evaluate_all("all => all.map(one => one.dataset.processor)") == [
        "input", "level", "check", "count",
    ]  # fmt: skip
    expect(boxes.filter(has_text="30 dead")).to_have_attribute("data-processor", "check")
    rows = dead(page).locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("29CRITICAL lines are rejected")
    expect(page.locator("#errors tbody tr")).to_have_count(2)
    expect(page.locator("#levels")).to_contain_text("INFO200")
    first = rows.first.element_handle()
    queue.put(Batch.from_lines(["INFO a", "INFO b", "CRITICAL c"]))
    expect(figure(page, "waiting")).to_have_text("3")
    Worker(queue, dashboard).drain()
    expect(figure(page, "open")).to_have_text("36")
    expect(rows).to_have_count(4)
    assert page.evaluate("node => node.isConnected", first), "rows keep their nodes"


def test_kinds_keep_their_order_while_the_pointer_is_on_them(page, queue):
    first = dead(page).locator("tbody tr .etl-why").first
    first.hover()
    queue.put(Batch.from_lines([f"no level {number}" for number in range(60)], source="app.log"))
    Worker(queue, dashboard).drain()
    expect(figure(page, "open")).to_have_text("95")
    expect(first).to_have_text("CRITICAL lines are rejected")
    page.locator("#header").hover()
    expect(first).to_have_text("the line names no level")


def test_a_filter_leaves_what_it_names_and_nothing_else_to_act_on(page):
    page.keyboard.press("/")
    page.keyboard.type("no LEVEL")
    expect(dead(page).locator("tbody tr")).to_have_count(1)
    replay = page.get_by_role("button", name="Replay")
    expect(replay).to_be_disabled()
    expect(replay).to_have_attribute("title", "Choose a kind, or clear the filter")
    dead(page).locator(".etl-why").click()
    expect(dead(page)).to_contain_text("5 chosen")
    expect(replay).to_be_enabled()
    page.get_by_label("Filter dead letters").fill("nothing like it")
    expect(dead(page)).to_contain_text("No kind matches the filter")
    expect(replay).to_be_disabled()
    page.get_by_label("Filter dead letters").press("Escape")
    expect(dead(page)).to_contain_text("All 35 chosen")
    page.locator("#header").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_text_of_logs_stays_text(page):
    shown = dead(page).locator("ul li", has_text="<img")
    expect(shown).to_contain_text("CRITICAL <img src=x onload=hacked=1>\ufffd</td>")
    assert page.locator("img, td script").count() == 0
    assert page.evaluate("typeof hacked") == "undefined"
    expect(page).to_have_title("orders.db · etl")


def test_workers_show_what_they_do(serve, visit):
    page = visit(serve("--work", "--pipeline", "etl.demo:dashboard").url + "/")
    row = page.locator("#workers tbody tr")
    expect(row).to_have_count(1, timeout=20_000)
    expect(row).to_contain_text(re.compile(r"\d+idle|\d+working"))
    expect(page.locator(".etl-state")).to_contain_text("1 worker")


def test_a_target_that_fails_is_said(page, queue):
    queue.note_target(".spool/t", "postgresql://host/db lines", "connection <b>refused</b>")
    said = page.get_by_text("1 target failing")
    expect(said).to_be_visible()
    title = "postgresql://host/db lines fails, 0 lines wait: connection <b>refused</b>"
    expect(said).to_have_attribute("title", title)
    queue.note_target(".spool/t", "postgresql://host/db lines", "")
    expect(said).to_be_hidden()


def test_pause_and_resume_answer_beside_the_button(page, queue, shoot):
    queue.put(Batch.from_lines(["INFO a", "INFO b"]))
    expect(figure(page, "waiting")).to_have_text("2")
    press(page, "Pause")
    answer = page.locator("#operator").get_by_role("status")
    expect(answer).to_have_text("Paused. 2 lines wait until you resume.")
    expect(page.locator(".etl-state")).to_contain_text("Paused")
    assert queue.control().paused
    shoot(page, "paused")
    page.locator("#header").click()
    page.keyboard.press("p")
    expect(answer).to_have_text("Resumed.")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    assert not queue.control().paused
    press(page, "Drain")
    expect(answer).to_have_text("Draining. The workers end when the queue is empty.")
    expect(page.get_by_role("button", name="Drain")).to_be_disabled()
    press(page, "Resume")
    expect(page.get_by_role("button", name="Drain")).to_be_enabled()
    assert httpx.post(f"{page.url}logs", json="INFO c").status_code == 202


def test_one_kind_is_replayed(page, queue):
    dead(page).get_by_role("button", name="CRITICAL lines are rejected").first.click()
    expect(dead(page)).to_contain_text("29 chosen")
    press(page, "Replay")
    expect(dead(page).get_by_role("status")).to_have_text("29 lines requeued.")
    expect(figure(page, "open")).to_have_text("6")
    expect(dead(page)).to_contain_text("All 6 chosen")
    assert queue.stats().waiting == 29


def test_what_fails_says_why_until_the_next_action(page, queue, problems):
    for _ in range(3):
        httpx.post(f"{page.url}dlq/replay", json={"all": True}).raise_for_status()
        Worker(queue, dashboard).drain()
    press(page, "Replay")
    alert = dead(page).get_by_role("alert")
    expect(alert).to_contain_text("failed again after 3 replays")
    assert "409" in problems.pop()
    dead(page).get_by_role("button", name="the line names no level").click()
    expect(alert).to_have_text("")


def test_a_discard_asks_first_and_can_be_undone(page, queue, shoot):
    page.clock.install()
    queue.discard(queue.dead_letters(DeadLetterFilter(limit=1))["id"].to_list())
    expect(figure(page, "open")).to_have_text("34")
    press(page, "Discard…")
    asked = page.get_by_role("alertdialog", name="Discard 34 dead letters?")
    expect(asked.get_by_role("button", name="Keep")).to_be_focused()
    shoot(page, "discard")
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(asked).to_be_hidden()
    expect(page.get_by_role("button", name="Discard…")).to_be_focused()
    page.keyboard.press("Enter")
    press(page, "Discard 34")
    expect(dead(page).get_by_role("status")).to_have_text("34 dead letters discarded.")
    expect(figure(page, "open")).to_have_text("0")
    expect(page.locator(".etl-figure-open .etl-cap")).to_have_text("0 open · 35 discarded")
    shoot(page, "discarded")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dead(page).get_by_role("status")).to_have_text("34 dead letters open again.")
    expect(page.locator(".etl-figure-open .etl-cap")).to_have_text("3 kinds · 1 discarded")


def test_undo_is_offered_for_ten_seconds(page):
    page.clock.install()
    press(page, "Discard…")
    press(page, "Discard 35")
    undo = page.get_by_role("button", name="Undo")
    expect(undo).to_be_visible()
    page.clock.run_for(9_000)
    expect(undo).to_be_visible()
    page.clock.run_for(1_500)
    expect(undo).to_be_hidden()
    expect(page.get_by_role("button", name="Discard…")).to_be_hidden()


def test_a_token_unlocks_this_tab(serve, visit, queue, problems, shoot):
    server = serve(ETL_TOKEN=TOKEN)
    page = visit(server.url + "/")
    lock = page.get_by_role("region", name="This server needs a token")
    expect(lock).to_be_visible()
    expect(page.get_by_label("Token", exact=True)).to_be_focused()
    assert "orders" not in page.content()
    assert violations(page) == []
    shoot(page, "locked")
    page.get_by_label("Token", exact=True).fill("wrong-horse-battery-staple")
    press(page, "Unlock")
    expect(lock.get_by_role("alert")).to_have_text("The token is wrong.")
    page.get_by_label("Token", exact=True).fill(TOKEN)
    press(page, "Unlock")
    expect(figure(page, "open")).to_have_text("35")
    press(page, "Pause")
    expect(page.locator("#operator").get_by_role("status")).to_have_text("Paused.")
    assert queue.control().paused
    page.reload()
    expect(figure(page, "open")).to_have_text("35")
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_label("Token", exact=True)).to_be_focused()
    press(page, "Lock")
    expect(lock).to_be_visible()
    assert "orders" not in page.content()
    assert "lost power" not in page.content()
    page.reload()
    expect(lock).to_be_visible()
    problems[:] = [one for one in problems if "401" not in one]


def test_a_server_that_has_gone_is_said_and_found_again(serve, visit, problems, shoot):
    server = serve()
    page = visit(server.url + "/")
    expect(figure(page, "open")).to_have_text("35")
    server.stop()
    expect(page.locator(".etl-state")).to_contain_text("Not connected", timeout=10_000)
    pause = page.get_by_role("button", name="Pause", exact=True)
    expect(pause).to_be_disabled()
    expect(pause).to_have_attribute("title", "Not connected")
    shoot(page, "lost")
    serve("--port", server.url.rpartition(":")[2])
    expect(pause).to_be_enabled(timeout=10_000)
    problems[:] = [one for one in problems if "net::ERR_" not in one]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_at_every_width(serve, visit, scheme, shoot):
    server = serve()
    for width in (1440, 800, 390, 360):
        page = visit(server.url + "/", width=width, color_scheme=scheme)
        expect(figure(page, "open")).to_have_text("35")
        page.wait_for_function(STILL)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert page.evaluate(WIDER) == []
        assert violations(page) == []
        shoot(page, f"{scheme}-{width}")


def test_numbers_and_times_are_read_at_a_glance(page):
    numbers, durations, agos, rates, shown = page.evaluate(WORDS)
    assert numbers == ["0", "999", "18,995", "999,999", "1.24 M", "123 M", "2.00 bn", "–"]
    assert durations == [
        *("0.0 s", "0.4 s", "10 s", "38 s", "1 min", "1 min 7 s", "1 h", "2 h 5 min", "3 d 5 h"),
    ]
    assert agos == ["just now", "5 s ago", "12 s ago", "1 min ago", "1 min ago", "2 h ago"]
    assert rates == ["0.0", "61.4", "100", "12,345"]
    assert shown == "a⇥ b␀␛[31m\ufffd"


@pytest.mark.parametrize("width", [1440, 1180, 800])
def test_nothing_in_the_header_moves_when_numbers_grow(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    few, many = page.evaluate(DRAW, ["other", STATE, GROWN])
    assert len(few) > 12
    assert few == many
    expect(page.locator("#other .etl-state")).to_contain_text("2 workers, 1 late")


def test_totals_that_do_not_add_up_are_said(page):
    page.evaluate(DRAW, ["other", STATE | {"totals": STATE["totals"] | {"done": 1}}])
    other = page.locator("#other")
    expect(other.locator(".etl-tick")).to_have_text("✗ 3")
    expect(other.locator(".etl-tick")).to_have_attribute("title", "3 lines missing")
    expect(other.locator(".etl-sum")).to_have_attribute(
        "aria-label", re.compile("9 accepted = .*: it does not add up")
    )


def test_the_look_can_be_changed_and_stays(page):
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    press(page, "Dark or light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.reload()
    expect(page.locator("body")).to_have_class(re.compile("etl-dark"))


def test_the_history_may_be_longer(page):
    press(page, "1 h")
    expect(page.locator("#rate svg")).to_contain_text("−1 h")
    expect(page.get_by_role("button", name="1 h")).to_have_attribute("aria-pressed", "true")
