"""`etl top` in a terminal: it is renewed, keys control the store, the terminal is restored."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

LEAVES = b"\x1b[?1049l"
"""What a terminal is told when a full screen ends."""


class Terminal:
    """A terminal of 120 by 40 in which `etl top` runs."""

    def __init__(self, site, **more) -> None:
        self.screen, self._inner = pty.openpty()
        fcntl.ioctl(self._inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.before = termios.tcgetattr(self._inner)
        self.text = b""
        streams = {"stdin": self._inner, "stdout": self._inner, "stderr": self._inner} | more
        options = site.options(**streams) | {"text": False, "start_new_session": True}
        options["env"] = options["env"] | {"TERM": "xterm-256color"}
        del options["env"]["COLUMNS"]
        self.process = subprocess.Popen(site.command("top", "--interval", "0.1"), **options)
        site._started.append(self.process)

    def until(self, wanted: bytes, timeout: float = 60.0) -> None:
        """Wait until the screen has been sent a text; what came before is forgotten."""
        deadline = time.monotonic() + timeout
        while wanted not in self.text:
            left = deadline - time.monotonic()
            assert left > 0, self.text[-2_000:]
            if select.select([self.screen], [], [], left)[0]:
                self.text += os.read(self.screen, 1 << 16)
        self.text = self.text.partition(wanted)[2]

    def press(self, key: str) -> None:
        os.write(self.screen, key.encode())

    def ended(self) -> int:
        """Wait for the end, and return the exit code; the terminal is as it was."""
        self.until(LEAVES)
        code = self.process.wait(60)
        assert termios.tcgetattr(self._inner) == self.before
        return code

    def close(self) -> None:
        os.close(self.screen)
        os.close(self._inner)


@pytest.fixture
def terminal(site):
    made = []

    def make(**more) -> Terminal:
        made.append(Terminal(site, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_keys_pause_and_resume_the_store_and_quit(site, terminal):
    site.put(["line 1", "line 2"], of=1)
    top = terminal()
    top.until(b"no worker runs")
    assert termios.tcgetattr(top._inner) != top.before
    top.press("p")
    top.until(b"paused")
    assert site.queue.control().paused
    top.press("\x1b[A")
    top.press("\x1a")
    top.press("R")
    top.until(b"no worker runs")
    assert not site.queue.control().paused
    top.press("q")
    assert top.ended() == 0


def test_what_changes_is_shown(site, terminal):
    site.put(["line 1"], of=1)
    top = terminal()
    top.until(b"1 waiting")
    site.etl("work", "--drain", *site.pipeline("light"))
    top.until(b"1 done")
    top.press("q")
    assert top.ended() == 0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_restored_however_it_ends(site, terminal, sent):
    site.put(["line 1"], of=1)
    top = terminal()
    top.until(b"q quit")
    top.process.send_signal(sent)
    assert top.ended() == 0
    site.etl("work", "--drain", *site.pipeline("light"))


def test_without_a_terminal_to_read_keys_from_it_is_only_shown(site, terminal):
    site.put(["line 1"], of=1)
    top = terminal(stdin=subprocess.DEVNULL)
    top.until(b"1 waiting")
    site.etl("work", "--drain", *site.pipeline("light"))
    top.until(b"1 done")
    assert b"q quit" not in top.text
    top.process.terminate()
    assert top.ended() == 0


def test_an_overview_is_printed_as_json(site):
    site.put(["line 1", "line poison"], of=2)
    site.etl("work", "--drain", *site.pipeline("light"))
    found = json.loads(site.etl("top", "--json"))
    assert found["totals"]["dead"] == 1
    assert found["kinds"][0]["lines"] == 1
