"""The story of the control room as a person sees it, in JupyterLab and in Voilà."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

CONSOLE = """
from etl import Batch, open_queue
from etl.console import Console
from etl.demo import dashboard
queue = open_queue("sqlite://")
console = Console(queue, dashboard, interval=0.1)
console
"""


def play(screen: Any, *, quick: str = "") -> None:
    """Play the first seed's story up to the dead letter."""
    page = screen.page
    spring = "getComputedStyle(document.querySelector('.etl-card')).animationName"
    assert page.evaluate(spring) == "etl-spring"
    screen.click("Pause")
    page.wait_for_selector(".etl-is-paused")
    pulse = "getComputedStyle(document.querySelector('.etl-light'), '::before').animationName"
    assert page.evaluate(pulse) == "etl-pulse"
    for _ in range(6):
        screen.click("INFO")
        screen.click("WARNING")
    screen.wait_total("waiting", "12")
    assert page.locator(".etl-icon").count() == 12
    screen.wait_bars(0, 0, 0, 0, 0)
    assert screen.total("done") == "0"
    screen.shoot(f"queued{quick}")
    page.locator(".etl-group:has-text('Seconds between') input").fill("0.4")
    page.keyboard.press("Tab")
    screen.click("Resume")
    seen = set()
    while screen.total("done") != "12":
        seen.add(page.locator(".etl-icon:not(.etl-leaving)").count())
        page.wait_for_timeout(50)
    assert len(seen) > 6, "icons leave one by one"
    screen.wait_bars(0, 6, 6, 0, 0)
    screen.click("Pause")
    screen.click("CRITICAL")
    page.wait_for_selector(".etl-icon.etl-CRITICAL")
    screen.click("Resume")
    page.wait_for_selector(".etl-icon", state="detached")
    screen.wait_total("dead", "1")
    page.wait_for_selector(".etl-letters td:has-text('CRITICAL node')")
    page.wait_for_timeout(300)
    screen.wait_bars(0, 6, 6, 0, 0)


def look_closer(screen: Any) -> None:
    """Choose the dead letter and a trace."""
    screen.page.locator(".etl-letters .etl-table tbody tr").first.click()
    screen.page.locator(".etl-letters .etl-table").nth(1).locator("tbody tr").first.click()
    screen.page.wait_for_selector(".etl-facts dd:has-text('level → check')")
    screen.page.locator(".etl-traces .etl-table tbody tr").first.click()
    screen.page.wait_for_selector(".etl-hops td:has-text(\"level: 'CRITICAL'\")")


def test_the_story_of_the_first_seed(screen: Any, lab: Any, control_room: str):
    screen.open(lab, control_room)
    screen.run_all()
    page = screen.page
    page.locator(".etl-header").evaluate("node => node.scrollIntoView()")
    play(screen)
    look_closer(screen)
    screen.shoot("control_room_light")
    page.locator(".etl-letters").evaluate("node => node.scrollIntoView()")
    screen.shoot("dead_letters_light")
    screen.run("dashboard.add('check', None)")
    screen.click("Dry-run")
    page.wait_for_selector(".etl-note:has-text('1 of 1 now pass')")
    screen.click("Replay")
    screen.wait_total("done", "13")
    screen.wait_bars(0, 6, 6, 0, 1)
    screen.wait_total("dead", "0")
    page.wait_for_timeout(1300)
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    screen.open(lab, control_room)
    screen.wait_for_console()
    screen.wait_total("done", "13")
    screen.wait_bars(0, 6, 6, 0, 1)
    theme = "jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
    page.evaluate(theme)
    screen.run("console.controls.lines.value = 400; console.controls.mix.value = 'incident'")
    screen.click("Pause")
    screen.click("Burst")
    screen.wait_total("waiting", "400")
    page.wait_for_timeout(1500)
    page.locator(".etl-header").evaluate("node => node.scrollIntoView()")
    screen.shoot("control_room_dark")
    page.set_viewport_size({"width": 640, "height": 1800})
    page.wait_for_timeout(1500)
    page.locator(".etl-header").evaluate("node => node.scrollIntoView()")
    screen.shoot("control_room_narrow")
    overflow = "(n => n.scrollWidth - n.clientWidth)(document.querySelector('.etl-room'))"
    assert page.evaluate(overflow) <= 1


