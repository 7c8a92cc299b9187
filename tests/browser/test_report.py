"""A batch's report, opened from disk in a browser that can reach nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HOSTILE = (
    "<img src=x onerror=document.title='owned'></script><script>document.title='owned'</script>"
)

PIPELINE = """
import polars as pl
from etl import Parquet, Pipeline, reject

def look(frame):
    frame = frame.with_columns(
        level=pl.col("line").str.extract("(INFO|ERROR)"),
        timestamp=pl.lit("2026-01-01").str.to_datetime(time_zone="UTC"),
    )
    return reject(frame, pl.col("level").is_null(), "no_level", pl.col("line"))

pipeline = Pipeline("p").add("look", look).add("out", Parquet())
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the report of a batch whose lines want to run in it."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "mine.py").write_text(PIPELINE)
    lines = [f"INFO {number} {HOSTILE}" for number in range(90)] + [f"{HOSTILE} poison"] * 10
    (folder / "app.log").write_text("\n".join([*lines, ""]))
    command = [sys.executable, "-m", "etl", "batch", "app.log", "--out", "run"]
    command += ["-p", "pipeline=mine.py:pipeline", "-p", "max_dead=3"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    return folder / "run" / "report.html"


def test_the_report_asks_for_nothing_and_shows_its_charts_and_tables(screen, report):
    asked = []
    screen.page.on("request", lambda request: asked.append(request.url))
    screen.page.goto(report.as_uri())
    screen.page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length === 3")
    assert asked == [report.as_uri()]
    bars = "[...document.querySelectorAll('.js-plotly-plot')].at(-1).data[0]"
    heights = f"Array.from({bars}.y._inputArray ?? {bars}.y)"  # Plotly packs whole columns
    assert screen.page.evaluate(f"[{bars}.name, {heights}]") == ["INFO", [90]]
    assert screen.page.locator(".verdict").inner_text() == "quality gate failed"
    assert "dead lines: 10, not ≤ 3" in screen.page.locator(".trouble").inner_text()
    text = screen.page.locator("main").inner_text()
    assert "too few batches: 1, of 20" in text
    assert re.search(r"lines that still wait\s+0\s+0\s+✓ passed", text)
    screen.shoot("report")


def test_lines_are_text_in_the_report_and_run_nowhere(screen, report):
    screen.page.goto(report.as_uri())
    screen.page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length === 3")
    assert screen.page.title() == "app.log"
    assert "onerror=document.title" in screen.page.locator("main").inner_text()
    assert screen.page.locator("main img").count() == 0


def test_code_is_folded_away_until_it_is_asked_for(screen, report):
    screen.page.goto(report.as_uri())
    code = screen.page.locator(".code").first
    assert not code.is_visible()
    screen.page.check("#show-code")
    assert "import batch" in code.inner_text()


def test_what_counts_is_on_the_first_screen(screen, report):
    screen.page.set_viewport_size({"width": 1280, "height": 900})
    screen.page.goto(report.as_uri())
    for shown in (".trouble li", "text=Quality gates", "text=Why lines failed", "text=no_level"):
        box = screen.page.locator(shown).first.bounding_box()
        assert box["y"] + box["height"] < 900, shown
    sources = screen.page.locator("section", has_text="How each file was read").locator("td")
    assert sources.first.inner_text() == "app.log"
    assert sources.first.bounding_box()["y"] < 900


def test_the_report_is_small(report):
    assert report.stat().st_size < 2_000_000


def luminance(page, selector: str, value: str) -> float:
    """Return how light a colour of an element is, from 0 to 255."""
    text = page.eval_on_selector(selector, f"one => getComputedStyle(one).{value}")
    return sum(map(float, re.findall(r"[0-9.]+", text)[:3])) / 3


def test_a_dark_page_is_dark_with_light_charts_in_print(screen, report):
    page = screen.page
    page.emulate_media(color_scheme="dark")
    page.goto(report.as_uri())
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length === 3")
    assert luminance(page, "html", "backgroundColor") < 40
    assert luminance(page, ".js-plotly-plot .gtitle", "fill") > 180
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert luminance(page, "html", "backgroundColor") == 255
    width = "document.querySelector('.js-plotly-plot .main-svg').width.baseVal.value"
    assert page.evaluate(width) < 700
    assert luminance(page, ".js-plotly-plot .gtitle", "fill") < 80
    page.emulate_media(media="screen", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert luminance(page, ".js-plotly-plot .gtitle", "fill") > 180
