"""A source's position is kept with its lines: nothing is read twice, nothing is passed over."""

from __future__ import annotations

import gzip

import pytest


def numbered(first, last):
    return "".join(f"line {n}\n" for n in range(first, last))


def numbers(site):
    return sorted(site.rows()["number"].to_list())


def run(site, *sources, **options):
    return site.json("run", *sources, *site.pipeline("light"), **options)


@pytest.mark.parametrize("verb", ["run", "put"])
def test_a_file_read_to_its_end_adds_nothing(site, verb):
    log = site.write("app.log", numbered(0, 100))
    for _ in range(2):
        site.etl(verb, log, *(site.pipeline("light") if verb == "run" else ()))
    assert site.queue.stats().accepted == 100
    run(site, log)
    assert run(site, log)["lines_per_second"] == 0
    site.settled(done=100)
    assert numbers(site) == list(range(100))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_that_has_grown_adds_its_new_lines_only(site, suffix):
    def write(name, text):
        return site.write(name, gzip.compress(text.encode(), mtime=0) if suffix else text)

    log = write(f"app.log{suffix}", numbered(0, 5_000))
    run(site, log)
    if suffix:
        with log.open("ab") as file:
            file.write(gzip.compress(numbered(5_000, 5_100).encode()))
    else:
        with log.open("a") as file:
            file.write(numbered(5_000, 5_100))
    run(site, log)
    site.settled(done=5_100)
    assert numbers(site) == list(range(5_100))
    assert site.rows()["line_number"].sort().to_list() == list(range(1, 5_101))


def test_a_file_is_read_again_when_that_is_asked_for(site):
    log = site.write("app.log", numbered(0, 10))
    run(site, log)
    run(site, log, "--reread")
    site.settled(done=20)
    assert numbers(site) == sorted([*range(10)] * 2)


def test_another_file_of_the_same_name_is_read_from_its_start(site):
    log = site.write("app.log", numbered(0, 1_000))
    run(site, log)
    log.unlink()
    site.write("app.log", numbered(2_000, 4_000))
    run(site, log)
    site.settled(done=3_000)
    assert numbers(site) == [*range(1_000), *range(2_000, 4_000)]


def test_a_file_that_was_cut_short_and_rewritten_is_read_from_its_start(site):
    log = site.write("app.log", numbered(0, 1_000))
    run(site, log)
    site.write("app.log", numbered(5_000, 5_010))
    run(site, log)
    site.settled(done=1_010)
    assert numbers(site) == [*range(1_000), *range(5_000, 5_010)]


def test_the_same_file_by_another_name_adds_nothing(site):
    log = site.write("app.log", numbered(0, 100))
    (site.folder / "link.log").symlink_to(log)
    run(site, log, "app.log", "./app.log", "link.log")
    site.settled(done=100)


def queue_a_reference(site, log):
    """Start a run on a paused store, and kill it once its file is queued."""
    site.queue.pause("")
    started = site.start("run", log, *site.pipeline("light"))
    site.seen(lambda stats: stats.waiting == stats.accepted > 0)
    site.kill(started, group=True)
    site.etl("resume")


@pytest.mark.parametrize("change", ["overwritten", "cut"])
def test_a_source_that_changed_before_it_was_processed_is_a_dead_letter(site, change):
    log = site.write("app.log", numbered(0, 1_000))
    queue_a_reference(site, log)
    site.write("app.log", numbered(5_000, 6_000) if change == "overwritten" else "line 0\n")
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=0, dead=1_000)
    dead_letter = site.dead_letters().row(0, named=True)
    assert (dead_letter["code"], dead_letter["lines"], dead_letter["line_number"]) == (
        "source_changed",
        1_000,
        1,
    )
    assert dead_letter["source"] == str(log)
    assert not list(site.out.glob("*.parquet"))
    assert "etl run --reread" in site.refused("dlq replay", dead_letter["id"])


@pytest.mark.parametrize("command", ["work --drain", "work --drain --workers 2", "run other.log"])
def test_lines_of_a_source_that_is_not_there_wait_until_it_is_back(site, command):
    log = site.write("app.log", numbered(0, 1_000))
    queue_a_reference(site, log)
    site.write("other.log", numbered(1_000, 1_500))
    site.etl("put", "other.log")
    away = site.write("elsewhere/app.log", "")  # beside its name it would be found
    log.rename(away)
    told = site.finish(command, *site.pipeline("light")).stderr
    assert f"{str(log)!r} cannot be read on this machine: No such file" in told
    assert "the 1,000 lines that wait" in told
    site.seen(lambda stats: (stats.done, stats.waiting, stats.leased) == (500, 1_000, 0))
    away.rename(log)
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=1_500)
    assert numbers(site) == list(range(1_500))


def test_a_source_that_has_only_grown_since_is_processed(site):
    log = site.write("app.log", numbered(0, 1_000))
    queue_a_reference(site, log)
    with log.open("a") as file:
        file.write(numbered(1_000, 1_500))
    run(site, log)
    site.settled(done=1_500)
    assert numbers(site) == list(range(1_500))


def test_a_store_keeps_the_positions_of_many_files(site):
    for part in range(5):
        site.write(f"logs/{part}.log", numbered(part * 100, part * 100 + 100))
    run(site, "logs")
    site.write("logs/5.log", numbered(500, 600))
    run(site, "logs")
    site.settled(done=600)
    assert numbers(site) == list(range(600))


def test_a_run_waits_out_an_operators_pause_and_does_not_end_it(site):
    log = site.write("app.log", numbered(0, 100))
    site.queue.pause("someone looks")
    started = site.start("run", log, *site.pipeline("light"))
    site.seen(lambda stats: stats.waiting == 100)
    assert started.poll() is None
    assert site.queue.control().reason == "someone looks"
    site.etl("resume")
    assert started.wait(60) == 0
    site.settled(done=100)
