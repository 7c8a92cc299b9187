"""Tables whose head names their columns, and the dialects of JSON and logfmt."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from etl.formats import header_of, normalise, parse


def rows(
    *lines: str, spec: str | None = None, header: str | None = None
) -> list[dict[str, object]]:
    frame = pl.DataFrame({"line": lines})
    got = normalise(parse(frame, spec, header=header)).drop("line")
    return [{k: v for k, v in row.items() if v is not None} for row in got.iter_rows(named=True)]


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


W3C = [
    "#Software: Pier 1.0", "#Fields: date time cs-method cs-uri-stem sc-status",
    "2026-11-21 10:00:00 GET /tide 404", "#Fields: date time c-ip sc-status time-taken",
    "2026-11-21 10:00:01 10.0.0.7 200 -",
]  # fmt: skip


def test_fields_of_w3c_may_change_within_a_file():
    got = rows(*W3C)
    assert [row["format"] for row in got] == ["w3c"] * 5
    assert [row.get("message") for row in got] == [W3C[0], W3C[1], None, W3C[3], None]
    assert got[2]["timestamp"] == at(2026, 11, 21, 10)
    assert (got[2]["cs-uri-stem"], got[2]["level"]) == ("/tide", "WARNING")
    assert (got[4]["c-ip"], got[4]["level"]) == ("10.0.0.7", "INFO")
    assert "time-taken" not in got[4]


def test_a_time_of_w3c_without_a_date_has_the_one_above():
    got = rows("#Date: 2026-11-21 09:00:00", "#Fields: time c-ip", "10:00:00 10.0.0.7")
    assert got[2]["timestamp"] == at(2026, 11, 21, 10)


def test_a_batch_below_the_head_needs_it_handed_in():
    head = header_of(pl.Series(W3C))
    assert head == W3C[1]
    assert rows(W3C[2], header=head)[0]["cs-method"] == "GET"
    assert rows(W3C[2])[0]["format"] == "generic"
    assert rows(W3C[2], spec="w3c", header=head)[0]["cs-method"] == "GET"
    assert not parse(pl.DataFrame({"line": [W3C[2]]}), "w3c")["_fits"].any()


def test_zeek_has_tabs_and_marks_for_unset_values():
    lines = ["#separator \\x09", "#fields\tts\tuid\tproto", "#types\ttime\tstring\tenum",
             "1795255200.250000\tC1\t-", "#close\t2026-11-21-11-00-00"]  # fmt: skip
    got = rows(*lines)
    assert {row["format"] for row in got} == {"zeek"}
    assert got[3]["timestamp"] == at(2026, 11, 21, 10, 0, 0, 250_000)
    assert got[3]["uid"] == "C1"
    assert "proto" not in got[3]


@pytest.mark.parametrize("by", [",", "\t", ";", "|"])
def test_a_table_with_a_head_is_read_by_its_names(by: str):
    lines = ["Time,Severity,Component,Message", "2026-11-21 10:00:00,warn,tide,low",
             f'2026-11-21 10:00:01,error,tide,"now{by} ""low"""']  # fmt: skip
    lines = [line.replace(",", by) for line in lines]
    got = rows(*lines)
    assert got[0] == {"format": "csv", "_fits": True, "message": lines[0]}
    assert got[1]["timestamp"] == at(2026, 11, 21, 10)
    assert (got[1]["level"], got[1]["logger"], got[1]["message"]) == ("WARNING", "tide", "low")
    assert got[2]["message"] == f'now{by} "low"'
    assert header_of(pl.Series(lines)) == lines[0]


@pytest.mark.parametrize(
    "lines",
    [["a plain, short line", "b"], ["one,two", "1,2"], ["x", "y"], ["2026-11-21,info,x", "a,b,c"],
     ["time,level,message", "no", "such", "cells"], []],
)  # fmt: skip
def test_prose_is_no_head(lines: list[str]):
    assert header_of(pl.Series(lines, dtype=pl.String)) is None


CHANGED = datetime(2026, 11, 27, 18, tzinfo=UTC).timestamp()


