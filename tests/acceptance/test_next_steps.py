"""The commands that etl prints are pasted here: each does what it is printed for."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
BAD = "a \x1b]0;x\x07\r\n'$HOME' \u202e"


def steps(text: str) -> dict[str, str]:
    """Return the next steps of a summary: commands by what they are for."""
    block = text.partition("next steps:\n")[2]
    return dict(re.findall(r"^  (\S.*?)  +(\S.*)$", block, re.MULTILINE))


def paste(site, command: str, **more) -> str:
    """Run a command in the shell of the site, and return what it printed."""
    options = site.options(**more)
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, check=False, timeout=100, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def failed(site):
    """Give a site and the next steps after a run of which three lines are dead."""
    lines = [f"line {n}" + " poison" * (n in (3, 5, 7)) for n in range(10)]
    site.write("app.log", "\n".join(lines) + "\n")
    printed = site.etl("run", "app.log", *site.pipeline("light"))
    site.settled(done=7, dead=3)
    return site, steps(printed)


def test_a_run_ends_with_three_next_steps(failed):
    _, found = failed
    assert [*found] == ["see the failures", "open the control room", "read the output"]


def test_the_failures_are_listed(failed):
    site, found = failed
    assert "line 3 poison" in paste(site, found["see the failures"])


def test_the_output_is_read_in_one_line_of_python(failed):
    site, found = failed
    assert found["read the output"].startswith("python")
    assert "shape: (7, " in paste(site, found["read the output"])


def test_the_control_room_opens_on_the_store_of_the_run(failed):
    site, found = failed
    command = f"exec {found['open the control room']} --no-browser --port 0"
    options = site.options() | {"start_new_session": True}
    process = subprocess.Popen(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    site._started.append(process)
    said = []
    for line in process.stdout:
        said.append(line)
        if "?token=" in line:
            break
    process.send_signal(signal.SIGINT)
    said.append(process.communicate(timeout=60)[0])
    text = "".join(said)
    assert re.search(r"/lab/tree/\S+/01_control_room\.ipynb\?token=", text), text
    assert "Warning" not in text
    assert str(site.store.relative_to(site.folder)) in command


def test_a_run_without_failures_shows_the_paths_of_its_lines(site):
    site.write("app.log", "line 1\n")
    found = steps(site.etl("run", "app.log", *site.pipeline("light")))
    assert [*found][:2] == ["open the control room", "read the output"]
    assert "number → parquet" in paste(site, found["see the paths of the last lines"])
    site.settled(done=1)


def test_output_that_is_json_lines_is_read_as_such(site):
    site.write("app.log", "line 1\nline 2\n")
    site.write(
        "p.py",
        "from etl import JsonLines, Pipeline\n"
        "pipeline = Pipeline().add('start', None).add('out', JsonLines())\n",
    )
    found = steps(site.etl("run", "app.log", "--pipeline", "p.py:pipeline"))
    assert "shape: (2, " in paste(site, found["read the output"])
    site.settled(done=2)


def test_steps_work_where_no_environment_is_activated(site):
    site.write("app.log", "line 1\nline poison\n")
    bare = {"PATH": os.pathsep.join(p for p in os.environ["PATH"].split(":") if p != str(BIN))}
    found = steps(site.etl("run", "app.log", *site.pipeline("light"), env=bare))
    assert "line poison" in paste(site, found["see the failures"], env=bare)
    assert "shape: (1, " in paste(site, found["read the output"], env=bare)
    site.settled(done=1, dead=1)


def test_names_that_a_shell_would_read_otherwise_are_quoted(site):
    site.write(f"{BAD}/app.log", "line 1\nline poison\n")
    store = site.folder / BAD / "x.db"
    log = site.folder / BAD / "app.log"
    found = steps(site.etl("run", log, *site.pipeline("light"), "--store", store))
    assert "line poison" in paste(site, found["see the failures"])
    assert "shape: (1, " in paste(site, found["read the output"])


def test_a_run_that_was_interrupted_goes_on_with_the_printed_command(site, tmp_path):
    site.write("a.log", "".join(f"line {n}\n" for n in range(5_000)))
    gate = {"GATE": str(tmp_path / "gate")}
    process = site.start("run", "a.log", "--reread", *site.pipeline("light"), env=gate)
    site.seen(lambda stats: stats.leased > 0, 60.0)
    process.send_signal(signal.SIGINT)
    (tmp_path / "gate").touch()
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 130
    (again,) = re.findall("interrupted; to continue: (.*)", said)
    assert "--reread" not in again
    printed = paste(site, again)
    site.settled(done=5_000)
    assert sorted(site.rows()["number"].to_list()) == list(range(5_000))
    assert "5,000 accepted" in printed


def test_a_stream_that_was_interrupted_is_not_read_again(site, tmp_path):
    gate = {"GATE": str(tmp_path / "gate")}
    stdin = subprocess.PIPE
    process = site.start("run", "-", *site.pipeline("light"), env=gate, stdin=stdin)
    process.stdin.write("line 1\nline 2\n")
    process.stdin.flush()
    site.seen(lambda stats: stats.leased > 0, 60.0)
    process.send_signal(signal.SIGINT)
    (tmp_path / "gate").touch()
    said = process.communicate(timeout=100)[0]
    (again,) = re.findall("interrupted; to continue: (.*)", said)
    assert " work --drain " in again
    paste(site, again)
    site.settled(done=2)


def test_the_command_that_resumes_a_store_is_that_of_the_store(site):
    site.put(["line 1"], of=1)
    (resume,) = re.findall("paused; to continue: (.*)", site.etl("pause"))
    paste(site, resume)
    assert not site.queue.control().paused
    site.etl("work", "--drain", *site.pipeline("light"))


def test_dead_letters_that_were_replayed_are_processed_by_the_printed_command(failed):
    site, _ = failed
    (work,) = re.findall("process them with: (.*)", site.etl("dlq replay", "--all"))
    paste(site, work)
    assert site.queue.stats().waiting == 0
    assert site.dead_letters()["replays"].to_list() == [1, 1, 1]


def test_a_terminal_shows_what_a_run_waits_for_and_then_only_the_result(site, tmp_path):
    site.write("app.log", "line 1\nline 2\n")
    gate = tmp_path / "gate"
    screen, inner = pty.openpty()
    process = site.start(
        "run",
        "app.log",
        *site.pipeline("light"),
        env={"GATE": str(gate)},
        stdout=inner,
        stderr=inner,
    )
    os.close(inner)
    text = b""
    with contextlib.suppress(OSError):  # the terminal has ended
        while more := os.read(screen, 1 << 16):
            text += more
            if b"waiting for the last 2 lines, with " in text:
                gate.touch()
    os.close(screen)
    assert process.wait(60) == 0
    shown, _, after = text.partition(b"\x1b[?25h")
    assert b"waiting for the last 2 lines" in shown
    assert b"2 accepted = 2 done" in after
    assert b"waiting for" not in after
