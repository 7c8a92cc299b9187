"""The control room as a person sees it, in JupyterLab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

ROOM = """
from pathlib import Path
from etl import Batch, open_queue
from etl.notebook.control_room import ControlRoom
from etl.demo import dashboard
queue = open_queue("sqlite://")
room = ControlRoom(queue, dashboard, interval=0.1)
room
"""

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

ANSWER = """selector => new Promise((done) => {
    const root = document.querySelector('.etl-console');
    const button = [...root.querySelectorAll(selector)]
        .find((one) => one.checkVisibility() && !one.disabled);
    const start = performance.now();
    const watch = new MutationObserver(() => { watch.disconnect();
        requestAnimationFrame(() => done(performance.now() - start)); });
    for (const area of root.querySelectorAll('.etl-answer'))
        watch.observe(area, { childList: true, subtree: true, characterData: true });
    button.click(); })"""
"""Clicks a button and returns after how many milliseconds its answer is painted."""

NAME = """const name = (node) => node.getAttribute('aria-label') || node.labels?.[0]?.textContent
    || node.textContent || node.title;"""

CONTROLS = f"""() => {{ {NAME} return [...document.querySelectorAll(
    '.etl-room :is(button, input, select, textarea):enabled')]
    .filter((node) => node.checkVisibility() && node.tabIndex >= 0 && node.type !== 'file')
    .map(name); }}"""

FOCUSED = f"""() => {{ {NAME} const node = document.activeElement, style = getComputedStyle(node);
    return node.closest('.etl-room') && {{ name: name(node), row: node.tagName === 'TR',
        ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1 }}; }}"""

FRAMES = """() => new Promise((done) => { let count = 0; const start = performance.now();
    const next = () => { count += 1; const ms = performance.now() - start;
        if (ms > 2000) done(count / ms * 1000);
        else requestAnimationFrame(next); };
    requestAnimationFrame(next); })"""
"""Counts frames for two seconds, and returns how many came in one."""

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

SOAK = """
import itertools
from etl import Worker
room.close()
worker, turns = Worker(queue, dashboard), itertools.count()
for turn in itertools.islice(turns, COUNT):
    queue.put(Batch.from_lines([f"INFO {turn}", f"CRITICAL {turn}"], source="soak"))
    room.draw()
    worker.drain()
    room.draw()