def test_a_click_is_answered_while_a_cell_computes(
    screen: Any, lab: Any, notebook: Callable[..., str]
):
    screen.open(lab, notebook(CONSOLE))
    screen.run_all()
    screen.run("import time; time.sleep(5)", wait=False)
    screen.page.wait_for_timeout(300)
    started = time.monotonic()
    screen.click("Pause")
    screen.page.wait_for_selector(".etl-is-paused", timeout=3000)
    assert time.monotonic() - started < 1.5
    screen.page.wait_for_timeout(100)
    milliseconds = screen.page.evaluate(
        """async () => { const start = performance.now();
        const note = document.querySelector('.etl-note').parentElement;
        const seen = new Promise((done) => new MutationObserver(() =>
            document.querySelector('.etl-is-idle') && done(performance.now() - start)).observe(
            document.querySelector('.etl-header'), { childList: true, subtree: true }));
        [...document.querySelectorAll('.etl-room button')]
            .find((one) => one.textContent.includes('Resume')).click();
        return await seen; }"""
    )
    print(f"answered in {milliseconds:.0f} ms")
    assert milliseconds < 400


def test_text_from_a_log_is_never_html(screen: Any, lab: Any, notebook: Callable[..., str]):
    screen.open(lab, notebook(CONSOLE))
    screen.run_all()
    bad = "<img src=x onerror='window.hacked=1'><b>CRITICAL</b>"
    screen.run(f"queue.pause(); queue.put(Batch.from_lines([{bad!r}], source={bad!r}))")
    icon = screen.page.locator(".etl-icon")
    icon.wait_for()
    assert icon.get_attribute("title") == bad
    screen.click("Resume")
    screen.wait_total("dead", "1")
    screen.page.locator(".etl-letters .etl-table tbody tr").first.click()
    screen.page.locator(".etl-letters .etl-table").nth(1).locator("tbody tr").first.click()
    screen.page.wait_for_selector(".etl-facts dd:has-text('<img src=x')")
    screen.page.locator(".etl-traces .etl-table tbody tr").first.click()
    screen.page.wait_for_selector(".etl-traces code:has-text('<img src=x')")
    screen.click("Tap")
    screen.run(f"console.header.say({bad!r})")
    screen.page.wait_for_selector(".etl-note:has-text('<img src=x')")
    assert screen.page.locator(".etl-room img").count() == 0
    assert screen.page.evaluate("window.hacked") is None


def test_five_hundred_icons_stay_smooth(screen: Any, lab: Any, notebook: Callable[..., str]):
    screen.open(lab, notebook(CONSOLE))
    screen.run_all()
    churn = """
import time, itertools
console.close()
levels = itertools.cycle(["INFO", "WARNING", "ERROR", "CRITICAL"])
lines = [(str(n), next(levels), f"line {n}") for n in range(4000)]
for step in range(60):
    console.view.show(lines[step * 20 : step * 20 + 500], 0)
    time.sleep(0.1)
"""
    screen.run(churn, wait=False)
    screen.page.wait_for_function("document.querySelectorAll('.etl-icon').length >= 500")
    frames = screen.page.evaluate(
        """() => new Promise((done) => { let count = 0; const start = performance.now();
        const next = () => { count += 1; const ms = performance.now() - start;
            if (ms > 3000) done(count / ms * 1000);
            else requestAnimationFrame(next); };
        requestAnimationFrame(next); })"""
    )
    print(f"{frames:.0f} frames a second")
    assert frames > 30


def test_who_wants_less_motion_gets_none(screen: Any, lab: Any, notebook: Callable[..., str]):
    screen.page.emulate_media(reduced_motion="reduce")
    screen.open(lab, notebook(CONSOLE))
    screen.run_all()
    screen.click("Pause")
    screen.page.wait_for_selector(".etl-is-paused")
    moving = """[...document.querySelectorAll('.etl-room, .etl-room *')].flatMap(
        (node) => ['', '::before'].map((part) => getComputedStyle(node, part || null).animationName)
    ).filter((name) => name !== 'none').length"""
    assert screen.page.evaluate(moving) == 0


def test_the_same_as_a_web_page(voila: Any, screen: Any):
    screen.page.goto(voila.url)
    screen.wait_for_console()
    play(screen, quick="_voila")
    look_closer(screen)
    screen.shoot("voila")
    screen.page.goto(voila.url)
    screen.wait_for_console()
    screen.wait_total("done", "12")
    screen.wait_bars(0, 6, 6, 0, 0)
    assert screen.total("dead") == "1"
