"""The command line as people and scripts use it: real processes on real files."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from backports import zstd

from etl import __version__
from etl.records.batch import count_lines

COUNTS = ("accepted", "done", "filtered", "dead", "leased", "waiting")
KEYS = {*COUNTS, "seconds", "lines_per_second", "paused", "processors"}
NORMAL = ("timestamp", "level", "logger", "pid", "message")

PACKED = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstd.compress,
}


def numbered(first, last):
    return "".join(f"line {n}\n" for n in range(first, last))


def numbers(site):
    return sorted(site.rows()["number"].to_list())


# Sources


@pytest.mark.parametrize("verb", ["run", "put"])
def test_files_are_read_packed_or_not(site, verb):
    for part, (suffix, pack) in enumerate(PACKED.items()):
        text = numbered(part * 3_000, part * 3_000 + 3_000)
        site.write(f"logs/app.log{suffix}", pack(text.encode()))
    site.etl(verb, "logs", *(site.pipeline("light") if verb == "run" else ()))
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=12_000)
    assert numbers(site) == list(range(12_000))
    assert set(site.rows()["source"]) == {f"logs/app.log{suffix}" for suffix in PACKED}


@pytest.mark.parametrize("way", [["logs"], ["logs/*.log*"], ["logs/a.log", "logs/b.log.gz", "-"]])
def test_a_folder_a_glob_or_several_files_are_read(site, way):
    site.write("logs/a.log", numbered(0, 10))
    site.write("logs/b.log.gz", gzip.compress(numbered(10, 20).encode()))
    site.write("logs/c.log", numbered(20, 30))
    site.write("logs/.hidden", "line 99\n")
    stdin = numbered(20, 30) if "-" in way else ""
    site.etl("run", *way, *site.pipeline("light"), input=stdin)
    site.settled(done=30)
    assert numbers(site) == list(range(30))
    assert site.rows()["source"].n_unique() == 3


def test_lines_come_from_stdin_and_in_the_order_they_were_written(site):
    site.etl("run", "-", *site.pipeline("light"), input=numbered(0, 5_000))
    site.settled(done=5_000)
    rows = site.rows().sort("line_number")
    assert rows["number"].to_list() == list(range(5_000))
    assert rows["line_number"].to_list() == list(range(1, 5_001))
    assert rows["source"].unique().to_list() == ["stdin"]


def test_lines_on_stdin_are_put_although_more_may_come(site):
    put = site.start("put", "-", stdin=subprocess.PIPE)
    for part in range(3):
        put.stdin.write(numbered(part * 10, part * 10 + 10))
        put.stdin.flush()
        site.seen(lambda stats, lines=part * 10 + 10: stats.accepted == lines)
    put.stdin.close()
    put.stdin = None
    assert "30 lines put" in site.ended(put)
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=30)


@pytest.mark.parametrize("way", ["renamed", "cut"])
def test_a_followed_file_is_read_on_after_it_is_rotated(site, way):
    log = site.write("app.log", numbered(0, 100))
    put = site.start("put", "--follow", log)
    site.seen(lambda stats: stats.accepted == 100)
    with log.open("a") as old:
        old.write(numbered(100, 150))
        old.flush()
        if way == "renamed":
            log.rename(site.folder / "app.log.1")
            old.write(numbered(150, 200))
    if way == "cut":
        site.seen(lambda stats: stats.accepted == 150)
        log.write_text("")
    first = 200 if way == "renamed" else 150
    with log.open("a") as new:
        new.write(numbered(first, first + 30))
    site.seen(lambda stats: stats.accepted == first + 30)
    site.end(put)
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=first + 30)
    assert numbers(site) == list(range(first + 30))


def test_files_that_appear_in_a_folder_that_is_followed_are_read(site):
    log = site.write("logs/app.log", numbered(0, 100))
    put = site.start("put", "--follow", log.parent)
    site.seen(lambda stats: stats.accepted == 100)
    with log.open("a") as old:
        log.rename(log.with_name("app.log.1"))
        site.write("logs/app.log", numbered(150, 200))
        site.write("logs/new/other.log", numbered(200, 250))
        old.write(numbered(100, 150))
    site.seen(lambda stats: stats.accepted == 250)
    site.write("logs/more.log", numbered(250, 300))
    site.seen(lambda stats: stats.accepted == 300)
    site.end(put)
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=300)
    assert numbers(site) == list(range(300))


def test_a_file_followed_again_is_read_from_where_it_was(site):
    log = site.write("app.log", numbered(0, 100) + "line 1")
    for last in (100, 200, 300):
        put = site.start("put", "--follow", log)
        site.seen(lambda stats, lines=last: stats.accepted == lines)
        site.end(put)
        with log.open("a") as file:
            file.write(f"{last:05}"[1:] + "\n" + numbered(last + 1, last + 100) + "line 1")
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=300)


def test_lines_are_put_only_once_they_are_whole(site):
    log = site.write("app.log", "line 1\nline ")
    put = site.start("put", "--follow", log)
    site.seen(lambda stats: stats.accepted == 1)
    with log.open("a") as file:
        file.write("2\n")
    site.seen(lambda stats: stats.accepted == 2)
    site.end(put)
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=2)
    assert numbers(site) == [1, 2]


# What comes out


def test_the_default_pipeline_writes_the_normal_columns_to_parquet(site):
    log = site.data / "nginx_access.log"
    result = site.json("run", log)
    rows = site.rows()
    assert {*NORMAL, "source", "line_number", "path"} <= set(rows.columns)
    assert rows.height == result["done"] == len(log.read_bytes().splitlines())
    assert rows["timestamp"].null_count() == 0
    assert rows.schema["timestamp"].time_zone == "UTC"
    levels = rows.filter(pl.col("status").cast(pl.Int64) >= 100)["level"]
    assert set(levels) == {"INFO", "WARNING", "ERROR"}
    assert set(rows["source"]) == {str(log)}
    assert rows["path"].str.contains("blank → parse → normalise → ").all()
    assert len({"status", "method", "request"} & set(rows.columns)) > 0
    site.settled(done=rows.height)


def test_pandas_reads_the_output(site):
    import pandas as pd

    site.etl("run", site.data / "python_app.log")
    frame = pd.concat(pd.read_parquet(path) for path in site.out.glob("*.parquet"))
    assert len(frame) == site.queue.stats().done
    assert str(frame["timestamp"].dt.tz) == "UTC"
    assert frame["line_number"].is_unique


def test_all_the_real_logs_go_through_the_default_pipeline(site):
    logs = sorted(
        path for path in site.data.glob("*.*") if path.suffix in {".log", ".jsonl", ".logfmt"}
    )
    result = site.json("run", *logs)
    assert result["accepted"] == sum(count_lines(log.read_bytes()) for log in logs)
    assert result["dead"] < result["accepted"] / 20
    stats = site.settled(**{name: result[name] for name in ("done", "filtered", "dead")})
    rows = site.rows()
    assert rows["line_count"].sum() == stats.done
    assert rows.select("source", "line_number").is_unique().all()
    assert sum(one["records"] for one in result["sources"]) == rows.height


MIXED = """\
05.03.2019 10:00:00 INFO pier: open
05.03.2019 10:00:01 ERROR pier: no tide
java.lang.IllegalStateException: no tide
\tat a.B.c(B.java:1)
05.03.2019 10:00:02 INFO pier: closed
"""


def test_a_run_ends_with_how_each_file_was_read(site):
    site.write("app.log", MIXED)
    site.write("web.log", (site.data / "nginx_access.log").read_bytes())
    printed = site.etl("run", "app.log", "web.log")
    rows = [line.split() for line in printed.split("\n")]
    assert ["app.log", "3", "generic", "0%", "100%", "0%"] in rows
    assert ["web.log", "1,500", "nginx_access", "100%", "0%", "0%"] in rows
    assert "to see what is found: etl detect app.log" in printed


def test_json_without_time_level_and_message_is_said_to_be_so(site):
    site.write("plain.jsonl", '{"a": 1, "b": 2}\n' * 5)
    printed = site.etl("run", "plain.jsonl")
    assert "plain.jsonl: no time, level or message in 100% of the records" in printed
    assert site.rows()["a"].to_list() == [1] * 5


@pytest.mark.parametrize(
    ("options", "records"), [((), 3), (("--multiline", "off"), 5), (("--multiline", "ERROR"), 2)]
)
def test_which_lines_belong_together_is_found_or_told(site, options, records):
    log = site.write("app.log", MIXED)
    result = site.json("run", log, *options)
    site.settled(done=5)
    assert result["sources"][0]["records"] == site.rows().height == records


def test_times_without_a_zone_or_a_year_are_read_as_the_user_says(site):
    log = site.write("app.log", "Mar  5 10:00:00 host app[1]: hello\n" * 3)
    site.etl("run", log, "--timezone", "Europe/Berlin", "--year", 2019)
    assert {str(time) for time in site.rows()["timestamp"]} == {"2019-03-05 09:00:00+00:00"}
    assert "no time zone 'Mars'" in site.refused("run", log, "--timezone", "Mars", "--reread")
    assert "neither auto, off nor a regex" in site.refused("run", log, "--multiline", "(")


def test_the_text_of_each_record_is_kept_if_that_is_asked_for(site):
    log = site.write("app.log", MIXED)
    site.etl("run", log)
    assert "line" not in site.rows().columns
    site.etl("run", log, "--keep-line", "--store", "kept.db", "--out", "kept")
    lines = pl.read_parquet(site.folder / "kept" / "*.parquet").sort("line_number")["line"]
    assert "\n".join(lines) + "\n" == MIXED


def test_a_record_without_end_is_cut_and_said(site):
    log = site.write("app.log", MIXED + "more\n" * 25_000)
    printed = site.etl("run", log, "--multiline", "^no such line")
    assert "pieces have is_cut true" in printed
    assert site.rows()["line_count"].sum() == 25_005
    assert site.rows()["is_cut"].sum() == 2


def test_a_run_without_a_store_makes_a_folder_of_its_own(etl, site):
    for _ in range(2):
        done = etl("run", site.data / "dpkg.log", "--json")
        assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    stores = sorted((site.folder / "data" / "runs").glob("*/store.db"))
    assert len(stores) == 2
    assert Path(result["out"]).parent == stores[-1].parent
    assert any(Path(result["out"]).glob("*.parquet"))
    status = etl("status", "--json")
    assert json.loads(status.stdout)["accepted"] == result["accepted"] == result["done"]


def test_output_goes_where_the_user_says(site):
    log = site.write("app.log", numbered(0, 10))
    site.etl("run", log, "--out", "elsewhere", *site.pipeline("light"))
    assert len(list((site.folder / "elsewhere").glob("*.parquet"))) == 1
    assert not site.out.exists()
    site.settled(done=10)


# JSON


@pytest.mark.parametrize("pipeline", ["printing", "light"])
def test_json_is_one_object_on_stdout_and_nothing_else(site, pipeline):
    log = site.write("app.log", numbered(0, 10) + "line 10 poison\n")
    result = site.json("run", log, *site.pipeline(pipeline), "--trace")
    assert set(result) >= KEYS | {"traces", "run", "store", "out"}
    assert [result[name] for name in COUNTS] == [11, 10, 0, 1, 0, 0]
    assert result["processors"]["number"]["dead"] == 1
    assert len({trace["line"] for trace in result["traces"]}) == 11
    site.settled(done=10, dead=1)


def test_status_tells_a_script_the_same_as_the_run_did(site):
    log = site.write("app.log", numbered(0, 10) + "line 10 poison\n")
    run = site.json("run", log, *site.pipeline("light"))
    status = site.json("status")
    assert set(status) >= KEYS
    for name in (*COUNTS, "paused", "processors"):
        assert status[name] == run[name]
    site.settled(done=10, dead=1)


@pytest.mark.parametrize("verb", ["status", "trace", "dlq list", "dlq list --lines"])
def test_every_list_is_there_as_json(site, verb):
    site.etl("run", site.write("a.log", "line 1\nline poison\n"), *site.pipeline("light"))
    assert isinstance(site.json(verb), dict)
    site.settled(done=1, dead=1)


def test_put_says_how_many_lines_it_put(site):
    log = site.write("app.log", numbered(0, 1_234))
    assert site.json("put", log) == {"put": 1_234, "unreadable": []}
    assert site.etl("put", log).startswith("0 lines put")
    assert site.queue.stats().waiting == 1_234
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=1_234)


# For people


@pytest.mark.parametrize("columns", ["80", "160"])
def test_a_summary_tells_what_happened(site, columns):
    log = site.write("app.log", numbered(0, 10) + "line poison\n")
    text = site.etl("run", log, *site.pipeline("light"), env={"COLUMNS": columns})
    for word in (
        "pace",
        "number",
        "parquet",
        "11 accepted = 10 done",
        "0 processing",
        "poison",
        "s/out",
    ):
        assert word in text
    assert "  see the failures       etl dlq list --lines --store s/store.db\n" in text
    site.settled(done=10, dead=1)


def test_traces_show_the_path_of_each_line(site):
    site.etl("run", site.data / "boot.log", "--pipeline", "etl.demo:levels")
    text = site.etl("trace")
    assert "start → warn → end" in text
    assert text.count(" → ") == 6
    one = site.json("trace", "--limit", 1)["traces"]
    assert [trace["line"] for trace in one] == ["info: user login"]
    site.settled(done=4)


def test_a_graph_is_a_mermaid_flowchart(site):
    text = site.etl("graph", "--pipeline", "etl.demo:levels")
    assert text.startswith("flowchart")
    for name in ("start", "warn", "error", "end"):
        assert f'"{name}"' in text
    assert site.etl("graph", *site.pipeline("light")).count("-->") == 3


def test_top_prints_one_view(site):
    site.put(["line 1", "line 2"], of=1)
    site.etl("work", "--drain", *site.pipeline("light"))
    text = site.etl("top", "--once")
    for word in ("lines/s", "workers", "2 accepted = 2 done", "parquet"):
        assert word in text
    site.settled(done=2)


@pytest.mark.parametrize("verb", ["", "run", "put", "work", "status", "dlq", "dlq replay", "top"])
def test_every_command_explains_itself(etl, verb):
    done = etl(*verb.split(), "--help")
    assert done.returncode == 0
    assert "Usage: etl" in done.stdout


def test_the_version_is_that_of_the_package(etl):
    assert etl("--version").stdout == f"etl {__version__}\n"


@pytest.mark.parametrize(
    "call",
    ["--store s/store.db --json status", "--json status --store s/store.db", "status --json {}"],
)
def test_store_and_json_stand_before_or_after_the_command(with_dead, etl, call):
    done = etl(*call.format("--store s/store.db").split())
    assert json.loads(done.stdout)["dead"] == 3, done.stderr


@pytest.mark.parametrize("call", ["--store {} --json dlq list", "dlq --store {} --json list"])
def test_groups_of_commands_take_them_too(with_dead, etl, call):
    assert json.loads(etl(*call.format("s/store.db").split()).stdout)["groups"][0]["lines"] == 3


def test_what_stands_after_the_command_counts(with_dead, etl):
    done = etl("--store", "none.db", "status", "--json", "--store", "s/store.db")
    assert json.loads(done.stdout)["dead"] == 3
    assert "none.db" in etl("--store", "none.db", "status").stderr


def test_a_store_before_the_command_is_the_argument_of_check_and_init(with_dead, etl):
    assert "s/store.db is whole" in etl("--store", "s/store.db", "check").stdout
    assert "new.db is ready" in etl("--store", "new.db", "store", "init").stdout
    assert "no store is named" in etl("store", "init").stderr


def test_a_command_without_json_refuses_it_wherever_it_stands(with_dead, etl):
    done = etl("--store", "s/store.db", "--json", "pause")
    assert done.returncode == 2
    assert "--json" in done.stderr


def test_what_libraries_warn_of_is_not_on_the_screen(site):
    site.write("app.log", "line 1\n")
    site.write(
        "p.py",
        "import warnings\nimport pathlib\nfrom etl import Pipeline\n"
        "warnings.simplefilter('always')\n"
        "warnings.warn_explicit('of a library', UserWarning, pathlib.__file__, 1)\n"
        "warnings.warn('of my own \x1b[2J', UserWarning)\n"
        "pipeline = Pipeline().add('start', None)\n",
    )
    done = site.finish("run", "app.log", "--pipeline", "p.py:pipeline", "--workers", 1)
    assert "of a library" not in done.stderr
    assert "p.py:6: UserWarning: of my own \\x1b[2J" in done.stderr
    shown = site.finish(
        "run", "app.log", "--pipeline", "p.py:pipeline", env={"PYTHONWARNINGS": "always"}
    )
    assert "of a library" in shown.stderr
    site.settled(done=1)


def test_help_loads_no_polars():
    code = (
        "import etl.cli.app, sys; print([one for one in ('polars', 'anyio') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_lines_without_a_level_are_counted_in_words(site):
    site.write("app.log", '{"msg": "a"}\n{"msg": "b", "level": "info"}\n')
    assert "count: INFO 1 · no level 1\n" in site.etl("run", "app.log")
    site.settled(done=2)


# Control


def test_workers_share_what_waits(site):
    site.put([f"line {n}" for n in range(20_000)], of=500)
    arguments = ("--workers", 2, "--drain", "--batch-lines", 500, *site.pipeline("light"))
    site.etl("work", *arguments, env={"DELAY": "0.01"})
    site.settled(done=20_000)
    assert numbers(site) == list(range(20_000))
    workers = {row["worker"] for row in site.queue.read("processors") if row["received"]}
    assert len(workers) == 2


def test_another_process_pauses_and_resumes_workers(site):
    site.put(["line 0"], of=1)
    work = site.start("work", *site.pipeline("light"))
    site.seen(lambda stats: stats.done == 1)
    site.etl("pause")
    site.put(["line 1", "line 2"], of=1)
    assert site.json("status")["paused"] is True
    assert "paused" in site.etl("status")
    reread = site.start("work", *site.pipeline("light"))
    site.seen(lambda _stats: len(site.queue.read("workers")) == 2)
    assert site.queue.stats().waiting == 2
    site.etl("resume")
    site.seen(lambda stats: stats.done == 3)
    site.end(work)
    site.end(reread)
    site.settled(done=3)
    assert site.json("status")["paused"] is False


def test_a_paused_worker_rests(site):
    site.put(["line 0"], of=1)
    site.etl("pause")
    work = site.start("work", *site.pipeline("light"))
    site.seen(lambda _stats: site.queue.read("workers"))
    before = cpu_seconds(work.pid)
    with pytest.raises(subprocess.TimeoutExpired):
        work.wait(1.5)
    assert cpu_seconds(work.pid) - before < 0.75
    site.end(work)
    assert site.queue.stats().waiting == 1


def cpu_seconds(pid):
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_a_draining_worker_does_not_end_while_it_is_paused(site):
    site.put(["line 0"], of=1)
    site.etl("pause")
    work = site.start("work", "--drain", *site.pipeline("light"))
    site.seen(lambda _stats: site.queue.read("workers"))
    site.etl("resume")
    site.ended(work)
    site.settled(done=1)


def test_a_worker_waits_for_lines_that_are_put_later(site):
    work = site.start("work", *site.pipeline("light"))
    for n in range(3):
        site.etl("put", "-", input=f"line {n}\n")
        site.seen(lambda stats, done=n + 1: stats.done == done)
    site.end(work)
    site.settled(done=3)


# Dead letters


@pytest.fixture
def with_dead(site):
    """Give a site with ten lines of which three are dead."""
    lines = [f"line {n}" + " poison" * (n in (3, 5, 7)) for n in range(10)]
    site.write("app.log", "\n".join(lines) + "\n")
    site.etl("run", "app.log", *site.pipeline("light"))
    site.settled(done=7, dead=3)
    return site


def test_dead_letters_are_listed_by_kind_and_one_by_one(with_dead):
    (group,) = with_dead.json("dlq list")["groups"]
    assert (group["lines"], group["processor"], group["code"]) == (3, "number", "poison")
    dead_letters = with_dead.json("dlq list", "--lines")["letters"]
    assert [dead_letter["line_number"] for dead_letter in dead_letters] == [4, 6, 8]
    text = with_dead.etl("dlq list") + with_dead.etl("dlq list", "--lines")
    assert group["fingerprint"] in text
    assert "line 5 poison" in text


def test_one_dead_letter_is_shown_with_all_that_is_known(with_dead):
    dead_letter = with_dead.json("dlq list", "--lines")["letters"][0]
    text = with_dead.etl("dlq show", dead_letter["id"])
    for word in (
        "line 3 poison",
        "app.log",
        "number",
        "poison",
        "path",
        dead_letter["fingerprint"],
    ):
        assert word in text
    assert not re.search(r": (None)?$", text, re.MULTILINE), "what is not known is not listed"
    assert "no dead letter 99" in with_dead.refused("dlq show", 99)


def test_dead_letters_are_replayed_and_die_again_or_pass(with_dead):
    ids = with_dead.dead_letters()["id"].to_list()
    assert "0 of 3" in with_dead.etl(
        "dlq replay", "--all", "--dry-run", with_dead.pipeline("light")[1]
    )
    passing = with_dead.pipeline("unnumbered")
    assert "3 of 3" in with_dead.etl("dlq replay", "--all", "--dry-run", passing[1])
    with_dead.settled(done=7, dead=3)
    assert "lines put back into the queue: 3; process them with: etl work --drain --p" in (
        with_dead.etl("dlq replay", "--all")
    )
    assert with_dead.queue.stats().waiting == 3
    with_dead.etl("work", "--drain", *with_dead.pipeline("light"))
    with_dead.settled(done=7, dead=3)
    assert with_dead.dead_letters()["replays"].to_list() == [1, 1, 1]
    with_dead.etl("dlq replay", ids[0])
    with_dead.etl("work", "--drain", *passing)
    with_dead.settled(done=8, dead=2)
    assert with_dead.dead_letters(status="replayed")["id"].to_list() == ids[:1]
    assert with_dead.rows().height == 8


def test_dead_letters_are_discarded_and_still_count(with_dead):
    fingerprint = with_dead.dead_letters()["fingerprint"][0]
    assert (
        with_dead.etl("dlq discard", "--fingerprint", fingerprint) == "dead letters discarded: 3\n"
    )
    with_dead.settled(done=7, dead=3)
    assert "no open dead letters" in with_dead.etl("dlq list")
    assert len(with_dead.json("dlq list", "--lines", "--status", "discarded")["letters"]) == 3
    assert "no open dead letter matches" in with_dead.etl("dlq replay", "--all")


def test_a_processor_that_no_dead_letter_has_is_told_with_those_that_some_have(with_dead):
    (known,) = set(with_dead.dead_letters()["processor"])
    said = f"no open dead letter matches; there are some of the processors {known}"
    for command in ("list", "discard", "replay"):
        assert said in with_dead.etl(f"dlq {command}", "--processor", "x")
    with_dead.settled(done=7, dead=3)


def test_discarded_dead_letters_are_open_again_when_they_are_reopened(with_dead):
    ids = with_dead.dead_letters()["id"].to_list()
    assert "3 of 3 dead letters are not discarded" in with_dead.refused("dlq reopen", *ids)
    with_dead.etl("dlq discard", "--all")
    assert with_dead.etl("dlq reopen", ids[0]) == "lines open again: 1\n"
    assert with_dead.etl("dlq reopen", "--all") == "lines open again: 2\n"
    assert "no discarded dead letter matches" in with_dead.etl("dlq reopen", "--all")
    assert with_dead.dead_letters()["id"].to_list() == ids
    with_dead.settled(done=7, dead=3)


def test_dead_letters_go_to_a_colleague_who_processes_them_there(with_dead):
    exported = with_dead.etl("dlq export", "bad.jsonl", "--all")
    assert exported == "dead letters written to bad.jsonl: 3\n"
    theirs = ("--store", "theirs.db")
    with_dead.etl("dlq import", "bad.jsonl", *theirs)
    assert "nothing new" in with_dead.etl("dlq import", "bad.jsonl", *theirs)
    with_dead.etl("work", "--drain", *theirs, *with_dead.pipeline("unnumbered"))
    assert '"done": 3' in with_dead.etl("status", "--json", *theirs)
    with_dead.settled(done=7, dead=3)


def test_a_dead_letter_becomes_a_test_that_pytest_runs(with_dead):
    pipeline = with_dead.pipeline("light")
    dead_letter = with_dead.dead_letters()["id"][0]
    with_dead.etl("dlq case", dead_letter, "app.etl.toml", "--dead", *pipeline)
    text = with_dead.etl("dlq case", dead_letter, "app.etl.toml", *pipeline)
    assert text.startswith('[[case]]\nname = "app.log line 4"\n')
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "etl.testing.pytest_plugin",
        "-q",
        "app.etl.toml",
    ]
    options = with_dead.options(capture_output=True, timeout=60)
    options["env"] = options.get("env", os.environ) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, check=False, **options)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "found 'dead' in 'number': poison" in done.stdout


def test_a_letter_that_dies_again_and_again_is_replayed_only_by_force(with_dead):
    for _ in range(3):
        with_dead.etl("dlq replay", "--all")
        with_dead.etl("work", "--drain", *with_dead.pipeline("light"))
    assert "force" in with_dead.refused("dlq replay", "--all")
    with_dead.etl("dlq replay", "--all", "--force")
    with_dead.etl("work", "--drain", *with_dead.pipeline("unnumbered"))
    with_dead.settled(done=10)


# Formats


def test_a_named_format_a_template_and_a_regex_cut_lines_alike(site):
    log = site.write("app.log", "2026-11-21 INFO core: all is well\n2026-11-21 ERROR io: oh no\n")
    ways = {
        "--template": "{date} {level} {logger}: {message}",
        "--regex": r"(?P<date>\S+) (?P<level>\w+) (?P<logger>\w+): (?P<message>.*)",
    }
    for option, layout in ways.items():
        site.etl("run", log, option, layout, "--reread", *site.pipeline("named"))
    rows = site.rows()
    site.settled(done=4)
    assert rows["level"].to_list() == ["INFO", "ERROR"] * 2
    assert rows["logger"].to_list() == ["core", "io"] * 2
    assert rows["message"].to_list() == ["all is well", "oh no"] * 2


def test_a_format_is_named(site):
    log = site.data / "service.logfmt"
    result = site.json("run", log, "--format", "logfmt")
    assert result["done"] == len(log.read_bytes().splitlines())
    site.settled(done=result["done"])
    assert site.rows()["format"].unique().to_list() == ["logfmt"]


def test_the_format_goes_with_the_lines_to_a_worker_elsewhere(site):
    site.write("app.log", "all is well @ INFO\n")
    site.etl("put", "app.log", "--template", "{message} @ {level}")
    site.etl("work", "--drain")
    site.settled(done=1)
    assert site.rows()["message"].to_list() == ["all is well"]


# A user's mistakes


MISTAKES = {
    "missing file": (["run", "nothing.log"], "nothing.log"),
    "missing file to put": (["put", "nothing.log"], "nothing.log"),
    "glob of nothing": (["run", "*.nothing"], "*.nothing"),
    "empty folder": (["run", "empty"], "empty"),
    "unknown module": (["run", "a.log", "--pipeline", "no.such:pipeline"], "no.such"),
    "unknown attribute": (["run", "a.log", "--pipeline", "etl.demo:level"], "levels"),
    "not a pipeline": (["run", "a.log", "--pipeline", "etl.demo:start"], "Pipeline"),
    "pipeline without colon": (["work", "--pipeline", "nonsense"], "module:attr"),
    "missing pipeline file": (["graph", "--pipeline", "no.py:pipeline"], "no.py"),
    "unknown format": (["run", "a.log", "--format", "jsn"], "json"),
    "bad regex": (["run", "a.log", "--regex", "(?P<message>"], "regex"),
    "regex without names": (["run", "a.log", "--regex", "(.*)"], "regex"),
    "bad template": (["run", "a.log", "--template", "{message"], "template"),
    "two formats": (["run", "a.log", "--format", "json", "--template", "{message}"], "one of them"),
    "two layouts": (["put", "a.log", "--regex", "(?P<a>.)", "--template", "{message}"], "one of"),
    "unknown store": (["run", "a.log", "--store", "ftp://x/y"], "ftp://x/y"),
    "no store": (["status", "--store", "none.db"], "none.db"),
    "no store to list": (["dlq list", "--store", "none.db"], "none.db"),
    "no letters named": (["dlq replay"], "no dead letters selected"),
    "no letters to export": (["dlq export", "bad.jsonl"], "no dead letters selected"),
    "export of a kind unknown": (["dlq export", "bad.csv", "--all"], "bad.csv"),
    "import of something else": (["dlq import", "a.log"], "a.log"),
    "no letter for a case": (["dlq case", "9", "x.etl.toml"], "not there"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_mistake_is_one_line_that_names_it(site, mistake):
    (site.folder / "empty").mkdir()
    site.write("a.log", "line 1\n")
    site.put(["line 1"], of=1)
    arguments, named = MISTAKES[mistake]
    assert named in site.refused(*arguments)
    stats = site.queue.stats()
    assert (stats.accepted, stats.waiting, stats.conserved) == (1, 1, True)


@pytest.mark.parametrize("call", [("put", "a.log"), ("work",), ("serve",), ("dlq", "import", "a")])
def test_who_adds_or_takes_lines_names_the_store(etl, site, call):
    site.write("a.log", "line\n")
    assert etl("run", "a.log").returncode == 0
    done = etl(*call)
    assert done.returncode == 2
    assert "no store is named; use --store or ETL_STORE" in done.stderr


def test_nothing_is_made_for_a_mistake(etl, site):
    assert etl("run", "nothing.log").returncode == 2
    assert etl("run", site.data / "boot.log", "--pipeline", "no.such:one").returncode == 2
    assert etl("status").returncode == 2
    assert list(site.folder.iterdir()) == []


def test_a_reader_that_goes_away_early_is_no_error_with_a_traceback(site):
    site.etl("run", site.data / "dpkg.log")
    shell = f"{shutil.which('python') or 'python3'} -m etl trace --store {site.store} | head -1"
    done = subprocess.run(
        ["bash", "-c", shell], check=False, **site.options(capture_output=True, timeout=30)
    )
    assert "Traceback" not in done.stderr
    site.settled(done=site.queue.stats().accepted)


@pytest.mark.parametrize("verb", [("run", "a.log"), ("put", "a.log"), ("status",), ("work",)])
@pytest.mark.parametrize(
    ("store", "said"), [("sqlite://", "ends with this command"), ("", "empty")]
)
def test_a_store_that_cannot_be_meant_is_refused(site, verb, store, said):
    site.write("a.log", "line 1\n")
    assert said in site.refused(*verb, "--store", store)


def test_a_worker_on_a_paused_store_says_so_and_goes_on(site):
    site.write("a.log", "line 1\n")
    site.etl("put", "a.log")
    site.etl("pause")
    process = site.start("work", "--drain", *site.pipeline("light"))
    assert "working on" in process.stdout.readline()
    assert "paused; to continue: etl resume" in process.stdout.readline()
    site.etl("resume")
    assert process.wait(60) == 0
    site.settled(done=1)


def test_what_a_run_had_nothing_to_do_with_is_said_as_it_is(site):
    site.write("empty.log", "")
    assert "the sources have no lines" in site.etl("run", "empty.log", *site.pipeline("light"))
    site.write("a.log", "line 1\n")
    site.etl("put", "a.log")
    assert "nothing new" not in site.etl("run", "a.log", *site.pipeline("light"))
    assert "nothing new" in site.etl("run", "a.log", *site.pipeline("light"))
    site.settled(done=1)


def test_a_case_is_written_only_for_a_pipeline_and_a_place_that_there_are(with_dead):
    assert "nope" in with_dead.refused("dlq case", 1, "a.etl.toml", "--pipeline", "nope:x")
    target = "etl.default:pipeline"
    said = with_dead.refused("dlq case", 1, "none/a.etl.toml", "--pipeline", target)
    assert "'none/a.etl.toml' cannot be written" in said


def test_a_run_that_is_interrupted_says_where_the_rest_waits(site):
    site.write("a.log", "line 1\n")
    site.etl("put", "a.log")
    site.etl("pause")
    process = site.start("run", "a.log", *site.pipeline("light"))
    assert "paused; to continue: etl resume" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert "interrupted; to continue: etl run a.log --pipeline" in said
    assert "Traceback" not in said
    assert process.returncode == 130


def test_the_status_says_why_a_worker_paused_the_store(site):
    site.put(["line 0 trouble"], of=1)
    work = site.start("work", *site.pipeline("stops"))
    site.seen(lambda stats: stats.paused)
    assert re.search(r"^paused by a worker.*: .*trouble", site.etl("status"), re.MULTILINE)
    site.end(work)


# What is damaged, and where output lies


def test_a_check_tells_a_person_and_a_script_what_is_damaged(site):
    site.put(["a 1", "a 2"], of=2)
    site.etl("work", "--drain", *site.pipeline("light"), "--out", site.out)
    assert "is whole ✓" in site.etl("check", site.store)
    (file,) = site.out.glob("*")
    file.write_bytes(file.read_bytes() + b"x")
    said = site.etl("check", site.store, code=1)
    assert re.search(r"outputs .*test +2 +has [\d,]+ bytes", said)
    assert "is not whole: 1 ✗" in said
    found = json.loads(site.etl("check", site.store, "--json", code=1))
    assert (found["whole"], found["parts"]["outputs"]["lines"]) == (False, 2)
    assert found["findings"][0]["name"] == str(file)
    assert "does not exist" in site.finish("check", "none.db").stderr
    assert site.finish("check", "none.db").returncode == 2


def test_output_goes_where_the_store_has_it_wherever_both_are_moved(site):
    work = ("work", "--drain", *site.pipeline("light"))
    site.put(["a 1"], of=1)
    site.etl(*work, "--out", site.out)
    site.put(["b 2"], of=1)
    refused = site.finish(*work, "--out", "other")
    assert refused.returncode == 2
    assert f"etl store init {site.queue.url} --out {site.folder / 'other'}" in refused.stderr
    moved = site.folder / "moved"
    site.queue.close()
    site.store.parent.rename(moved)
    site.etl(*work, "--store", moved / "store.db")
    assert pl.read_parquet(moved / "out").height == 2
    site.etl("check", moved / "store.db")
    (moved / "out").rename(site.folder / "other")
    site.etl("check", moved / "store.db", code=1)
    site.etl("store init", moved / "store.db", "--out", site.folder / "other")
    site.etl("check", moved / "store.db")


def test_committed_output_that_is_lost_is_said_and_ends_nothing(site):
    site.put(["a 1"], of=1)
    with site.queue._database.write() as db:
        lost = "INSERT INTO outputs (final, staged, source, lines) VALUES ('x', '.x', 'x.log', 7)"
        db.connection.execute(lost)
    done = site.finish("work", "--drain", *site.pipeline("light"))
    assert "was committed and is lost" in done.stderr
    assert "committed output is lost: " in site.etl("status", code=1)
    assert json.loads(site.etl("status", "--json", code=1))["lost_outputs"] == [str(site.out / "x")]
    (site.folder / "b.log").write_text("b 2\n")
    site.etl("run", "b.log", *site.pipeline("light"), code=1)
    assert site.queue.stats().done == 2


def test_what_is_old_in_a_store_is_pruned_and_its_space_given_back(site):
    site.put([f"CRITICAL poison {number} {'x' * 300}" for number in range(3_000)], of=1000)
    site.etl("work", "--drain", "--pipeline", "etl.demo:dashboard")
    site.etl("dlq", "discard", "--all")
    before = site.json("status")
    files = list(site.store.parent.glob("store.db*"))
    size = sum(file.stat().st_size for file in files)
    prune = ("prune", "--store", site.store, "--older-than", "0s")
    assert "closed dead letters would be removed: 3,000" in site.etl(*prune, "--dry-run")
    worker = site.queue.register("busy")
    assert worker == 0
    told = site.etl(*prune)
    assert "closed dead letters removed: 3,000" in told
    assert "kinds of failure removed: 1" in told
    assert "no space given back while workers run: 1" in told
    site.queue.unregister("busy")
    assert "space given back: " in site.etl(*prune)
    assert sum(file.stat().st_size for file in files) < size / 2
    after = site.json("status")
    assert (
        (after["accepted"], after["dead"]) == (before["accepted"], before["dead"]) == (3000, 3000)
    )


def test_pruning_says_what_it_needs(site):
    assert "use --older-than 30d, or --store" in site.refused("prune")
    assert "does not exist" in site.refused("prune", "--store", "none.db")
    assert "--force is for runs" in site.refused("prune", "--store", "q.db", "--force")


@pytest.mark.parametrize("verb", ["lab", "app"])
def test_a_room_makes_no_store_that_is_named(site, verb):
    assert "there is no store 'gone.db'" in site.refused(verb, "--store", "gone.db")
    assert not (site.folder / "gone.db").exists()


def test_a_kind_of_failure_is_not_taken_for_a_dead_letter(site):
    site.put(["one"], of=1)
    assert "'507f19a7d065' is a kind of failure" in site.refused("dlq show", "507f19a7d065")
    assert "'first' is no id" in site.refused("dlq show", "first")
