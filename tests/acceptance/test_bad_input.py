"""Odd lines, broken files, full disks, processors that misbehave: clear, and nothing is lost."""

from __future__ import annotations

import gzip
import resource
import sqlite3
from pathlib import Path

import polars as pl
import pytest

from etl.settings import Settings

ESC = "\x1b"


def run(site, content, pipeline="unnumbered", name="app.log", **options):
    """Run one file of some content and return what `--json` says."""
    return site.json("run", site.write(name, content), *site.pipeline(pipeline), **options)


def written(site):
    """Return the lines that came out, in their order."""
    return site.rows().sort("line_number")["line"].to_list()


# Odd lines

ODD = {
    "NUL bytes": (b"a\0b\n\0\nc\n", ["a\0b", "\0", "c"]),
    "CRLF": (b"a\r\nb\r\n", ["a", "b"]),
    "no newline at the end": (b"a\nb", ["a", "b"]),
    "CRLF but for the end": (b"a\r\nb", ["a", "b"]),
    "blank lines": (b"\n\na\n\n", ["", "", "a", ""]),
    "only newlines": (b"\n\n\n", ["", "", ""]),
    "line breaks of other alphabets": (
        "a\u2028b\u0085c\x0bd\x0ce\x1cf\u2029g\n".encode(),
        ["a\u2028b\u0085c\x0bd\x0ce\x1cf\u2029g"],
    ),
    "a lone carriage return": (b"10 %\r20 %\rdone\n", ["10 %\r20 %\rdone"]),
    "a byte order mark": ("\ufeffa\nb\n".encode(), ["\ufeffa", "b"]),
    "astral characters": ("😀\n\U0010ffff\n".encode(), ["😀", "\U0010ffff"]),
    "invalid UTF-8": (b"a\n\xff\xfeb\xc3\nc\n", ["a", "\\xff\\xfeb\\xc3", "c"]),
    "UTF-16": ("ab\n".encode("utf-16-le"), ["a\0b\0", "\0"]),
    "UTF-16 with a byte order mark": ("é\n😀".encode("utf-16"), ["é", "😀"]),
    "CR as the newline": (b"a\rb\xff\r", ["a", "b\\xff"]),
    "gzip": (gzip.compress(b"a\nb\n"), ["a", "b"]),
    "what looks like a formula": (b"=1+1\n{0}%s{}\n${HOME}\n", ["=1+1", "{0}%s{}", "${HOME}"]),
}


@pytest.mark.parametrize("verb", ["run", "put"])
def test_odd_lines_come_out_as_they_went_in(site, verb):
    for oddity, (content, _) in ODD.items():
        site.write(f"odd/{oddity}", content)
    site.etl(verb, "odd", *(site.pipeline("unnumbered") if verb == "run" else ()))
    site.etl("work", "--drain", *site.pipeline("unnumbered"))
    rows = site.rows().sort("source", "line_number").group_by("source").agg("line", "line_number")
    found = {Path(source).name: (lines, numbers) for source, lines, numbers in rows.iter_rows()}
    assert found == {
        oddity: (lines, list(range(1, len(lines) + 1))) for oddity, (_, lines) in ODD.items()
    }
    site.settled(done=sum(len(lines) for _, lines in ODD.values()))


@pytest.mark.parametrize("oddity", ["invalid UTF-8", "no newline at the end"])
def test_odd_lines_come_out_of_a_pipe_as_they_went_in(site, oddity):
    content, lines = ODD[oddity]
    site.etl("run", "-", *site.pipeline("unnumbered"), input=content, text=False)
    assert written(site) == lines
    site.settled(done=len(lines))


def test_blank_lines_are_filtered_by_the_default_pipeline(site):
    site.etl("run", site.write("app.log", '\n  \n{"level": "info", "message": "a"}\n\t\n'))
    site.settled(done=1, filtered=3)


def test_an_empty_file_is_no_work_and_no_error(site):
    result = run(site, b"")
    assert result["accepted"] == 0
    site.etl("put", site.folder / "app.log")
    site.settled(done=0)


def test_the_bytes_of_a_dead_line_are_kept_and_replayed(site):
    raw = b"caf\xe9 poison \xff"
    run(site, b"line 1\n" + raw + b"\nline 2\n", "light")
    site.settled(done=2, dead=1)
    dead_letter = site.dead_letters().row(0, named=True)
    assert dead_letter["raw"] == raw
    assert dead_letter["line"] == "caf\\xe9 poison \\xff"
    site.etl("dlq replay", "--all")
    assert site.queue.peek()["line"].to_list() == [dead_letter["line"]]
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=2, dead=1)
    assert site.dead_letters()["raw"].to_list() == [raw]
    assert "caf\\\\xe9" in site.etl("dlq list", "--lines") + site.etl("dlq list --lines --json")