_ = 0
"""

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


def test_a_file_is_uploaded_and_its_progress_is_seen(
    screen: Any, lab: Any, notebook: Callable[..., str], tmp_path: Path
):
    page = screen.page
    big = tmp_path / "big.log"
    big.write_text(
        "".join(f"INFO user {n:>8} has bought a very fine thing\n" for n in range(180_000))
    )
    store = f'"sqlite:///{tmp_path / "store.db"}", max_lines=100_000'
    code = ROOM.replace('"sqlite://"', store).replace("0.1", "0, batch_lines=50_000")
    screen.open(lab, notebook(code))
    screen.run_all()
    screen.click("Pause")
    screen.wait_state("paused")
    with page.expect_file_chooser() as chooser:
        page.locator(".etl-upload").click()
    chooser.value.set_files(big)
    bar = page.locator(".etl-feeding [role=progressbar]")
    bar.wait_for()
    page.wait_for_function(
        "Number(document.querySelector('.etl-feeding [role=progressbar]').ariaValueNow) > 50",
        timeout=30_000,
    )
    page.locator(".etl-more:has-text('more')").wait_for()
    assert int(bar.get_attribute("aria-valuenow")) < 60, "a full queue holds it"
    screen.click("Resume")
    screen.wait_said("180,000 lines of big.log fed.", timeout=60_000)
    bar.wait_for(state="hidden")
    screen.wait_total("done", "180,000")


def test_hundreds_of_updates_leave_the_page_as_it_was(
    screen: Any, lab: Any, notebook: Callable[..., str]
):
    screen.open(lab, notebook(ROOM))
    screen.run_all()
    cdp = screen.page.context.new_cdp_session(screen.page)
    newest = screen.page.locator(".etl-tabs tbody tr").first  # drawn after the header
    cdp.send("Performance.enable")

    def measure() -> dict[str, float]:
        cdp.send("HeapProfiler.collectGarbage")
        metrics = {m["name"]: m["value"] for m in cdp.send("Performance.getMetrics")["metrics"]}
        return {name: metrics[name] for name in ("Nodes", "JSEventListeners", "JSHeapUsedSize")}

    def grown(before: dict[str, float], after: dict[str, float]) -> list[str]:
        most = {"Nodes": 300, "JSEventListeners": 50, "JSHeapUsedSize": 8e6}
        return [name for name, limit in most.items() if after[name] >= before[name] + limit]

    assert screen.run(SOAK.replace("COUNT", "40")) == "0"
    screen.wait_total("dead", "40")
    newest.filter(has_text="CRITICAL 39").wait_for()
    seen = [measure()]
    # JupyterLab draws parts of its own page once, at a time of its choice: what the
    # room's updates leave behind, they leave in every round.
    for total in ("100", "160", "220"):
        assert screen.run(SOAK.replace("COUNT", "60")) == "0"
        screen.wait_total("dead", total)
        newest.filter(has_text="CRITICAL 59").wait_for()
        seen.append(measure())
        if not grown(*seen[-2:]):
            break
    print(*seen, sep="\n")
    assert not grown(*seen[-2:]), seen


def test_a_click_is_answered_while_a_cell_computes(
    screen: Any, lab: Any, notebook: Callable[..., str], tmp_path: Path
):
    screen.open(lab, notebook(ROOM))
    screen.run_all()
    enough = tmp_path / "enough"
    cell = f"while not Path({str(enough)!r}).exists(): sum(range(1000))"
    screen.run(f"Path({str(tmp_path / 'begun')!r}).touch()\n{cell}", wait=False)
    while not (tmp_path / "begun").exists():
        screen.page.wait_for_timeout(20)
    screen.click("Pause")
    screen.wait_state("paused")
    screen.wait_said("Paused. New lines wait until you resume.")
    screen.page.locator(".etl-do-step:enabled").wait_for()
    buttons = (".etl-make-INFO", ".etl-do-step", ".etl-toggle-pause", ".etl-make-ERROR")
    milliseconds = [round(screen.page.evaluate(ANSWER, one)) for one in buttons]
    print("milliseconds:", milliseconds)
    enough.touch()


def test_text_from_a_log_is_never_html(screen: Any, lab: Any, notebook: Callable[..., str]):
    page = screen.page
    screen.open(lab, notebook(ROOM))
    screen.run_all()
    bad = "<img src=x onerror='window.hacked=1'><b>CRITICAL</b>"
    screen.run(f"queue.pause(); queue.put(Batch.from_lines([{bad!r}], source={bad!r}))")
    icon = page.locator(".etl-icons .etl-icon")
    icon.wait_for()
    assert icon.get_attribute("title") == bad
    page.locator("[role=tab]:has-text('Queue')").click()
    page.locator(".etl-tabs td:has-text('<img src=x')").first.wait_for()
    screen.click("Resume")
    screen.wait_total("dead", "1")
    page.locator(".etl-latest li:has-text('<img src=x')").wait_for()
    screen.open_kind()
    page.locator(".etl-drawer tbody td:has-text('<img src=x')").first.wait_for()
    page.locator("[role=tab]:has-text('Traces')").click()
    page.locator(".etl-tabs tbody tr").first.click()
    page.locator(".etl-hops .etl-cut:has-text('<img src=x')").wait_for()
    screen.run(f"room.operator.said.say({bad!r})")
    page.locator(".etl-answer span:has-text('<img src=x')").first.wait_for()
    page.locator("[role=tab]:has-text('Tap')").click()
    page.locator("[data-action=tap]").click()
    page.locator(".etl-tabs td:has-text('<img src=x'):visible").first.wait_for()
    assert page.locator(".etl-room img").count() == 0
    assert page.evaluate("window.hacked") is None


def test_many_icons_stay_smooth(screen: Any, lab: Any, notebook: Callable[..., str]):
    screen.open(lab, notebook(ROOM))
    screen.run_all()
    churn = """
import time, itertools
room.close()
levels = itertools.cycle(["INFO", "WARNING", "ERROR", "CRITICAL"])
lines = [[str(n), next(levels), f"line {n}"] for n in range(4000)]
for step in itertools.count():
    start = step % 150 * 20
    room.icons.show(waiting=lines[start : start + 80], more=400, processing=[], leased=0,
        waiting_lines=480, rate=10.0, died=[])
    time.sleep(0.2)
"""
    screen.run(churn, wait=False)
    screen.page.wait_for_function("document.querySelectorAll('.etl-icons .etl-icon').length >= 80")
    tries = [screen.page.evaluate(FRAMES)]
    while tries[-1] <= 30 and len(tries) < 10:  # other programs may have their turn
        tries.append(screen.page.evaluate(FRAMES))
    print("frames a second:", [round(one) for one in tries])
    assert tries[-1] > 30


def test_who_wants_less_motion_gets_none(screen: Any, lab: Any, notebook: Callable[..., str]):
    screen.page.emulate_media(reduced_motion="reduce")
    screen.open(lab, notebook(ROOM))
    screen.run_all()
    screen.click("Pause")
    screen.wait_state("paused")
    moving = """[...document.querySelectorAll('.etl-room, .etl-room *')].flatMap(
        (node) => ['', '::before'].map((part) => getComputedStyle(node, part || null).animationName)
    ).filter((name) => name !== 'none').length"""
    assert screen.page.evaluate(moving) == 0


@pytest.mark.parametrize("server", ["lab", "page_server"])
def test_a_page_of_another_site_reaches_nothing(server: str, request: pytest.FixtureRequest):
    base = request.getfixturevalue(server).url
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    kernel = "/api/kernels/1/channels"
    for path in ("/", "/static/x", "/voila/static/x", "/lab", "/login", "/no/such", kernel):
        for headers in ({}, upgrade):
            rebound = headers | {"host": "evil.example", "origin": "http://evil.example"}
            assert httpx.get(base + path, headers=rebound).status_code == 421
        foreign = {"origin": "http://evil.example"}
        assert httpx.get(base + path, headers=upgrade | foreign).status_code == 403
        assert httpx.post(base + path, headers=foreign).status_code == 403
