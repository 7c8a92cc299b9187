"""Where the control room finds its notebooks and puts their copies; `browser` tests the servers."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from etl import Batch, Queue, open_queue
from etl.errors import UsageError
from etl.notebook import lab, launch, shipped
from etl.notebook.opening import DEMO, opening
from etl.notebook.page import _prefix, cell
from etl.runs.registry import recorded_use


def test_the_notebooks_and_the_sample_logs_of_a_checkout_are_beside_the_package():
    root = Path(__file__).parents[2]
    assert shipped.find_notebook("02_batch_run") == root / "notebooks" / "02_batch_run.ipynb"
    assert shipped.sample_folder() == root / "data"


def test_those_of_a_wheel_are_inside_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "etl"
    for name in ("notebooks", "data"):
        (tmp_path / name).mkdir()  # of another package
        (package / name).mkdir(parents=True)
    (package / "notebooks" / "02_batch_run.ipynb").touch()
    monkeypatch.setattr(shipped.resources, "files", lambda _name: package)
    assert shipped.find_notebook("02_batch_run") == package / "notebooks" / "02_batch_run.ipynb"
    assert shipped.sample_folder() == package / "data"


def test_a_notebook_that_is_not_there_is_named():
    with pytest.raises(UsageError, match=r"there is no '.*/nine\.ipynb'; install etl again"):
        shipped.find_notebook("nine")


def test_copies_are_as_private_as_their_folder(tmp_path: Path):
    tmp_path.chmod(0o700)
    copies = shipped.copy_notebooks(tmp_path)
    assert [copy.name[:3] for copy in copies] == ["01_", "02_", "03_", "04_", "05_", "06_"]
    assert {copy.stat().st_mode & 0o777 for copy in copies} == {0o600}
    assert copies[0].read_bytes() == shipped.find_notebook("01_control_room").read_bytes()


@pytest.mark.parametrize(
    ("runs", "root"), [("data/runs", "."), (".etl/runs", ".etl/runs"), ("../runs", "../runs")]
)
def test_lab_shows_the_current_folder_if_the_run_can_be_seen_in_it(
    runs: str, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    found = launch._root_above((here / runs).resolve() / "20260101-000000-1234")
    assert found == (here / root).resolve()


def test_an_option_of_the_users_own_takes_the_place_of_ours():
    assert launch._merged(["--a=1", "--b=1"], ["--b=2", "--c"]) == ["--a=1", "--b=2", "--c"]


@pytest.mark.parametrize("given", ["/tools/etl/", "/tools/etl", "tools/etl"])
def test_a_prefix_has_a_slash_at_both_ends(given: str):
    assert _prefix(given) == "/tools/etl/"
    assert _prefix("/") == "/"


def test_the_cell_of_the_page_names_no_store():
    code = cell("it's.py:pipeline", workers=2, interval=0.5)
    compile(code, "cell", "exec")
    assert """opening(queue, "it's.py:pipeline", workers=2""" in code
    assert 'os.environ["ETL_STORE"]' in code


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """Give a new store, of which no run is recorded."""
    monkeypatch.setenv("ETL_RUNS", str(tmp_path / "runs"))
    with closing(open_queue(str(tmp_path / "store.db"))) as queue:
        yield queue


def opened(queue: Queue, *given: str, **asked: int) -> tuple[str | None, int, bool]:
    found = opening(queue, *given, **asked)
    return found["pipeline"], found["workers"], found["demo"]


def test_a_room_on_a_new_store_is_the_demo_also_when_it_is_opened_again(store: Queue):
    assert opened(store) == (DEMO, 1, True)
    with recorded_use(store, "first", kind="room", pipeline=DEMO):
        store.put(Batch.from_lines(["INFO one"]))
    assert opened(store) == (DEMO, 1, True)


def test_a_room_leaves_lines_to_the_workers_of_the_store(store: Queue):
    store.put(Batch.from_lines(["mine"]))
    assert opened(store) == (None, 0, False)
    assert opened(store, workers=2) == (None, 2, False)
    with recorded_use(store, "mine", kind="work", pipeline="etl.default:pipeline"):
        pass
    assert opened(store) == ("etl.default:pipeline", 0, False)
    assert opened(store, DEMO) == (DEMO, 1, True)
    assert opening(store)["batch_lines"] > 1


def test_a_pipeline_that_is_named_gets_a_worker(store: Queue):
    store.put(Batch.from_lines(["mine"]))
    assert opened(store, "etl.default:pipeline") == ("etl.default:pipeline", 1, False)
    assert opened(store, "etl.default:pipeline", workers=0)[1] == 0


def test_a_pipeline_that_cannot_be_loaded_is_a_word_in_the_room_or_an_error(store: Queue):
    with recorded_use(store, "gone", kind="work", pipeline="gone.py:pipeline"):
        store.put(Batch.from_lines(["mine"]))
    found = opening(store)
    assert (found["pipeline"], found["workers"]) == (None, 0)
    assert "The pipeline of this store cannot be loaded here: " in found["problem"]
    with pytest.raises(UsageError, match=r"gone\.py"):
        opening(store, "gone.py:pipeline")


@pytest.mark.parametrize(
    "said",
    [
        "Got events for closed stream <zmq.eventloop.zmqstream.ZMQStream object at 0x7f>",
        "The websocket_ping_timeout (90) cannot be longer than the websocket_ping_interval",
    ],
)
def test_what_a_server_says_at_every_end_is_not_logged(said: str):
    assert not launch._is_news(_record(said))
    assert launch._is_news(_record("Uncaught exception in ZMQStream callback"))


def _record(said: str) -> logging.LogRecord:
    return logging.LogRecord("tornado.general", logging.WARNING, __file__, 1, said, None, None)


def test_a_server_that_is_interrupted_is_stopped_by_its_loop(monkeypatch: pytest.MonkeyPatch):
    handlers, said = [], []
    monkeypatch.setattr("signal.signal", lambda *given: handlers.append(given))
    loop = SimpleNamespace(add_callback_from_signal=said.append)
    lab._interrupt(SimpleNamespace(io_loop=loop, stop=lambda **how: said.append(how)))
    assert handlers == [(signal.SIGINT, signal.default_int_handler)]  # for a second one
    (call,) = said  # nothing was stopped in the midst of something else
    call()
    assert said[1:] == [{"from_signal": True}]
