"""Take the pictures of the documentation: what commands print, and the control room at work.

    python tools/pictures.py            all of them, into docs/pictures/
    python tools/pictures.py run room   some of them; the names are those of `PICTURES`

It runs the commands that the tutorial shows, in a folder that it removes at the end, and looks at
the control room with Chromium (`apt-get install chromium`). Look at the pictures before you keep
them: what a screen no longer has is passed over and said, and leaves a gap in the story.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Error, Page, ViewportSize, sync_playwright
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

import etl
from etl.default import pipeline

ROOT = Path(__file__).parent.parent
PICTURES_FOLDER = ROOT / "docs" / "pictures"
ENVIRONMENT = os.environ | {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "PYTHONPATH": str(ROOT),
    "COLUMNS": "100",
    "FORCE_COLOR": "1",
    "ETL_RUNS": "runs",
}
ROOM: ViewportSize = {"width": 1280, "height": 960}
"""What a picture of the control room shows: its upper left corner, in CSS pixels."""

FRAMES_WIDTH = 900
FRAMES_SECONDS = 0.15
SPEED = 2.0
"""Pixels, and seconds between two frames, of the recording; how much faster it is played."""

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
DURATIONS = re.findall(r"```python\n(# durations.py\n.*?)```", TUTORIAL, re.DOTALL)[0]
"""The pipeline that the tutorial writes."""

MAX_BYTES = 1_500_000

TERMINAL = """<body style="margin:0"><pre style="display:inline-block;margin:0;padding:16px 20px;
background:#16181d;color:#d7dae0;font:14px/1.35 'DejaVu Sans Mono',monospace">{code}</pre></body>"""


def say(text: str) -> None:
    """Tell the person who runs this."""
    sys.stderr.write(f"{text}\n")


def run(folder: Path, command: str) -> str:
    """Run a command as a user does and return what it prints, with its colours."""
    done = subprocess.run(
        command.split(), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def shoot_terminal(browser: Browser, name: str, command: str, output: str) -> None:
    """Take a picture of a terminal in which a command was given."""
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(output.rstrip()))
    page = browser.new_page(device_scale_factor=1.5)
    code = console.export_html(theme=MONOKAI, inline_styles=True, code_format="{code}")
    page.set_content(TERMINAL.format(code=code))
    save_png(page.locator("pre").screenshot(), name)
    page.close()


def picture_run(browser: Browser, folder: Path) -> None:
    """What `etl run` prints in the tutorial."""
    command = "etl run ../data/java_app.log ../data/postgresql.log --store first/store.db"
    shoot_terminal(browser, "run", command, run(folder, command))


def picture_top(browser: Browser, folder: Path) -> None:
    """`etl top` while a program logs, a worker is busy, and an operator has paused it."""
    logs = 'while read -r line; do echo "$line"; sleep 0.02; done <../data/python_app.log >live.log'
    put, work = (
        "etl put --follow live.log --store live/store.db",
        "etl work --store live/store.db",
    )
    with started(folder, logs), started(folder, f"exec {put}"), started(folder, f"exec {work}"):
        while not (folder / "live" / "store.db").exists() or done(folder) < 200:
            time.sleep(0.1)
        run(folder, "etl pause --store live/store.db")
        time.sleep(2)
        command = "etl top --store live/store.db"
        shoot_terminal(browser, "top", command, run(folder, f"{command} --once"))


def picture_pipeline(browser: Browser, folder: Path) -> None:
    """The default pipeline with what its processors have done to the sample logs."""
    run(folder, "etl run ../data/*.log ../data/service.jsonl --store all/store.db")
    with etl.open(str(folder / "all" / "store.db")) as store:
        figure = etl.figures.graph(store.metrics.processors(), pipeline.plan().edges)
    figure.update_layout(width=1000, height=320)
    page = browser.new_page(device_scale_factor=1.5)
    page.set_content(figure.to_html(include_plotlyjs=True))
    save_png(page.locator(".main-svg").first.screenshot(), "pipeline")
    page.close()


def done(folder: Path) -> int:
    """Return how many lines of the live store are done."""
    return int(json.loads(run(folder, "etl status --store live/store.db --json"))["done"])


def picture_dashboard(browser: Browser, folder: Path) -> None:
    """The dashboard of `etl serve`, while two workers process some logs of `data/`."""
    with etl.open(folder / "dashboard.db") as store:
        for name in ("python_app.log", "java_app.log", "service.logfmt", "python_app.log") * 3:
            lines = (ROOT / "data" / name).read_bytes().splitlines()
            for start in range(0, len(lines), 40):
                store.queue.put(etl.Batch.from_lines(lines[start : start + 40], source=name))
    port = free_port()
    work = "exec etl work --store dashboard.db --workers 2 --batch-lines 120 --interval 0.8"
    with (
        started(folder, f"exec etl serve --store dashboard.db --port {port}"),
        started(folder, f"{work} --pipeline etl.demo:dashboard --out dashboard"),
    ):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        wait_for(port)
        page.goto(f"http://127.0.0.1:{port}/", wait_until="load")
        time.sleep(45)
        save_png(page.screenshot(), "dashboard")
        page.close()


