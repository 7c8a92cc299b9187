"""The control room as a person sees it, in JupyterLab."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from rooms import ANSWER, ROOM

LEAVE = """() => { window.seen = new Set();
    const box = document.querySelector('.etl-icons');
    const look = () => window.seen.add(box.querySelectorAll('.etl-icon').length);
    new MutationObserver(look).observe(box, { subtree: true, childList: true }); look(); }"""
"""Notes every number of icons that waits from here on, in `window.seen`."""

FLIGHTS = """() => { window.flights = []; window.shown = []; window.landed = [];
    const root = document.querySelector('.etl-console');
    const see = (node) => { const now = performance.now();
        if (node.classList?.contains('etl-flying')) window.flights.push(now);
        else if (node.tagName === 'LI' && node.closest('.etl-latest')) window.landed.push(now);
        else if (node.classList?.contains('etl-CRITICAL') && node.closest('.etl-lines'))
            window.shown.push(now); };
    new MutationObserver((changes) => changes.forEach((one) => one.addedNodes.forEach(see)))
        .observe(root, { subtree: true, childList: true }); }"""
"""Notes when icons of CRITICAL lines appear, fly, and land."""

NAME = """const name = (node) => node.getAttribute('aria-label') || node.labels?.[0]?.textContent
    || node.textContent || node.title;"""

CONTROLS = f"""() => {{ {NAME} return [...document.querySelectorAll(
    '.etl-room :is(button, input, select, textarea):enabled')]
    .filter((node) => node.checkVisibility() && node.tabIndex >= 0 && node.type !== 'file')
    .map(name); }}"""

FOCUSED = f"""() => {{ {NAME} const node = document.activeElement, style = getComputedStyle(node);
    return node.closest('.etl-room') && {{ name: name(node), row: node.tagName === 'TR',
        ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1 }}; }}"""

SIZE = """() => { const root = document.querySelector('.etl-console');
    const room = root.querySelector('.etl-room'), box = root.getBoundingClientRect();
    const charts = room.querySelector('.etl-charts').getBoundingClientRect();
    const all = '.etl-room :is(button, input, select, b, svg, .etl-card)';
    const parts = [...root.querySelectorAll(all)].filter((node) => node.checkVisibility());
    return { height: Math.round(box.height), charts: Math.round(charts.bottom - box.top),
        out: parts.filter((node) => !node.closest('.etl-scroll, .etl-map'))
            .filter((node) => node.getBoundingClientRect().right > box.right + 1)
            .map((node) => node.outerHTML.slice(0, 120)) }; }"""
"""Returns the height of the console, where its charts end, and what stands out at its right."""

REPAIR = """@orders.add("price")
def price(frame: pl.DataFrame) -> pl.DataFrame:
    text ="""
"""How the cell of the notebook begins that fixes the processor."""

DARK = "jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"


def show(screen: Any) -> None:
    """Scroll to the console."""
    screen.page.locator(".etl-console").first.evaluate("node => node.scrollIntoView()")


def test_the_story_of_the_first_seed(screen: Any, lab: Any, control_room: str):
    page = screen.page
    screen.open(lab, control_room)
    screen.run_all()
    show(screen)
    screen.click("Pause")
    screen.wait_state("paused")
    for _ in range(6):
        screen.click("INFO")
        screen.click("WARNING")
    screen.wait_total("waiting", "12")
    expect(page.locator(".etl-icons .etl-icon")).to_have_count(12)
    screen.wait_bars(0, 0, 0, 0, 0)
    assert screen.total("done") == "0"
    screen.shoot("paused_light")
    seconds = page.get_by_label("Seconds per batch").first
    seconds.fill("0.4")
    seconds.press("Tab")
    page.evaluate(LEAVE)
    screen.click("Resume")
    screen.wait_total("done", "12")
    page.wait_for_function("window.seen.has(0)")
    assert page.evaluate("window.seen.size") > 6, "icons leave one by one"
    screen.wait_bars(0, 6, 6, 0, 0)
    screen.click("CRITICAL")
    screen.wait_total("dead", "1")
    page.locator(".etl-kinds .etl-sample:has-text('CRITICAL node')").wait_for()
    screen.wait_bars(0, 6, 6, 0, 0)
    screen.open_kind()
    expect(page.locator(".etl-path .etl-tag")).to_have_text(["level", "check ✗"])
    screen.press_main("Dry run")
    page.locator("[data-action=main]:has-text('None pass yet')").wait_for()
    screen.run("dashboard.add('check', None)")
    screen.press_main("Dry run")
    screen.press_main("Replay all 1")
    screen.wait_total("done", "13")
    screen.wait_bars(0, 6, 6, 0, 1)
    screen.wait_total("open", "0")
    page.locator(".etl-tabs td:has-text('CRITICAL node')").first.wait_for()
    page.locator(".etl-tabs tr:has-text('CRITICAL node')").first.click()
    page.locator(".etl-hops td:has-text(\"level: 'CRITICAL'\")").wait_for()
    screen.shoot("replayed_light")
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    screen.leave()
    screen.open(lab, control_room)  # as a person who reloads the page
    screen.wait_for_room()
    screen.wait_total("done", "13")
    screen.wait_bars(0, 6, 6, 0, 1)


def test_a_live_repair_is_seen(screen: Any, lab: Any, control_room: str):
    page = screen.page
    screen.open(lab, control_room)
    screen.run_cell(REPAIR, "run-all-above")
    screen.wait_for_room()
    screen.wait_total("dead", "40")
    screen.wait_bars(0, 140, 20, 0, 0)
    show(screen)
    screen.open_kind()
    screen.press_main("Dry run")
    page.locator("[data-action=main]:has-text('None pass yet')").wait_for()
    screen.shoot("repair_before")
    screen.run_cell(REPAIR)
    show(screen)
    page.locator(".etl-result:has-text('the pipeline has changed since')").wait_for()
    screen.press_main("Dry run")
    page.locator("[data-action=main]:has-text('Replay the 37 that pass')").wait_for()
    expect(page.locator(".etl-drawer tbody td:text-is('✗')")).to_have_count(3)
    screen.shoot("repair_dry_run")
    screen.press_main("Replay the 37 that pass")
    screen.wait_total("dead", "3")
    screen.wait_bars(0, 172, 25, 0, 0)
    page.locator(".etl-tabs td:has-text(',50')").first.wait_for()
    assert page.locator(".etl-map .etl-dead").count() == 1, "three are still open"
    screen.run_cell("rest = shop.dead_letters.frame()")
    screen.wait_total("open", "0")
    page.locator(".etl-empty:has-text('No dead letters')").wait_for()
    assert page.locator(".etl-map .etl-dead").count() == 0, "a red ring only for open ones"
    screen.wait_bars(0, 175, 25, 0, 0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_one_screen(screen: Any, lab: Any, notebook: Callable[..., str], theme: str):
    page = screen.page
    screen.open(lab, notebook(ROOM))
    screen.run_all()
    if theme == "dark":
        page.evaluate(DARK)
    screen.run("room.demo.mix.value = 'incident'; room.demo.interval.widget.value = 0.3")
    screen.click("Burst")
    screen.wait_total("accepted", "200")
    page.wait_for_function("document.querySelectorAll('.etl-kinds tbody tr').length > 0")
    show(screen)
    screen.shoot(f"demo_{theme}")
    sizes = {"demo": page.evaluate(SIZE)}
    screen.click("Demo")
    page.locator(".etl-area-demo").wait_for(state="hidden")
    sizes["working"] = page.evaluate(SIZE)
    screen.shoot(f"working_{theme}")
    screen.open_kind()
    sizes["drawer"] = page.evaluate(SIZE)
    screen.shoot(f"drawer_{theme}")
    page.keyboard.press("Escape")
    page.locator(".etl-drawer").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.className") == "etl-why", "back to its row"
    print(sizes)
    assert [name for name, size in sizes.items() if size["height"] > 780] == []
    for width in (1600, 1280, 830, 700) if theme == "light" else (700,):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_function(f"({SIZE})().out.length === 0")  # the chart is drawn again
        if width <= 830:  # the queue shrinks after two seconds
            page.wait_for_function(f"({SIZE})().charts <= 780")
        show(screen)
        screen.shoot(f"room_{width}_{theme}")


def test_each_lone_critical_line_is_seen_waiting_flying_and_landing(
    screen: Any, lab: Any, notebook: Callable[..., str]
):
    page = screen.page
    screen.open(lab, notebook(ROOM.replace("interval=0.1", "interval=1.0")))
    screen.run_all()
    show(screen)
    page.evaluate(FLIGHTS)
    for number in range(1, 21):
        screen.click("CRITICAL")
        screen.wait_total("dead", str(number))
        page.wait_for_function(f"window.flights.length >= {number}")
        if number <= 8:  # the list of the latest lines has eight
            page.wait_for_function(f"window.landed.length >= {number}")
    shown, flights = page.evaluate("[window.shown.length, window.flights]")
    assert (shown >= 20, len(flights)) == (True, 20)
    first, last = page.evaluate("[window.shown[0], window.flights[0]]")
    assert last - first > 700, "it is seen waiting"


def test_every_button_answers_and_every_control_is_reached(
    screen: Any, lab: Any, notebook: Callable[..., str]
):
    page = screen.page
    screen.open(lab, notebook(ROOM))
    screen.run_all()
    screen.click("CRITICAL")
    screen.wait_total("dead", "1")
    names = page.evaluate(CONTROLS)
    assert [name for name in names if not name.strip()] == [], "each has a name to read out"
    page.locator(".etl-toggle-pause").focus()
    reached = []
    while (at := page.evaluate(FOCUSED)) and len(reached) < 100:
        reached.append(at)
        page.keyboard.press("Tab")
    missed = set(names) - {at["name"] for at in reached}
    assert missed == set()
    assert [at for at in reached if not at["ring"]] == [], "the focus is seen"
    assert [at for at in reached if at["row"]] != [], "rows are chosen by keyboard too"
    page.locator(".etl-toggle-pause").focus()
    page.keyboard.press("p")
    screen.wait_state("paused")
    page.keyboard.press("s")
    screen.wait_said("One batch is let through.")
    page.keyboard.press("2")
    page.locator(".etl-tabs td:has-text('idle')").first.wait_for()
    page.keyboard.press("p")
    screen.wait_state("idle")
    waits = [round(page.evaluate(ANSWER, ".etl-toggle-pause"))]
    page.locator(".etl-do-step:enabled").wait_for()
    buttons = (".etl-make-INFO", ".etl-do-step", ".etl-toggle-pause")
    waits += [round(page.evaluate(ANSWER, one)) for one in buttons]
    print("milliseconds:", waits)


def test_what_is_said_goes_and_what_failed_stays(
    screen: Any, lab: Any, notebook: Callable[..., str]
):
    page = screen.page
    screen.open(lab, notebook(ROOM))
    screen.run_all()
    screen.click("Pause")
    screen.wait_said("Paused. New lines wait until you resume.")
    page.wait_for_selector(".etl-saying-row.etl-said", state="detached", timeout=15_000)
    lines = page.get_by_label("Lines", exact=True).first
    lines.fill("0")
    lines.press("Tab")
    page.locator(".etl-word:has-text('1 to 1,000,000')").wait_for()
    screen.click("Burst")
    alarm = page.locator("[role=alert]:has-text('Burst failed: Lines: 1 to 1,000,000')")
    alarm.wait_for()
    page.wait_for_timeout(7000)  # longer than a success stays
    assert alarm.is_visible()
    screen.click("INFO")
    screen.wait_said("One INFO line queued.")
    assert not alarm.is_visible()


def test_a_discard_asks_and_can_be_undone(screen: Any, lab: Any, notebook: Callable[..., str]):
    page = screen.page
    screen.open(lab, notebook(ROOM))
    screen.run_all()
    for _ in range(3):
        screen.click("CRITICAL")
    screen.wait_total("dead", "3")
    show(screen)
    page.locator("[data-action=discard]").click()
    ask = page.locator("[role=alertdialog]:has-text('Discard 3 dead letters?')")
    ask.wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Keep"
    screen.shoot("discard_light")
    ask.locator("button:has-text('Discard 3')").click()
    screen.wait_said("3 dead letters discarded.")
    screen.wait_total("open", "0")
    page.locator(".etl-figure-open:has-text('3 discarded')").wait_for()
    page.locator(".etl-undo:not([hidden]) button").click()
    screen.wait_said("3 dead letters are open again.")
    screen.wait_total("open", "3")


def test_nothing_in_it_is_hard_to_use_for_anyone(
    screen: Any, lab: Any, notebook: Callable[..., str]
):
    page = screen.page
    screen.open(lab, notebook(ROOM))
    screen.run_all()
    screen.click("CRITICAL")
    page.locator(".etl-kinds .etl-why").first.wait_for()
    screen.click("Burst")
    screen.wait_total("accepted", "201")
    for theme in ("light", "dark"):
        if theme == "dark":
            page.evaluate(DARK)
            page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
        found = Axe().run(page, context=".etl-console")
        assert found.response["violations"] == [], found.generate_report()
        screen.open_kind()
        found = Axe().run(page, context=".etl-console")
        assert found.response["violations"] == [], found.generate_report()
        page.locator("[data-action=close]").click()