def table(*lines: str, spec: str | None = None) -> list[dict[str, object]]:
    """Read a file that was last changed on 27 November 2026."""
    frame = normalise(parse(pl.DataFrame({"line": lines}), spec), modified=CHANGED)
    every = frame.drop("line", "_fits", "format").iter_rows(named=True)
    return [{k: v for k, v in row.items() if v is not None} for row in every]


APART: list[tuple[str, str, datetime]] = [
    ("LineId,Date,Time,Level", "1,03-17,16:13:38.811,D", at(2026, 3, 17, 16, 13, 38, 811_000)),
    ("LineId,Date,Time,Pid", "1,081109,203615,148", at(2008, 11, 9, 20, 36, 15)),
    ("LineId,Date,Time,Pid", "1,81109,203615,148", at(2008, 11, 9, 20, 36, 15)),
    ("LineId,Date,Time,Level", "1,17/06/09,20:10:40,INFO", at(2017, 6, 9, 20, 10, 40)),
    ("LineId,Date,Day,Time", "1,Dec,10,06:55:46", at(2025, 12, 10, 6, 55, 46)),
    ("LineId,Month,Date,Time", "1,Jun,14,15:16:01", at(2026, 6, 14, 15, 16, 1)),
    ("Month,Day,Time,Message", "Dec,10,06:55:46,x", at(2025, 12, 10, 6, 55, 46)),
    ("month,day,time,message", "3,07,6:55,x", at(2026, 3, 7, 6, 55)),
    ("Year,Month,Day,Time", "2019,December,10,06:55:46 PM", at(2019, 12, 10, 18, 55, 46)),
    ("Day,Month,Year,Time", "10,12,19,06:55:46", at(2019, 12, 10, 6, 55, 46)),
    ("Date,Year,Time,Message", "03-17,2019,10:00:00,x", at(2019, 3, 17, 10)),
    ("Date,Day,Time,Message", "2019-03-17,Sun,10:00:00,x", at(2019, 3, 17, 10)),
    ("Date,Time,Message", "05.03.2019,10:00,x", at(2019, 3, 5, 10)),
    ("Date,Time,Message", "10 Dec 19,10:00:00,x", at(2019, 12, 10, 10)),
    ("Date,Time,Message", "10-Dec,10:00:00,x", at(2025, 12, 10, 10)),
    ("Date,Time,Message", "2019-03-17 00:00:00,10:00:00,x", at(2019, 3, 17, 10)),
    ("Date,Time,Message", "2019-03-17,10:00:00 +0100,x", at(2019, 3, 17, 9)),
    ("EventDate,EventTime,Message", "2019-03-17,10:00:00,x", at(2019, 3, 17, 10)),
    ("Log Date,Log Time,Message", "2019-03-17,10:00:00,x", at(2019, 3, 17, 10)),
    ("Booking Date,Time,Message", "2019-03-17,10:00:00,x", at(2019, 3, 17, 10)),
]


@pytest.mark.parametrize("by", [",", "\t"])
@pytest.mark.parametrize(("head", "line", "time"), APART)
def test_the_day_and_the_time_of_a_table_are_read_as_one(
    head: str, line: str, time: datetime, by: str
):
    got = table(head.replace(",", by), line.replace(",", by))[1]
    assert got["timestamp"] == time
    gone = {"Date", "EventDate", "Log Date", "Booking Date", "Month", "Year", "Time", "EventTime"}
    assert not gone & got.keys()
    assert got.get("Day") == ("Sun" if "Sun" in line else None)


def test_the_day_and_the_time_of_fields_are_read_as_one():
    got = table("#Fields: Month Day Time Message", "Dec 10 06:55:46 low")
    assert got[1] == {"timestamp": at(2025, 12, 10, 6, 55, 46), "message": "low"}
    got = table("#Fields: date time c-ip", "2026-11-21 10:00:00 h", "- 10:00:01 h")
    assert got[1] == {"timestamp": at(2026, 11, 21, 10), "c-ip": "h"}
    assert got[2] == {"time": "10:00:01", "c-ip": "h"}