def wait_for(port: int) -> None:
    """Wait until a server listens on a port."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def picture_room(browser: Browser, folder: Path) -> None:
    """The control room: a picture, and a recording of its story."""
    serve = f"exec etl app --port {free_port()} --no-browser"
    with started(folder, serve) as log:
        page = browser.new_page(viewport=ROOM, device_scale_factor=1)
        open_room(page, log)
        recording = Recording(page)
        for step, seconds in STORY:
            if step and not press(page, step):
                say(f"the control room has no button {step!r}: it is passed over")
            recording.watch(seconds)
        save_png(page.screenshot(), "control_room")
        recording.save(PICTURES_FOLDER / "control_room.webp")
        page.close()


STORY = [
    ("", 1.0),
    ("Pause", 1.0),
    *[(level, 0.3) for level in ("INFO", "INFO", "WARNING", "INFO", "INFO", "ERROR", "WARNING")],
    ("", 1.5),
    ("Resume", 15.0),
    ("CRITICAL", 4.0),
    ("Burst", 6.0),
]
"""Buttons of the control room, and seconds to watch after each."""


def open_room(page: Page, log: Path) -> None:
    """Open the control room's page, wait until the notebook's story is over, and go to the room."""
    while not (found := re.search(r"http://\S+", log.read_text(encoding="utf-8"))):
        time.sleep(0.1)
    page.goto(found[0], timeout=120_000)
    page.locator("button", has_text="Pause").first.wait_for(timeout=120_000)
    time.sleep(5)
    page.locator(".etl-room").first.evaluate("node => node.scrollIntoView({ block: 'start' })")


def press(page: Page, name: str) -> bool:
    """Press a button; return False if there is none."""
    button = page.locator("button", has_text=re.compile(rf"^\s*{name}\s*$"))
    try:
        button.first.click(timeout=3_000)
    except Error:
        return False
    return True


class Recording:
    """Frames of a page, each as long as it was to be seen."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._frames: list[Image.Image] = []
        self._milliseconds: list[float] = []

    def watch(self, seconds: float) -> None:
        """Take frames for so long; one like that before makes it stay longer."""
        end = time.monotonic() + seconds
        while (start := time.monotonic()) < end:
            shot = Image.open(io.BytesIO(self._page.screenshot())).convert("RGB")
            size = FRAMES_WIDTH, shot.height * FRAMES_WIDTH // shot.width
            frame = shot.resize(size, Image.Resampling.LANCZOS)
            self._page.wait_for_timeout(max(0, FRAMES_SECONDS - (time.monotonic() - start)) * 1000)
            lasted = (time.monotonic() - start) * 1000
            if self._frames and frame.tobytes() == self._frames[-1].tobytes():
                self._milliseconds[-1] += lasted
            else:
                self._frames.append(frame)
                self._milliseconds.append(lasted)

    def save(self, path: Path) -> None:
        """Write an animated WebP, as good as it may be large."""
        first, *rest = self._frames
        lengths = [max(40, round(one / SPEED)) for one in self._milliseconds]
        lengths[-1] += 2_000
        for quality in (80, 60, 40, 20):
            options = {"quality": quality, "method": 4, "loop": 0, "duration": lengths}
            first.save(path, save_all=True, append_images=rest, **options)
            if path.stat().st_size <= MAX_BYTES:
                break
        say(f"{path.name}: {len(lengths)} frames, {sum(lengths) / 1000:.0f} s, quality {quality}")


def save_png(shot: bytes, name: str) -> None:
    """Write a picture with 128 colours."""
    picture = (
        Image.open(io.BytesIO(shot)).convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE)
    )
    picture.save(PICTURES_FOLDER / f"{name}.png", optimize=True)


@contextmanager
def started(folder: Path, command: str) -> Iterator[Path]:
    """Run a command beside this; give the file with what it prints, and end it with Ctrl-C."""
    log = folder / f"{zlib.crc32(command.encode())}.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=ENVIRONMENT, stdout=out, stderr=out
        )
        try:
            yield log
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


PICTURES: dict[str, Callable[[Browser, Path], None]] = {
    "run": picture_run,
    "top": picture_top,
    "pipeline": picture_pipeline,
    "dashboard": picture_dashboard,
    "room": picture_room,
}


def main(names: list[str]) -> None:
    """Take the pictures of these names, or all."""
    PICTURES_FOLDER.mkdir(exist_ok=True)
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        shutil.copytree(ROOT / "data", Path(home, "data"), ignore=shutil.ignore_patterns("runs"))
        folder = Path(home, "tutorial")
        folder.mkdir()
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for name in names or PICTURES:
            PICTURES[name](browser, folder)
        browser.close()
    for path in sorted(PICTURES_FOLDER.iterdir()):
        say(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
