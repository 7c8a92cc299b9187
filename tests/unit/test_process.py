"""Whether a process runs, and how it is asked to end."""

from __future__ import annotations

import os
import subprocess
import sys

from etl.queue.process import alive, birth

ASKED_WITHOUT_END = """
import os, signal, threading
from etl.workers.signals import when_asked_to_end
ended = threading.Event()
when_asked_to_end(ended.set)

def ask_again():
    while not done:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

done = False
asking = threading.Thread(target=ask_again)
asking.start()
for _ in range(100_000):
    ended.is_set() or ended.wait(0.0)
    ended.set()
done = True
asking.join()
print("ended", ended.wait(10))
"""


def test_a_process_that_is_asked_to_end_at_any_instant_ends():
    done = subprocess.run(
        [sys.executable, "-c", ASKED_WITHOUT_END],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )

    assert done.stdout == "ended True\n"


def test_a_process_runs_until_it_has_ended():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = birth(child.pid)
    assert alive(child.pid)
    assert alive(child.pid, born)
    assert not alive(child.pid, "0")
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(child.pid), "ended, and not waited for"
    child.communicate()
    assert not alive(child.pid)
