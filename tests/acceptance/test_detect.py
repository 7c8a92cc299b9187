"""`etl detect`, `etl formats`, and formats of a user's own wherever a format is named."""

from __future__ import annotations

import bz2
import gzip
import json
import re
import shlex
import subprocess

import pytest
from backports import zstd

from etl.formats import FORMATS

SHOP = "{timestamp} {level} [{thread}] {logger}: {message}"
FILE = f"[shop]\ntemplate = '{SHOP}'\nabout = 'what the shop writes'\n"
LINES = "".join(f"2026-11-21 10:00:0{n} WARN [main] pier: low {n}\n" for n in range(8))
TRACE = "java.lang.E: no tide\n\tat a.B.c(B.java:1)\n"
HOSTILE = "\x1b]0;owned\x07 \u202e [red]x[/red] \x9b31m"


@pytest.fixture
def shop(site):
    """Give a site with a user's own format, and a log of which a line does not fit it."""
    site.write("etl-formats.toml", FILE)
    site.write("app.log", LINES + "2026-11-21 10:00:09 oops\n")
    return site


# Detect


def test_a_known_format_is_shown_with_its_first_rows(site):
    text = site.etl("detect", site.data / "java_app.log")
    first, second, *table = text.splitlines()
    assert first.endswith("java_app.log: format log4j (100% of 1,823 records), "
                          "0% generic, 0% without a time")  # fmt: skip
    assert second == "a record begins at a line with a time; 44 of 1,823 have several lines"
    assert table[1].split() == ["log4j", "100%", "100%"]
    assert table[2].split() == ["line", "timestamp", "level", "logger", "message"]
    assert table[3].split()[:4] == ["1", "2026-11-21", "23:32:32.662", "INFO"]
    assert table[8] == "more columns: thread"
    assert table[9] == f"next: etl run {site.data / 'java_app.log'}"


TABS = "{timestamp}\t{level}\t{logger}\t{message}"


@pytest.mark.parametrize("layout", [SHOP, TABS])
def test_a_layout_that_is_found_can_be_pasted_into_a_run(site, layout):
    tabs = LINES.replace(" WARN [main] pier: ", "\tWARN\tpier\t")
    site.write("a b.log", LINES if layout == SHOP else tabs)
    text = site.etl("detect", "a b.log")
    assert "a b.log: format generic (100% of 8 records), 0% without a time\n" in text
    option = re.search("layout of the generic records .100% fit.: (--template .*)", text)[1]
    command = ["bash", "-c", f"printf '%s|' {option}"]
    pasted = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("|")
    assert pasted == ["--template", layout, ""]
    site.etl("run", "a b.log", *pasted[:2])
    site.settled(done=8)
    assert text.endswith(f'\nnext: etl run "a b.log" {option}\n')


def test_a_layout_that_some_lines_do_not_fit_is_not_in_the_command_that_comes_next(site):
    site.write("a.log", LINES * 20 + "2026-11-21 10:00:09 of no level\n")
    text = site.etl("detect", "a.log")
    assert f'--template "{SHOP}"' in text
    assert text.endswith("\nnext: etl run a.log\n")


def test_records_of_several_lines_are_shown_in_one_row(site):
    site.write("app.log", f"2026-11-21 10:00:00 ERROR pier: low\n{TRACE}" * 3)
    text = site.etl("detect", "app.log")
    assert "3 of 3 have several lines" in text
    row = next(line for line in text.splitlines() if line.startswith("   4  "))
    assert row.split()[:2] == ["4", "3"]
    assert r"low\njava.lang.E: no tide\n\tat a.B.c" in row


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".zst"])
def test_a_file_may_be_packed_and_only_its_beginning_is_read(site, suffix):
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstd.compress}.get(suffix, bytes)
    data = pack(LINES.encode() * 50_000)
    site.write(f"app.log{suffix}", data if suffix in ("", ".zst") else data[: len(data) - 20])
    (found,) = site.json("detect", f"app.log{suffix}")["files"]
    assert (found["file"], found["records"]) == (f"app.log{suffix}", 5_000)
    assert found["rows"][0]["timestamp"] == "2026-11-21T10:00:00+00:00"


def test_a_line_without_an_end_is_not_read_to_its_end(site):
    site.write("app.log", "2026-11-21 10:00:00 INFO a: " + "x" * 5_000_000)
    (found,) = site.json("detect", "app.log")["files"]
    assert (found["records"], len(found["rows"][0]["line"])) == (1, 1 << 20)


def test_stdin_is_read_until_it_is_silent(site):
    assert "stdin: format generic (100% of 8 records)" in site.etl("detect", "-", input=LINES)
    process = site.start("detect", "-", "--json", stdin=subprocess.PIPE)
    process.stdin.write(LINES + "2026-11-21 10:0")
    process.stdin.flush()
    found = json.loads(process.stdout.readline())
    assert process.wait(10) == 0
    assert found["files"][0]["records"] == 8
    assert shlex.split(found["files"][0]["next"]) == ["etl", "run", "-", "--template", SHOP]


def test_json_has_all_that_is_known_of_each_file(shop):
    shop.write("b.jsonl", '{"level": "info", "msg": "a", "n": 1}\n' * 3)
    one, two = shop.json("detect", "app.log", "b.jsonl")["files"]
    assert set(one) == {
        *("file", "records", "several_lines", "begins", "start", "header", "candidates", "formats"),
        *("fits", "generic", "without_time", "empty", "template", "template_share", "rows"),
        *("unfit", "next"),
    }  # fmt: skip
    assert (one["template"], one["generic"], one["begins"]) == (SHOP, 1.0, "a line with a time")
    assert one["template_share"] == pytest.approx(8 / 9)
    assert two["candidates"] == two["formats"] == [{"format": "json", "share": 1.0}]
    assert (two["without_time"], two["rows"][0]["n"]) == (1.0, 1)