def test_the_year_of_days_without_one_turns_with_their_order():
    got = table("Month,Day,Time,Message", "12,31,23:59:59,x", "1,1,00:00:01,y")
    assert [row.get("timestamp") for row in got[1:]] == [
        at(2025, 12, 31, 23, 59, 59), at(2026, 1, 1, 0, 0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    ["yesterday,,,10:00:00,x", "Dec,,,10:00:00,x", ",,10,10:00:00,x", ",13,10,10:00:00,x",
     "2026-02-30,,,10:00:00,x", "2026-11-21,,,99:00:00,x", "2026-11-21,,,,x", ",,,10:00:00,x",
     "03-17,soon,,1000,x"],
)  # fmt: skip
def test_a_day_that_cannot_be_read_is_never_that_of_the_file(line: str):
    names = ["Date", "Month", "Day", "Time", "message"]
    cells = {name: cell for name, cell in zip(names, line.split(","), strict=True) if cell}
    got = table(",".join(names), line, "2026-11-21,,,10:00:00,y")
    assert got[1] == cells
    assert got[2] == {"timestamp": at(2026, 11, 21, 10), "message": "y"}


def test_a_year_that_cannot_be_read_is_never_that_of_the_file():
    got = table("Year,Month,Day,Time,Message", "MMXX,Dec,10,10:00:00,x")[1]
    assert got == {
        "Year": "MMXX", "Month": "Dec", "Day": "10", "Time": "10:00:00", "message": "x",
    }  # fmt: skip


def test_of_two_dates_one_is_read_and_the_other_stays():
    got = table("Date,Day,Month,Time,Message", "2026-11-21,2024-01-02,Dec,10:00:00,x")[1]
    assert got == {
        "timestamp": at(2026, 11, 21, 10), "Day": "2024-01-02", "Month": "Dec", "message": "x",
    }  # fmt: skip


def test_a_whole_time_goes_before_date_and_time_which_stay():
    lines = ["Timestamp,Date,Time,Message", "1795255200,2026.11.20,10:00:00,x",
             ",2026.11.20,10:00:00,y", "1795255200,,,z"]  # fmt: skip
    got = table(*lines)[1:]
    assert got[0] == {
        "timestamp": at(2026, 11, 21, 10), "Date": "2026.11.20", "Time": "10:00:00", "message": "x",
    }  # fmt: skip
    assert got[1] == {"timestamp": at(2026, 11, 20, 10), "message": "y"}
    assert got[2] == {"timestamp": at(2026, 11, 21, 10), "message": "z"}


def test_a_time_of_day_has_the_date_of_the_file_where_no_column_says_a_day():
    got = table("Time,Update,Message", "10:00:00,v2,x")[1]
    assert got == {"timestamp": at(2026, 11, 27, 10), "Update": "v2", "message": "x"}


def test_days_apart_are_read_in_json_and_templates_too():
    got = table('{"month": 12, "day": 10, "time": "06:55:46", "msg": "x"}')[0]
    assert got == {"timestamp": at(2025, 12, 10, 6, 55, 46), "message": "x"}
    got = table('{"date": "2026-11-21T10:00:00Z", "time": "00:00:05", "msg": "x"}')[0]
    assert got == {"timestamp": at(2026, 11, 21, 10), "time": "00:00:05", "message": "x"}
    got = table('{"day": "Mon", "time": "10:00:00", "msg": "x"}')[0]
    assert got == {"day": "Mon", "time": "10:00:00", "message": "x"}
    got = table("Dec 10 06:55:46 x", spec="template:{month} {day} {time} {message}")[0]
    assert got == {"timestamp": at(2025, 12, 10, 6, 55, 46), "message": "x"}


@pytest.mark.parametrize("name", ["Content", "TEXT", "Msg", "body", "Event message"])
def test_a_column_that_is_called_as_messages_are_is_the_message(name: str):
    got = table(f"Time,Level,{name}", "2026-11-21 10:00:00,notice,low", "2026-11-21 10:00:01,info")
    assert got[1] == {
        "timestamp": at(2026, 11, 21, 10), "level": "INFO", "level_text": "notice",
        "message": "low",
    }  # fmt: skip
    more = table(f"Time,{name},EventId", "2026-11-21 10:00:00,low,E1", "2026-11-21 10:00:00,a,b,c")
    assert (more[1]["message"], more[2]["message"], more[2]["rest"]) == ("low", "a", "c")
    both = table(f"Time,Message,{name}", "2026-11-21 10:00:00,high,low")[1]
    assert (both["message"], both[name]) == ("high", "low")


def test_the_last_column_of_an_event_viewer_has_no_name():
    got = table("Level,Date and Time,Source,Event ID,Log", "Error,2026-11-21 10:00:00,s,7,App,low")
    assert (got[1]["message"], got[1]["Log"]) == ("low", "App")


DIALECTS: list[tuple[str, dict[str, object]]] = [
    ("ECS", {"@timestamp": "T", "log": {"level": "warn", "logger": "tide"}, "message": "low",
             "process": {"pid": 77}}),
    ("ECS, dotted", {"@timestamp": "T", "log.level": "warn", "log.logger": "tide", "message": "low",
                     "process.pid": 77}),
    ("bunyan", {"name": "tide", "pid": 77, "level": 40, "msg": "low", "time": "T", "v": 0}),
    ("zap", {"level": "warn", "ts": 1795255200.25, "logger": "tide", "msg": "low", "pid": 77}),
    ("log4j2", {"instant": {"epochSecond": 1795255200, "nanoOfSecond": 250000000}, "level": "WARN",
                "loggerName": "tide", "message": "low", "processId": 77}),
    ("logstash", {"@timestamp": "T", "level": "WARN", "logger_name": "tide", "message": "low",
                  "level_value": 30000, "pid": 77}),
    ("CLEF", {"@t": "T", "@l": "Warning", "@m": "low", "SourceContext": "tide", "ProcessId": 77}),
    (".NET", {"Timestamp": "T", "LogLevel": "Warning", "Category": "tide", "Message": "low",
              "ProcessId": 77}),
    ("Serilog", {"Timestamp": "T", "Level": "Warning", "RenderedMessage": "low",
                 "Properties": {"SourceContext": "tide", "ProcessId": 77}}),
    ("GELF", {"version": "1.1", "host": "h", "short_message": "low", "timestamp": 1795255200.25,
              "level": 4, "_pid": 77, "logger": "tide"}),
    ("Rust tracing", {"timestamp": "T", "level": "WARN", "fields": {"message": "low"},
                      "target": "tide", "pid": 77}),
    ("MongoDB", {"t": {"$date": "T"}, "s": "W", "c": "tide", "msg": "low", "pid": 77}),
    ("journald", {"__REALTIME_TIMESTAMP": "1795255200250000", "PRIORITY": "4", "_PID": "77",
                  "SYSLOG_IDENTIFIER": "tide", "MESSAGE": [108, 111, 119]}),
    ("monolog", {"message": "low", "level": 300, "level_name": "WARNING", "channel": "tide",
                 "datetime": "T", "pid": 77}),
    ("OpenTelemetry", {"timeUnixNano": "1795255200250000000", "severityNumber": 13, "pid": 77,
                       "body": {"stringValue": "low"}, "scope": {"name": "tide"}}),
    ("Python", {"asctime": "T", "levelno": 30, "name": "tide", "message": "low", "process": 77}),
    ("GCP", {"severity": "WARNING", "textPayload": "low", "timestamp": "T", "logger": "tide",
             "pid": 77}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data"), DIALECTS)
def test_a_dialect_of_json_fills_the_normal_columns(name: str, data: dict[str, object]):
    line = json.dumps(data).replace('"T"', '"2026-11-21T10:00:00.250Z"')
    got = rows(line)[0]
    assert got["timestamp"] == at(2026, 11, 21, 10, 0, 0, 250_000)
    assert (got["level"], got["logger"], got["pid"], got["message"]) == (
        "WARNING",
        "tide",
        77,
        "low",
    )
    assert got["format"] == "json"


def test_numbers_are_numbers_and_stay_exact():
    big, odd = "123456789012345678901234567890", "0.12345678901234567890"
    line = f'{{"i": 7, "f": 0.5, "big": {big}, "odd": {odd}, "inf": 1e999, "t": "7", "z": "007"}}'
    got = rows(line)[0]
    assert (got["i"], got["f"], got["big"], got["odd"]) == (7, 0.5, big, odd)
    assert (got["inf"], got["t"], got["z"]) == ("1e999", "7", "007")
    mixed = rows('{"a": 1, "msg": "x"}', '{"a": "one", "msg": "x"}')
    assert [row["a"] for row in mixed] == ["1", "one"]


def test_a_key_that_is_there_twice_loses_nothing():
    got = rows('{"msg": "x", "n": {"a": 5, "a": 500}, "n.a": 50}')[0]
    assert got["n.a"] == 50
    assert json.loads(str(got["rest"])) == {"n.a": "5", "n.a_": "500"}
    got = rows('{"msg": "x", "list": [{"a": 5, "a": {"b": 6, "b": 7}}]}')[0]
    assert json.loads(got["list"]) == [{"a": {"b": 7}}]
    assert got["list"] == '[{"a": 5, "a": {"b": 6, "b": 7}}]'
    got = rows('{"n": [{"msg": "x", "n": 5, "o": 1, "o": 2}, {"n": 6}]}')[0]
    assert (got["o"], got["n"]) == (2, '[{"n": 6}]')
    assert json.loads(str(got["rest"])) == {"o": "1", "n": "5"}
    got = rows('{"msg": "x", "\\u0000twice": "y"}')[0]
    assert "y" in got.values()
    got = rows("level=info msg=x a=5 a=500")[0]
    assert (got["a"], json.loads(str(got["rest"]))) == (500, {"a": "5"})


def test_a_log_line_in_a_message_is_read_again():
    outer = {"@timestamp": "2026-11-21T11:00:00Z", "host": {"name": "h"},
             "message": "2026-11-21 10:00:00,250 ERROR tide: low"}  # fmt: skip
    got = rows(json.dumps(outer))[0]
    assert got["timestamp"] == at(2026, 11, 21, 10, 0, 0, 250_000)
    assert (got["level"], got["logger"], got["message"]) == ("ERROR", "tide", "low")
    assert got["@timestamp"] == "2026-11-21T11:00:00Z"


ENVELOPES = [
    ('{"log":"%s\\n","stream":"stdout","time":"2026-11-21T11:00:00Z"}', '\\"', "outer_timestamp"),
    ("2026-11-21T11:00:00Z stdout F %s", '"', "outer_timestamp"),
    ("pier-1  | %s", '"', "container"),
    ("[pod/pier-1/boat] %s", '"', "container"),
    ("Nov 21 11:00:00 host pier[7]: %s", '"', "outer_timestamp"),
    ("<14>1 2026-11-21T11:00:00Z host pier 7 - - %s", '"', "outer_timestamp"),
    ("2026-11-21T11:00:00Z app[web.1]: %s", '"', "outer_timestamp"),
]


@pytest.mark.parametrize(("envelope", "quote", "kept"), ENVELOPES)
def test_what_is_inside_of_an_envelope_is_read_again(envelope: str, quote: str, kept: str):
    time = "2026-11-21T10:00:00"
    for inner, form in (
        (f'{{"ts":"{time}Z","level":"error","msg":"low"}}', "json"),
        (f'ts={time}Z level=error msg="low"', "logfmt"),
        (f"{time.replace('T', ' ')},000 ERROR tide: low", "python"),
    ):
        got = rows(envelope % inner.replace('"', quote))[0]
        assert got["timestamp"] == at(2026, 11, 21, 10), form
        assert (got["level"], got["message"], got["format"]) == ("ERROR", "low", form)
        assert kept in got
