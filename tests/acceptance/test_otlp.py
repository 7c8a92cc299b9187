"""`POST /v1/logs` with the exporter of OpenTelemetry's SDK."""

from __future__ import annotations

import gzip
from contextlib import contextmanager

import httpx
from google.rpc.status_pb2 import Status
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as service
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from etl import Worker
from etl.default import pipeline

PROTOBUF = {"content-type": "application/x-protobuf"}


@contextmanager
def serving(site, *options):
    """Start a server; give its process and URL."""
    with (site.folder / "serve.log").open("w") as log:
        server = site.start("serve", "--port", 0, *options, stderr=log)
        url = server.stdout.readline().split()[-1]
        yield server, url


@contextmanager
def exporting(url, compression, *, batch=512):
    """Give a logger that exports to a server, all of it by the end of the block."""
    exporter = OTLPLogExporter(f"{url}/v1/logs", compression=compression)
    provider = LoggerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_log_record_processor(
        BatchLogRecordProcessor(exporter, max_queue_size=20_000, max_export_batch_size=batch)
    )
    yield provider.get_logger("shop.orders", "1.2")
    provider.shutdown()


def records(count):
    return [
        LogRecord(
            timestamp=1_764_201_600_000_000_000 + number,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body=f"order {number}\nis late",
            attributes={"order": number, "vip": number % 2 == 0},
        )
        for number in range(count)
    ]


def test_what_the_sdk_exports_is_there_once_also_if_the_queue_was_full(site):
    count = 1_000
    with serving(site, "--max-lines", 2 * count) as (server, url):
        for compression in (Compression.NoCompression, Compression.Gzip):
            with exporting(url, compression) as logger:
                for record in records(count):
                    logger.emit(record)
        assert site.queue.stats().waiting == 2 * count  # durable once they are answered
        answer = httpx.post(f"{url}/v1/logs", content=request_of("a"), headers=PROTOBUF)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert "its limit" in Status.FromString(answer.content).message
        with exporting(url, Compression.Gzip) as logger:  # which tries again by the end of it
            logger.emit(records(1)[0])
            Worker(site.queue, pipeline, name="w", out=site.out).drain()
        assert site.queue.stats().accepted == 2 * count + 1
        site.kill(server)
    Worker(site.queue, pipeline, name="w", out=site.out).drain()
    site.settled(done=2 * count + 1)
    rows = site.rows()
    assert set(rows["format"]) == {"otlp"}
    assert set(rows["source"]) == {"otlp"}
    assert sorted(rows["attributes.order"]) == sorted([*range(count), *range(count), 0])
    assert set(rows["resource.service.name"]) == {"shop"}
    assert set(rows["level"]) == {"WARNING"}
    assert set(rows["logger"]) == {"shop.orders"}
    assert set(rows["message"]) == {f"order {number}\nis late" for number in range(count)}
    assert set(rows["timeUnixNano"]) == {1_764_201_600_000_000_000 + one for one in range(count)}


def request_of(*bodies):
    made = service.ExportLogsServiceRequest()
    of_scope = made.resource_logs.add().scope_logs.add()
    for body in bodies:
        of_scope.log_records.add().body.string_value = body
    return made.SerializeToString()


def test_answers_are_those_of_otlp(site):
    with serving(site) as (server, url), httpx.Client(base_url=url, trust_env=False) as client:

        def post(content, kind="application/x-protobuf", **headers):
            given = {"content-type": kind} | headers
            return client.post("/v1/logs", content=content, headers=given)

        stored = post(request_of("a"))
        assert (stored.status_code, stored.content) == (200, b"")
        assert stored.headers["content-type"] == "application/x-protobuf"
        assert post(b"").status_code == 200  # an empty request is none that fails
        in_json = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"b"}}]}]}]}'
        stored = post(
            gzip.compress(in_json.encode()), "application/json", **{"content-encoding": "gzip"}
        )
        assert (stored.status_code, stored.json()) == (200, {})

        part = post(request_of("c", "x" * (1 << 20)))
        answer = service.ExportLogsServiceResponse.FromString(part.content)
        assert part.status_code == 200
        assert answer.partial_success.rejected_log_records == 1
        assert "longer than 1,048,576 bytes" in answer.partial_success.error_message

        bad = post(b"\xff\xff")
        assert bad.status_code == 400
        assert "ExportLogsServiceRequest" in Status.FromString(bad.content).message
        bad = post(b"{", "application/json")
        assert bad.status_code == 400
        assert "ExportLogsServiceRequest" in bad.json()["message"]
        assert post(b"a", "text/plain").status_code == 415
        broken = post(b"\x1f\x8b", **{"content-encoding": "gzip"})
        assert broken.status_code == 400
        assert "ends before" in Status.FromString(broken.content).message
        long = post(bytes((20 << 20) + 1))
        assert long.status_code == 413
        assert "20,971,520 bytes" in Status.FromString(long.content).message

        client.post("/drain")
        away = post(request_of("d"))
        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
        assert site.queue.stats().accepted == 3
        site.end(server)
