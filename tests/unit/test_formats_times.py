"""Times of any layout, read on real values; and what is done about what they do not say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.formats import normalise, parse
from etl.formats.stamps import ZONES
from etl.formats.times import Clock, read_times

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def read(*texts: str | None, **clock: object) -> list[datetime | None]:
    values = pl.Series(list(texts), dtype=pl.String)
    return read_times(values, Clock(NOW, **clock)).to_list()  # type: ignore[arg-type]


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tue Mar 05 05:00:00 EST 2024", at(2024, 3, 5, 10)),
        ("Tue, 05 Mar 2024 10:00:00 GMT", at(2024, 3, 5, 10)),
        ("Sat Nov 21 10:00:00.25 2026", at(2026, 11, 21, 10, 0, 0, 250_000)),
        ("5-Mar-24 22:00:00.1", at(2024, 3, 5, 22, 0, 0, 100_000)),
        ("05 March 2024 10:00:00,123456789", at(2024, 3, 5, 10, 0, 0, 123_456)),
        ("Mar 05, 2024 12:00:00 AM", at(2024, 3, 5)),
        ("05.03.2024 10:00:00", at(2024, 3, 5, 10)),
        ("05.03.24 10:00:00", at(2024, 3, 5, 10)),
        ("03/05/2024 1:00:00 PM", at(2024, 3, 5, 13)),
        ("13/03/2024 10:00:00", at(2024, 3, 13, 10)),
        ("03/05/24 10:00:00:123 GMT", at(2024, 3, 5, 10, 0, 0, 123_000)),
        ("24/03/05 10:00:00", at(2024, 3, 5, 10)),
        ("20240305T100000Z", at(2024, 3, 5, 10)),
        ("20240305-10:00:00:123", at(2024, 3, 5, 10, 0, 0, 123_000)),
        ("20240305100000", at(2024, 3, 5, 10)),
        ("240305  9:00:00", at(2024, 3, 5, 9)),
        ("2005-06-03-15.42.50.675872", at(2005, 6, 3, 15, 42, 50, 675_872)),
        ("2024-03-05-10.00.00.000000+060", at(2024, 3, 5, 9)),
        ("2024-03-05T12:00:00,123+0200", at(2024, 3, 5, 10, 0, 0, 123_000)),
        ("2024-03-05 11:00:00.123 CET", at(2024, 3, 5, 10, 0, 0, 123_000)),
        ("2024-03-05 11:00:00 Europe/Berlin", at(2024, 3, 5, 10)),
        ("2024-03-05, 10:00:00 UTC", at(2024, 3, 5, 10)),
        ("2024-03-05 10:00", at(2024, 3, 5, 10)),
        ("5/3/2024 -- 10:00:00", at(2024, 3, 5, 10)),
        ("05-MAR-2024 10:00:00", at(2024, 3, 5, 10)),
        ("05Mar2024 10:00:00.123", at(2024, 3, 5, 10, 0, 0, 123_000)),
        ("2024 Mar 05 10:00:00", at(2024, 3, 5, 10)),
        ("mar/05/2024 10:00:00", at(2024, 3, 5, 10)),
        ("Tue Mar 05 2024 11:00:00 GMT+0100", at(2024, 3, 5, 10)),
        ("03-05|10:00:00.123", at(2026, 3, 5, 10, 0, 0, 123_000)),
        ("03/05-10:00:00.123456", at(2026, 3, 5, 10, 0, 0, 123_456)),
        ("[10.30 16:49:06]", at(2026, 10, 30, 16, 49, 6)),
        ("11-20 16:49:06.5", at(2026, 11, 20, 16, 49, 6, 500_000)),
        ("1709632800", at(2024, 3, 5, 10)),
        ("1709632800,5", at(2024, 3, 5, 10, 0, 0, 500_000)),
        ("1709632800123", at(2024, 3, 5, 10, 0, 0, 123_000)),
        ("1709632800123456", at(2024, 3, 5, 10, 0, 0, 123_456)),
        ("1709632800123456789", at(2024, 3, 5, 10, 0, 0, 123_456)),
        ("@4000000065e6ed0a075bcd15", at(2024, 3, 5, 9, 59, 28, 123_456)),
        ("10:00:00", None),
        ("2024-13-05 10:00:00", None),
        ("31/02/2024 10:00:00", None),
        ("2024-03-05 10:00:00 Europe/Atlantis", None),
        ("0.25", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_time_is_read_in_its_layout(text: str, expected: datetime | None):
    assert read(text) == [expected]
    assert read(None, text, text) == [None, expected, expected]


LAYOUTS = [  # that strftime can write
    "%Y-%m-%d %H:%M:%S,%f", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%S.%f%z", "%Y%m%d%H%M%S",
    "%Y%m%dT%H%M%S.%f", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S.%f %Y", "%d/%b/%Y:%H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %z",
    "%d-%b-%Y %H:%M:%S.%f", "%d %b %Y %H:%M:%S,%f", "%b %d, %Y %I:%M:%S %p",
    "%A, %d %B %Y %H:%M:%S",
    "%Y-%m-%d-%H.%M.%S.%f", "%b %d %Y %H:%M:%S", "%B %d, %Y %I:%M:%S.%f %p", "%d-%b-%y %H:%M:%S",
    "%Y.%m.%d %H:%M:%S.%f", "%Y-%m-%d_%H:%M:%S", "%s", "%y%m%d %H%M%S",
]  # fmt: skip
TIMES = st.datetimes(datetime(2001, 9, 10), datetime(2032, 12, 31))  # noqa: DTZ001


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=40)
@given(times=st.lists(TIMES, min_size=1, max_size=8), hours=st.integers(-11, 14))
def test_what_a_layout_can_write_is_read_back(layout: str, times: list[datetime], hours: int):
    zone = UTC if "%z" not in layout else timedelta(hours=hours)
    zoned = [time.replace(tzinfo=UTC if zone is UTC else timezone(zone)) for time in times]
    texts = [str(int(t.timestamp())) if layout == "%s" else t.strftime(layout) for t in zoned]
    kept = [t if "%f" in layout else t.replace(microsecond=0) for t in zoned]
    assert read(*texts) == [time.astimezone(UTC) for time in kept]


@given(st.lists(TIMES, min_size=13, max_size=20))
def test_the_order_of_day_and_month_is_the_one_that_reads_all(times: list[datetime]):
    times[0] = times[0].replace(day=28)
    for layout in ("%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %H:%M:%S"):
        texts = [time.strftime(layout) for time in times]
        assert read(*texts) == [t.replace(microsecond=0, tzinfo=UTC) for t in times]


@pytest.mark.parametrize("zone", sorted(set(ZONES) - {"Z"}))
def test_a_named_zone_is_taken_off(zone: str):
    local = at(2024, 3, 5, 10) - timedelta(hours=ZONES[zone])
    assert read(f"2024-03-05 10:00:00.5 {zone}") == [local + timedelta(seconds=0.5)]


def test_a_time_without_a_zone_is_of_the_zone_that_is_given():
    texts = ["2026-07-21 10:00:00", "2026-07-21 10:00:00Z", "2026-11-20T10:00:00+02:00"]
    got = read(*texts, timezone="Europe/Berlin")
    assert got == [at(2026, 7, 21, 8), at(2026, 7, 21, 10), at(2026, 11, 20, 8)]
    assert read("2026-03-29 02:30:00", timezone="Europe/Berlin") == [None]  # no such time
    assert read("21.07.2026 10:00:00", timezone="Europe/Berlin") == [at(2026, 7, 21, 8)]


@pytest.mark.parametrize("layout", ["%b %d %H:%M:%S", "%m-%d %H:%M:%S.%f"])
def test_a_year_that_is_missing_comes_from_the_clock_and_the_order(layout: str):
    start = datetime(2024, 11, 20, tzinfo=UTC)
    times = [start + timedelta(days=3 * i) for i in range(30)]
    texts = [time.strftime(layout) for time in times]
    frame = pl.DataFrame({"line": [f"{text} x" for text in texts]})
    parsed = parse(frame)

    by_file = normalise(parsed, modified=times[-1].timestamp())
    assert by_file["timestamp"].to_list() == times
    assert normalise(parsed, year=2024, now=NOW)["timestamp"].to_list() == times
    by_now = normalise(parsed, now=NOW)["timestamp"]
    assert by_now.to_list() == [t.replace(year=t.year + 1) for t in times]


def test_29_february_is_in_a_leap_year():
    assert read("Feb 29 10:00:00") == [at(2024, 2, 29, 10)]


def test_a_time_that_cannot_be_read_keeps_its_text():
    lines = ["2026-02-30 10:00:00,123 INFO a.b: x", "2026-02-20 10:00:00,123 INFO a.b: y"]
    rows = normalise(parse(pl.DataFrame({"line": lines})))
    assert rows["timestamp"].to_list() == [None, at(2026, 2, 20, 10, 0, 0, 123_000)]
    assert rows["timestamp_text"].to_list() == ["2026-02-30 10:00:00,123", None]


def test_days_that_follow_each_other_tell_day_from_month():
    days = [f"0{i}/02/2024 10:00:00" for i in range(1, 6)]
    assert read(*days) == [at(2024, 2, i, 10) for i in range(1, 6)]
    assert read("04/12/2026 10:00:00")[0] == at(2026, 4, 12, 10)
    assert read("11/12/2026 10:00:00", "10/12/2026 10:00:00")[0] == at(2026, 11, 12, 10)


def test_a_cell_behind_a_time_is_no_fraction():
    line = "1,2026/11/21 10:00:00,0123,TRAFFIC,end"
    got = normalise(parse(pl.DataFrame({"line": [line]})), now=NOW)
    assert got["timestamp"][0] == at(2026, 11, 21, 10)


def test_a_time_of_day_has_its_date_from_when_the_file_was_changed():
    clocks = ["22:59:00.5", "23:59:59.25", None, "00:00:01", "11:00 AM"]
    lines = [f"{clock or 'no time at'} INFO low" for clock in clocks]
    parsed = parse(pl.DataFrame({"line": lines}))
    times = normalise(parsed, modified=at(2026, 3, 1, 11, 5).timestamp())["timestamp"].to_list()
    assert times[:2] == [at(2026, 2, 28, 22, 59, 0, 500_000), at(2026, 2, 28, 23, 59, 59, 250_000)]
    assert times[2:] == [None, at(2026, 3, 1, 0, 0, 1), at(2026, 3, 1, 11)]

    before = normalise(parsed, modified=at(2026, 3, 1, 9).timestamp())["timestamp"]
    assert before[4] == at(2026, 2, 28, 11)
    assert normalise(parsed, now=NOW)["time"].to_list() == clocks