def test_a_line_of_forty_megabytes_is_cut_and_nothing_of_it_is_lost(site):
    size, limit = 40 << 20, Settings.max_line_bytes
    log = site.write("app.log", b"line 1\n" + b"x" * size + b"\nline 2\n")
    result = site.finish("run", log, *site.pipeline("named"))
    assert "line 2 is longer than 16,777,216 bytes and is cut" in result.stderr
    site.settled(done=5)
    lengths = site.rows()["line"].str.len_bytes().sort().to_list()
    assert lengths == [6, 6, size - 2 * limit, limit, limit]


def test_a_line_of_forty_megabytes_goes_through_the_default_pipeline(site):
    content = b'{"level": "info", "message": "' + b"x" * (40 << 20) + b'"}\n{"level": "info"}\n'
    log = site.write("app.jsonl", content)
    result = site.json("run", log)
    site.settled(done=result["done"], dead=result["dead"])
    assert result["accepted"] == 4
    assert site.etl("trace").count("\n") < 20
    assert len(site.etl("dlq list", "--lines")) < 5_000


def test_a_file_that_no_format_fits_is_kept_as_generic(site):
    text = "".join(f"~{n}~ what is this\n" for n in range(50_000))
    (source,) = run(site, text, "named")["sources"]
    site.settled(done=50_000, dead=0)
    assert (source["formats"], source["generic"], source["timeless"]) == ("generic", 1.0, 1.0)


def test_a_file_that_no_format_fits_dies_line_by_line_if_that_is_asked_for(site):
    log = site.write("app.log", "".join(f"~{n}~ what is this\n" for n in range(50_000)))
    site.etl("run", log, "--unmatched", "dead", *site.pipeline("named"))
    site.settled(done=0, dead=50_000)
    (group,) = site.json("dlq list")["groups"]
    assert (group["lines"], group["code"], group["processor"]) == (50_000, "no_format", "parse")
    assert site.dead_letters(limit=1)["line"].to_list() == ["~49999~ what is this"]
    assert not list(site.out.glob("*.parquet"))


def test_lines_that_do_not_fit_their_format_die_and_the_others_are_done(site):
    log = site.write("app.log", '{"message": "a"}\nnot json\n{"message": "b"}\n{"broken": \n')
    site.etl("run", log, "--format", "json", *site.pipeline("named"))
    site.settled(done=2, dead=2)
    assert site.dead_letters()["line_number"].to_list() == [2, 4]
    assert site.rows()["message"].to_list() == ["a", "b"]


# Text that would steer a terminal


NASTY = f"line {ESC}[31mred{ESC}]0;title\x07{ESC}[2J\u202egnp.exe\x9b poison \x7f [bold]"


def test_text_from_logs_never_steers_the_terminal(site):
    name = f"{ESC}[5mname.log"
    log = site.write(name, f"line {ESC}[32m1\n{NASTY}\n")
    texts = [
        site.etl("run", log, *site.pipeline("printing"), "--trace"),
        site.etl("dlq list"),
        site.etl("dlq list", "--lines"),
        site.etl("dlq show", 1),
        site.etl("trace"),
        site.etl("status"),
        site.etl("top", "--once"),
        site.refused("run", f"{ESC}[31mnothing.log"),
    ]
    for text in texts:
        assert not set(text) & set("\x1b\x07\x9b\x7f\u202e")
    assert "\\x1b[32m1" in texts[0]
    assert "[bold]" in texts[3]
    site.settled(done=1, dead=1)


# Broken files


def test_plain_text_under_the_name_of_a_packed_file_is_read(site):
    site.etl("run", site.write("app.log.gz", "line 1\n"), *site.pipeline("light"))
    site.settled(done=1)


def test_a_binary_file_is_refused_by_name_and_passed_over_in_a_folder(site):
    image = site.write("logs/a.png", b"\x89PNG\r\n\x1a\n")
    said = site.refused("run", image, *site.pipeline("light"))
    assert f"{image}' looks like a PNG image, not like text; name a text file" in said
    site.write("logs/a.log", "line 1\n")
    assert "passed over 1 file: binary" in site.etl("run", "logs", *site.pipeline("light"))
    assert "passed over 1 file: binary" in site.etl("put", "logs")
    result = site.json("run", "logs", *site.pipeline("light"))
    assert (result["skipped"], result["skipped_binary"]) == (0, 1)
    site.settled(done=1)


