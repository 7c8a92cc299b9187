"""Log records of OpenTelemetry, as OTLP sends them, made lines: one JSON object a record.

A line has the names of OTLP/JSON, without a level of nesting where that is possible, so that it is
read at once; `formats.otlp` reads it:

    {"timeUnixNano": "…", "observedTimeUnixNano": "…", "severityNumber": 9, "severityText": "INFO",
     "body": "…", "attributes.KEY": …, "traceId": "…", "spanId": "…", "resource.KEY": …,
     "scope.name": "…", "scope.version": "…", "scope.attributes.KEY": …}

What is not set is not there, but for the first. An attribute of several values is a list, one of
keys and values an object; bytes are `{"bytesValue": BASE64}` and a number that JSON has no word for
`{"doubleValue": "NaN"}`. A key that is there twice is twice in the line.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring as quoted
from typing import TYPE_CHECKING, Any, NamedTuple

from etl.errors import EtlError, UsageError

if TYPE_CHECKING:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

__all__ = ["BadRecords", "Exported", "TooMuch", "read_json", "read_protobuf"]

IDS = ("traceId", "spanId")
"""Hexadecimal in OTLP/JSON; protobuf's own JSON has base64 there."""


class BadRecords(EtlError):
    """The request is not one of OTLP."""


class TooMuch(EtlError):
    """The lines of the request are too long; send fewer records in a request."""


class Exported(NamedTuple):
    """The records of a request.

    Attributes:
        text: A line each.
        rejected: How many records are not among them, as their lines would be too long.
    """

    text: bytes
    rejected: int


def read_protobuf(data: bytes, *, max_line: int, max_text: int) -> Exported:
    """Return the records of a request in protobuf.

    Args:
        data: The request, an `ExportLogsServiceRequest`.
        max_line: Bytes of a line.
        max_text: Bytes of all lines.

    Raises:
        BadRecords: If it cannot be read.
        TooMuch: If there is more text: what is said once in a request is in each line.
        UsageError: If what reads it is not installed.
    """
    request = _request()
    from google.protobuf.message import DecodeError

    try:
        request.ParseFromString(data)
    except DecodeError as error:
        raise BadRecords(f"the body is not an ExportLogsServiceRequest: {error}") from error
    return _exported(request, max_line=max_line, max_text=max_text)