def test_a_layout_is_tried_and_the_first_lines_that_do_not_fit_are_shown(shop):
    text = shop.etl("detect", "app.log", "--format", "shop")
    assert text.startswith("app.log: 8 of 9 records fit shop, 0% without a time\n")
    tail = text.partition("the first that do not fit:\n")[2].splitlines()
    assert tail[1].split() == ["9", "2026-11-21", "10:00:09", "oops"]
    assert tail[2] == "next: etl run app.log --format shop"
    (found,) = shop.json("detect", "app.log", "--template", SHOP)["files"]
    assert found["fits"] == pytest.approx(8 / 9)
    assert found["unfit"] == [
        {"line_number": 9, "line_count": 1, "line": "2026-11-21 10:00:09 oops"}
    ]
    assert shlex.split(found["next"]) == ["etl", "run", "app.log", "--template", SHOP]


def test_a_layout_that_nothing_fits_is_not_proposed(shop):
    text = shop.etl("detect", "app.log", "--regex", "^no (?P<a>.*)")
    assert "0 of 9 records fit" in text
    assert text.endswith("next: etl detect app.log\n")


def test_hostile_text_does_no_harm(site):
    line = f"2026-11-21 10:00:00 INFO pier: {HOSTILE}\n"
    name = "a\x1b[31m\n.log"
    site.write(name, line * 3)
    site.write("b.jsonl", json.dumps({HOSTILE: 1, "level": HOSTILE, "msg": "x"}) + "\n")
    for more in ([], ["--regex", f"(?P<a>\x07){HOSTILE[0]}"]):
        text = site.etl("detect", name, "b.jsonl", *more)
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "[red]x[/red]" in text
    assert r"a\x1b[31m\n.log: " in text
    (found, _) = site.json("detect", name, "b.jsonl")["files"]
    assert found["file"] == name


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_a_row_is_a_line_however_narrow_the_terminal_is(site, columns):
    site.write("app.log", LINES.replace("low", "low " + "tide " * 200))
    text = site.etl("detect", "app.log", env={"COLUMNS": str(columns)})
    _, _, rows = text.rpartition("message ")
    rows = rows.splitlines()[1:-2]
    assert len(rows) == 5
    assert all(" lo" in row for row in rows)
    assert all(len(row) <= columns for row in rows)


def test_a_file_without_lines_is_said_to_be_so(site):
    site.write("app.log", "")
    assert site.etl("detect", "app.log") == "app.log: no lines\n"
    assert site.json("detect", "app.log")["files"][0]["records"] == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.log", "there is no file 'none.log'"),
        ("logs", "'logs' is a folder; name files in it: logs/*.log"),
        ("program", "'program' looks like "),
        ("bad.gz", "'bad.gz' cannot be read to its end: "),
    ],
)
def test_what_is_no_log_is_refused_in_one_sentence(site, name, said):
    site.write("logs/app.log", LINES)
    site.write("program", b"\x7fELF\x02\x01\x01\0" + bytes(1000))
    site.write("bad.gz", gzip.compress(b"one\n" * 100)[:-8])
    assert said in site.refused("detect", name)


# Formats


def test_the_formats_are_listed_with_those_of_the_user_first(shop):
    rows = shop.json("formats")["formats"]
    assert rows[0] == {
        "format": "shop", "about": "what the shop writes", "file": "etl-formats.toml",
        "spec": f"shop=template:{SHOP}",
    }  # fmt: skip
    assert {row["format"] for row in rows[1:]} == set(FORMATS)
    assert all(row["about"] and row["file"] is None for row in rows[1:])
    text = shop.etl("formats", env={"COLUMNS": "80"})
    first = text.splitlines()[1]
    assert re.split("  +", first.strip()) == ["shop", "what the shop writes", "etl-formats.toml"]
    assert "compose         docker compose logs" in text
    assert "OpenTelemetry" in text  # at the end of the longest one


def test_a_mistake_in_the_file_of_formats_is_one_line(shop):
    shop.write("etl-formats.toml", "[shop]\nregex = '('")
    for verb in ("formats", "detect app.log --format shop", "run app.log --format shop"):
        said = shop.refused(*verb.split())
        assert "etl-formats.toml: [shop]: regex '(' does not compile: unclosed group" in said
    shop.etl("detect", "app.log")  # needs no file


def test_an_unknown_format_may_be_meant_as_one_of_the_user(shop):
    for verb in ("run", "detect"):
        said = shop.refused(verb, "app.log", "--format", "shpo")
        assert said == "etl: unknown format 'shpo'; did you mean 'shop'?"


def test_a_run_reads_by_a_users_own_format(shop):
    shop.etl("run", "app.log", "--format", "shop")
    rows = shop.rows()
    assert (set(rows["format"]), set(rows["thread"])) == ({"shop"}, {"main"})
    (dead,) = shop.dead_letters().to_dicts()
    assert (dead["code"], dead["message"]) == (
        "no_format",
        "the line does not match the format 'shop'",
    )
    shop.settled(done=8, dead=1)


def test_what_was_put_by_a_name_is_read_after_the_file_is_gone(shop):
    shop.etl("put", "app.log", "--format", "shop")
    (shop.folder / "etl-formats.toml").unlink()
    shop.etl("work", "--drain")
    shop.settled(done=8, dead=1)
    assert set(shop.rows()["format"]) == {"shop"}
    shop.etl("dlq replay", "--all")
    shop.etl("work", "--drain")
    assert shop.dead_letters(status=None)["format"].unique().to_list() == [f"shop=template:{SHOP}"]
    shop.settled(done=8, dead=1)
