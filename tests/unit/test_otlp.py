"""OpenTelemetry's records as lines: nothing of them is lost, and they are read again."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from etl.formats import normalise, parse
from etl.sources.otlp import BadRecords, TooMuch, read_json, read_protobuf

LIMITS = {"max_line": 1 << 20, "max_text": 1 << 24}
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | TEXT
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def set_value(one, value):
    kinds = {bool: "bool", str: "string", int: "int", float: "double", bytes: "bytes"}
    if isinstance(value, list):
        one.array_value.SetInParent()
        for inner in value:
            set_value(one.array_value.values.add(), inner)
    elif isinstance(value, dict):
        one.kvlist_value.SetInParent()
        for key, inner in value.items():
            set_value(one.kvlist_value.values.add(key=key).value, inner)
    elif value is not None:
        setattr(one, f"{kinds[type(value)]}_value", value)


def in_json(value):
    """Return a value as a line has it."""
    match value:
        case float() if math.isinf(value):
            return {"doubleValue": "Infinity" if value > 0 else "-Infinity"}
        case bytes():
            return {"bytesValue": base64.b64encode(value).decode()}
        case list():
            return [in_json(inner) for inner in value]
        case dict():
            return {key: in_json(inner) for key, inner in value.items()}
    return value


def request(*records, resource=None, scope="shop"):
    """Return a request with records of one resource and scope; each is a dict."""
    made = ExportLogsServiceRequest()
    of_resource = made.resource_logs.add()
    for key, value in (resource or {}).items():
        set_value(of_resource.resource.attributes.add(key=key).value, value)
    of_scope = of_resource.scope_logs.add()
    of_scope.scope.name = scope
    for fields in records:
        record = of_scope.log_records.add()
        for name, value in fields.items():
            if name == "attributes":
                for key, one in value.items():
                    set_value(record.attributes.add(key=key).value, one)
            elif name == "body":
                set_value(record.body, value)
            else:
                setattr(record, name, value)
    return made.SerializeToString()


def table(*records, **more):
    """Return the rows that records become, as the default pipeline reads their lines."""
    text = read_protobuf(request(*records, **more), **LIMITS).text.decode()
    lines = pl.DataFrame({"line": text.split("\n")[:-1]})
    return normalise(parse(lines))


@given(body=VALUES, attributes=st.dictionaries(TEXT, VALUES, max_size=4), key=TEXT)
def test_a_line_has_all_of_a_record(body, attributes, key):
    data = request({"body": body, "attributes": attributes}, resource={key: "x"})
    text = read_protobuf(data, **LIMITS).text.decode()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    line = json.loads(text, object_pairs_hook=list)
    found = dict(line)
    assert found.pop("timeUnixNano") == "0"
    assert found.pop("scope.name") == "shop"
    assert found.pop(f"resource.{key}") == "x"
    assert json.loads(text).get("body") == in_json(body)
    expected = {f"attributes.{name}": in_json(value) for name, value in attributes.items()}
    again = json.loads(text)
    assert {name: again[name] for name in found if name != "body"} == expected


def test_a_record_becomes_columns():
    second = 1_764_201_600 * 10**9
    rows = table(
        {
            "time_unix_nano": second + 123_456_789,
            "observed_time_unix_nano": second + 1,
            "severity_number": 17,
            "severity_text": "failed badly",
            "body": "user 5 said: INFO is fine",
            "attributes": {"http.status": 500, "tags": ["a", "b"]},
            "trace_id": bytes(range(16)),
            "span_id": bytes(8),
            "flags": 1,
        },
        resource={"service.name": "shop"},
        scope="shop.orders",
    )
    (row,) = rows.to_dicts()
    assert row["format"] == "otlp"
    assert row["message"] == "user 5 said: INFO is fine"
    assert row["level"] == "ERROR"
    assert row["severityText"] == "failed badly"
    assert row["logger"] == "shop.orders"
    assert row["timestamp"] == datetime(2025, 11, 27, 0, 0, 0, 123456, tzinfo=UTC)
    assert row["timeUnixNano"] == second + 123_456_789
    assert row["attributes.http.status"] == 500
    assert row["attributes.tags"] == '["a", "b"]'
    assert row["resource.service.name"] == "shop"
    assert (row["traceId"], row["spanId"]) == (bytes(range(16)).hex(), "0" * 16)


@pytest.mark.parametrize(
    ("nanos", "year"), [(5 * 10**9, 1970), (2**63, 2262), (2**64 - 1, 2554), (10**15, 1970)]
)
def test_a_clock_that_is_far_off_is_kept_as_it_was_sent(nanos, year):
    (row,) = table({"time_unix_nano": nanos, "body": "x"}).to_dicts()
    assert row["timestamp"].year == year
    assert row["timeUnixNano"] == nanos


def test_a_record_without_a_time_has_that_at_which_it_was_observed():
    both = table({"body": "a"}, {"body": "b", "observed_time_unix_nano": 1_764_201_600 * 10**9})
    assert both["timestamp"].to_list() == [None, datetime(2025, 11, 27, tzinfo=UTC)]


def test_a_body_that_is_a_line_of_a_known_format_is_read_again():
    access = '10.0.0.1 - - [21/Nov/2026:09:00:00 +0000] "GET / HTTP/1.1" 500 12'
    rows = table({"body": access}, {"body": '{"level":"WARN","msg":"low"}'}, {"body": "plain"})
    assert rows["message"].to_list()[1:] == ["low", "plain"]
    assert rows["status"].to_list()[0] == 500
    assert rows["level"].to_list() == ["ERROR", "WARNING", None]
    assert rows["logger"][2] == "shop"


@pytest.mark.parametrize(
    "line",
    [
        '{"timeUnixNano":"5"} and more',
        '{"timeUnixNano":"5",',
        '{"timeUnixNano":"99999999999999999999"}',
        '{"timeUnixNano":"5","timeUnixNano":{"a":1},"body":[1],"message":"m"}',
    ],
)
def test_a_line_that_only_begins_like_a_record_is_read_and_not_lost(line):
    row = normalise(parse(pl.DataFrame({"line": [line]}))).row(0, named=True)
    assert row["line"] == line
    assert row["format"] in ("generic", "otlp", "json")
    lines = pl.DataFrame({"line": [line] * 3 + ['{"timeUnixNano":"5","body":"x"}']})
    assert normalise(parse(lines))["message"][3] == "x"


def test_a_time_of_a_record_hides_no_other_one():
    line = '{"timeUnixNano":"5000","timestamp":"soon","timestamp_":"later"}'
    row = normalise(parse(pl.DataFrame({"line": [line]}))).row(0, named=True)
    assert row["timestamp"].year == 1970
    assert {"soon", "later"} <= {value for key, value in row.items() if key != "line"}


def test_bodies_with_keys_are_columns():
    (row,) = table({"body": {"user": "a", "deep": {"n": 1}}}).to_dicts()
    assert row["body.user"] == "a"
    assert row["body.deep.n"] == 1


def test_records_whose_lines_are_too_long_are_rejected_and_the_others_taken():
    data = request({"body": "x" * 1000}, {"body": "short"})
    found = read_protobuf(data, max_line=500, max_text=10_000)
    assert found.rejected == 1
    assert b"short" in found.text


def test_a_small_request_does_not_become_a_huge_text():
    data = request(*[{}] * 1000, resource={"key": "x" * 100_000})
    with pytest.raises(TooMuch, match="send fewer records"):
        read_protobuf(data, **LIMITS)


def test_json_says_the_same_as_protobuf():
    data = {
        "resourceLogs": [
            {
                "resource": {"attributes": [{"key": "a", "value": {"intValue": "5"}}]},
                "scopeLogs": [
                    {
                        "scope": {"name": "shop"},
                        "logRecords": [
                            {
                                "timeUnixNano": "1764201600000000001",
                                "severityNumber": 9,
                                "body": {"stringValue": "hällo"},
                                "traceId": "5B8EFFF798038103D269B633813FC60C",
                                "spanId": "EEE19B7EC3C1B174",
                                "unknown": [1],
                            }
                        ],
                    }
                ],
            }
        ]
    }
    record = {
        "time_unix_nano": 1764201600000000001,
        "severity_number": 9,
        "body": "hällo",
        "trace_id": bytes.fromhex("5B8EFFF798038103D269B633813FC60C"),
        "span_id": bytes.fromhex("EEE19B7EC3C1B174"),
    }
    expected = read_protobuf(request(record, resource={"a": 5}), **LIMITS)
    assert read_json(json.dumps(data).encode(), **LIMITS) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"5",
        b'{"resourceLogs": 5}',
        b'{"resourceLogs": [5]}',
        b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": "xyz"}]}]}]}',
        b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": 5}]}]}]}',
        b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": "text"}]}]}]}',
        b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": [{"value": 5}]}]}]}]}',
        b'{"a":' * 100_000,
        b"\xff",
    ],
)
def test_json_that_is_no_request_is_refused(data):
    with pytest.raises(BadRecords, match="not an ExportLogsServiceRequest in JSON"):
        read_json(data, **LIMITS)


@given(st.binary())
def test_any_bytes_are_records_or_refused(data):
    for read in (read_protobuf, read_json):
        try:
            text = read(data, **LIMITS).text
        except BadRecords:
            continue
        assert all(json.loads(line) for line in text.splitlines())