def test_what_came_before_the_cut_of_a_packed_file_is_not_lost(site):
    lines = [f"line {n} {hash(str(n))}" for n in range(400_000)]
    packed = gzip.compress("\n".join(lines).encode(), 1)
    log = site.write("app.log.gz", packed[: len(packed) * 9 // 10])
    assert "app.log.gz" in site.refused("run", log, *site.pipeline("light"), code=1)
    kept = site.queue.stats().accepted
    assert 0 < kept < 400_000
    log.write_bytes(packed)
    site.etl("run", log, *site.pipeline("light"))
    site.settled(done=400_000)
    assert site.rows()["number"].sort().to_list() == list(range(400_000))


def test_one_bad_file_among_good_ones_is_named(site):
    site.write("logs/a.log", "line 1\n")
    site.write("logs/b.log.gz", gzip.compress(b"line 2\n", mtime=0)[:-9])
    assert "b.log.gz" in site.refused("run", "logs", *site.pipeline("light"), code=1)
    site.write("logs/b.log.gz", gzip.compress(b"line 2\n", mtime=0))
    site.etl("run", "logs", *site.pipeline("light"))
    site.settled(done=2)
    assert site.rows()["number"].sort().to_list() == [1, 2]


# Broken stores


@pytest.mark.parametrize("verb", ["run", "put", "work", "status"])
def test_a_file_that_is_no_store_is_refused_and_left_alone(site, verb):
    log = site.write("app.log", "line 1\n")
    path = site.write("letter.txt", "Dear store, I am none.\n" * 100)
    arguments = [log] if verb in ("run", "put") else []
    said = site.refused(verb, *arguments, "--store", path, code=1)
    assert "not an etl store" in said
    assert path.read_text() == "Dear store, I am none.\n" * 100


def test_a_database_of_another_program_is_refused_and_left_alone(site):
    path = site.folder / "theirs.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE batches (mine)")
    db.close()
    assert "another program" in site.refused("status", "--store", path, code=1)
    assert "folder" in site.refused("status", "--store", site.folder, code=1)


@pytest.mark.parametrize("verb", ["status", "work"])
def test_a_store_of_a_newer_version_is_refused(site, verb):
    site.put(["line 1"], of=1)
    with sqlite3.connect(site.store) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute(f"PRAGMA user_version = {version + 1}")
    assert "newer" in site.refused(verb, code=1)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    assert site.queue.stats().waiting == 1


def test_a_store_that_is_removed_ends_who_works_on_it_and_who_serves_it(site):
    site.put(["line 1"], of=1)
    users = [site.start("work", *site.pipeline("unnumbered")), site.start("serve", "--port", 0)]
    site.seen(lambda stats: stats.done == 1)
    assert "running" in users[1].stdout.readline()
    for path in site.store.parent.glob("store.db*"):
        path.unlink()
    for user in users:
        assert "store.db' was removed while in use" in site.ended(user, code=1)


@pytest.mark.parametrize("verb", ["run", "status"])
def test_an_empty_file_is_no_store_for_any_command(site, verb):
    log = [site.write("app.log", "line 1\n")] if verb == "run" else []
    site.write("s/store.db", "")
    assert "is empty (0 bytes)" in site.refused(verb, *log, code=1)
    site.store.unlink()


# Processors that misbehave


def lines(count, troubled):
    return "".join(f"line {n}{' trouble' * (n in troubled)}\n" for n in range(count))


@pytest.mark.parametrize(
    ("pipeline", "code", "error"),
    [
        ("raises", "error", "ValueError"),
        ("picky", "error", "ValueError"),
        ("exits", "error", "SystemExit"),
        ("spins", "timeout", "ProcessorTimeout"),
        ("blocks", "timeout", "ProcessorTimeout"),
        ("dies", "worker_lost", ""),
        ("killed", "worker_lost", ""),
    ],
)
def test_the_line_that_a_processor_cannot_stand_dies_alone(site, pipeline, code, error):
    result = run(site, lines(60, {17}), pipeline)
    assert (result["done"], result["dead"]) == (59, 1)
    site.settled(done=59, dead=1)
    dead_letter = site.dead_letters().row(0, named=True)
    assert (dead_letter["line"], dead_letter["line_number"]) == ("line 17 trouble", 18)
    assert (dead_letter["code"], dead_letter["error"]) == (code, error)
    assert sorted(site.rows()["line_number"]) == [n for n in range(1, 61) if n != 18]


@pytest.mark.parametrize("pipeline", ["raises", "picky", "exits"])
def test_a_processor_that_fails_on_every_line_dead_letters_them_all(site, pipeline):
    run(site, lines(30_000, range(30_000)), pipeline)
    site.settled(done=0, dead=30_000)
    assert site.dead_letters()["line_number"].sort().to_list() == list(range(1, 30_001))
    assert len(site.json("dlq list")["groups"]) == 1


def test_workers_that_keep_running_find_the_line_that_kills_them(site):
    site.put(lines(100, {40}).splitlines(), of=100)
    site.etl("work", "--workers", 2, "--drain", *site.pipeline("killed"))
    site.settled(done=99, dead=1)
    assert site.dead_letters()["code"].to_list() == ["worker_lost"]
    assert site.rows()["line_number"].is_unique().all()


def test_a_line_that_hangs_its_only_worker_is_found(site):
    site.put(["line 0", "line 1 trouble", "line 2"], of=3)
    done = site.finish("work", "--drain", *site.pipeline("backtracks"))
    assert done.returncode == 0, done.stderr
    site.settled(done=2, dead=1)
    dead_letter = site.dead_letters().row(0, named=True)
    assert (dead_letter["line"], dead_letter["code"]) == ("line 1 trouble", "timeout")
    assert dead_letter["processor"] == "trouble"
    hung = "hung in processor 'trouble' for longer than its timeout of 0.3 s; killed"
    assert dead_letter["message"].endswith(hung)
    assert done.stderr.count(hung) == 2, done.stderr  # with the others, and alone


def test_a_processor_that_asks_to_stop_stops_the_run_and_a_fixed_one_resumes_it(site):
    log = site.write("app.log", lines(100, {40}))
    said = site.refused("run", log, *site.pipeline("stops"), code=1)
    assert "trouble" in said
    assert str(site.store) in said
    stats = site.queue.stats()
    assert (stats.waiting, stats.leased, stats.dead, stats.paused) == (100, 0, 0, True)
    site.etl("run", log, *site.pipeline("unnumbered"))
    site.settled(done=100)


def test_a_pipeline_file_with_a_mistake_is_a_clear_error(site):
    log = site.write("app.log", lines(10, ()))
    broken = site.write("broken.py", "import nothing_of_this_name\n")
    assert "nothing_of_this_name" in site.refused("run", log, "--pipeline", f"{broken}:p")
    broken.write_text("from etl import Pipeline\np = Pipeline('empty')\n")
    assert "no processors" in site.refused("run", log, "--pipeline", f"{broken}:p")
    broken.write_text("def p(:\n")
    assert "broken.py" in site.refused("run", log, "--pipeline", f"{broken}:p")
    assert "broken.py" in site.refused("work", "--pipeline", f"{broken}:p")


# Full disks


def limited(size):
    """Return a function that lets a process and its children write no file larger than that."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_put_onto_a_full_disk_is_a_clear_error_and_is_done_again(site):
    text = "".join(f"line {n} {hash(str(n))}\n" for n in range(600_000))
    log = site.write("app.log", text)
    said = site.refused("put", log, code=1, preexec_fn=limited(6 << 20))
    assert "store.db" in said
    assert site.queue.stats().conserved
    site.etl("put", log)
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=600_000)
    assert site.rows()["number"].sort().to_list() == list(range(600_000))


@pytest.mark.parametrize("size", [256 << 10, 2 << 20])
def test_a_run_onto_a_full_disk_is_a_clear_error_and_is_resumed_later(site, size):
    text = "".join(f"line {n} {hash(str(n))} {hash(str(-n))}\n" for n in range(400_000))
    log = site.write("app.log", text)
    site.refused("run", log, *site.pipeline("unnumbered"), code=1, preexec_fn=limited(size))
    assert site.queue.stats().conserved
    site.etl("run", log, *site.pipeline("unnumbered"))
    site.settled(done=400_000)
    assert site.rows()["line_number"].sort().to_list() == list(range(1, 400_001))
    assert not list(site.out.glob(".*"))


def test_an_output_folder_that_cannot_be_is_a_clear_error(site):
    site.write("taken", "a file, not a folder")
    log = site.write("app.log", lines(10, ()))
    said = site.refused("run", log, *site.pipeline("light"), "--out", "taken", code=1)
    assert "taken" in said
    assert site.queue.stats().waiting == 10
    site.etl("run", log, *site.pipeline("light"))
    site.settled(done=10)


def test_rows_of_any_kind_can_be_written(site):
    run(site, lines(10, {3}), "raises")
    types = {name: dtype for name, dtype in site.rows().schema.items() if dtype == pl.Null}
    assert types == {}
    site.settled(done=9, dead=1)