def read_json(data: bytes, *, max_line: int, max_text: int) -> Exported:
    """Return the records of a request in OTLP/JSON; see `read_protobuf`."""
    request = _request()
    from google.protobuf.json_format import ParseDict, ParseError

    try:
        found = json.loads(data)
        for record in _records(found):
            _prepare(record)
        ParseDict(found, request, ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        why = str(error).split("\n", maxsplit=1)[0][:200]
        raise BadRecords(f"the body is not an ExportLogsServiceRequest in JSON: {why}") from error
    return _exported(request, max_line=max_line, max_text=max_text)


def _request() -> ExportLogsServiceRequest:
    try:
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
    except ModuleNotFoundError as error:
        raise UsageError("OTLP needs more packages; run: pip install -e '.[otlp]'") from error
    return logs_service_pb2.ExportLogsServiceRequest()


def _records(found: Any) -> Iterator[dict[str, Any]]:
    """Yield the records of a request in JSON."""
    for resource in found.get("resourceLogs") or ():
        for scope in resource.get("scopeLogs") or ():
            yield from scope.get("logRecords") or ()


def _prepare(record: dict[str, Any]) -> None:
    """Turn hexadecimal ids into base64, as protobuf reads them; check what it would pass over."""
    for name in IDS:
        if text := record.get(name):
            record[name] = base64.b64encode(binascii.unhexlify(text)).decode()
    values = [record.get("body"), *(one.get("value") for one in record.get("attributes") or ())]
    for value in values:
        if not isinstance(value, dict | None):
            raise TypeError(f'{value!r} is no value; send {{"stringValue": "…"}} or the like')


def _exported(request: ExportLogsServiceRequest, *, max_line: int, max_text: int) -> Exported:
    lines: list[str] = []
    size = rejected = 0
    keys = _Keys()
    for of_resource in request.resource_logs:
        resource = _resource(of_resource.resource, of_resource.schema_url)
        for of_scope in of_resource.scope_logs:
            end = resource + _scope(of_scope.scope, of_scope.schema_url) + "}\n"
            for record in of_scope.log_records:
                line = _line(record, keys) + end
                length = len(line) if line.isascii() else len(line.encode())
                if length > max_line:
                    rejected += 1
                    continue
                size += length
                if size > max_text:
                    raise TooMuch(
                        f"the lines of these records are longer than {max_text:,} bytes, with the "
                        "resource and the scope in each; send fewer records in a request"
                    )
                lines.append(line)
    return Exported("".join(lines).encode(), rejected)


class _Keys(dict[str, str]):
    """Keys of attributes, as they are in a line."""

    def __missing__(self, key: str) -> str:
        text = self[key] = f"{quoted(f'attributes.{key}')}:"
        return text


def _line(record: LogRecord, keys: _Keys) -> str:
    """Return the beginning of a record's line."""
    parts = [f'{{"timeUnixNano":"{record.time_unix_nano}"']
    if nanos := record.observed_time_unix_nano:
        parts.append(f'"observedTimeUnixNano":"{nanos}"')
    if number := record.severity_number:
        parts.append(f'"severityNumber":{number}')
    if text := record.severity_text:
        parts.append(f'"severityText":{quoted(text)}')
    body = record.body
    if text := body.string_value:  # mostly it is, and `_value` takes twice as long
        parts.append(f'"body":{quoted(text)}')
    elif record.HasField("body"):
        parts.append(f'"body":{_value(body)}')
    for one in record.attributes:
        value = one.value
        text = value.string_value
        parts.append(keys[one.key] + (quoted(text) if text else _value(value)))
    return ",".join(parts) + _end(record)


def _end(record: LogRecord) -> str:
    """Return what of a record comes after its attributes."""
    text = ""
    if trace := record.trace_id:
        text += f',"traceId":"{trace.hex()}"'
    if span := record.span_id:
        text += f',"spanId":"{span.hex()}"'
    if flags := record.flags:
        text += f',"flags":{flags}'
    if name := record.event_name:
        text += f',"eventName":{quoted(name)}'
    if count := record.dropped_attributes_count:
        text += f',"droppedAttributesCount":{count}'
    return text


def _resource(resource: Resource, schema: str) -> str:
    more: dict[str, Any] = {}
    if resource.entity_refs:
        from google.protobuf.json_format import MessageToDict

        more["entityRefs"] = [MessageToDict(one) for one in resource.entity_refs]
    more |= {"droppedAttributesCount": resource.dropped_attributes_count, "schemaUrl": schema}
    return _pairs("resource.", resource.attributes) + _more("resource.", more)


def _scope(scope: InstrumentationScope, schema: str) -> str:
    more = {
        "name": scope.name,
        "version": scope.version,
        "droppedAttributesCount": scope.dropped_attributes_count,
        "schemaUrl": schema,
    }
    return _more("scope.", more) + _pairs("scope.attributes.", scope.attributes)


def _pairs(prefix: str, attributes: Iterable[KeyValue]) -> str:
    return "".join(f",{quoted(prefix + one.key)}:{_value(one.value)}" for one in attributes)


def _more(prefix: str, values: dict[str, Any]) -> str:
    """Return what is set of some values."""
    return "".join(
        f",{quoted(prefix + name)}:{json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
        if value
    )


def _value(value: AnyValue) -> str:
    """Return a value as JSON."""
    match value.WhichOneof("value"):
        case "string_value":
            text = quoted(value.string_value)
        case "int_value":
            text = str(value.int_value)
        case "bool_value":
            text = "true" if value.bool_value else "false"
        case "double_value":
            text = _double(value.double_value)
        case "bytes_value":
            text = f'{{"bytesValue":"{base64.b64encode(value.bytes_value).decode()}"}}'
        case "array_value":
            text = f"[{','.join(map(_value, value.array_value.values))}]"
        case "kvlist_value":
            pairs = (f"{quoted(one.key)}:{_value(one.value)}" for one in value.kvlist_value.values)
            text = f"{{{','.join(pairs)}}}"
        case _:
            text = "null"
    return text


def _double(number: float) -> str:
    if math.isfinite(number):
        return repr(number)
    name = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return f'{{"doubleValue":"{name}"}}'
