"""What the keys of JSON, logfmt and tables with heads mean: one table for all dialects.

Keys are compared without case, a blank as `_`; nested objects are flattened with dots before.
A key that fills no normal column stays a column of its own.
"""

__all__ = [
    "ALIASES", "COPIES", "DAYS", "DIALECTS", "INTEGERS", "KEYED_BY", "MESSAGES", "SECONDS",
    "STATUS", "TIME_KEY", "bare",
]  # fmt: skip

ALIASES = {  # normal column: the fields, groups and keys that fill it, first come first
    "timestamp": ["timestamp", "@timestamp", "ts", "time", "datetime", "asctime", "date"],
    "level": ["level", "severity", "levelname", "log.level", "loglevel", "lvl", "event_level"],
    "logger": ["logger", "logger_name", "log.logger", "name", "component"],
    "pid": ["pid", "process", "process_id", "process.pid"],
    "message": ["message", "msg", "event"],
}
DIALECTS = {  # the same for JSON, logfmt and tables with a head, behind those above
    "timestamp": [
        "@t", "t.$date", "_seconds", "__realtime_timestamp", "_source_realtime_timestamp",
        "eventtime", "event_time", "event.created", "timecreated", "timegenerated",
        "time_generated", "timestamp_ms", "timemillis", "logtime", "log_time", "log.time",
        "logged_at", "start_time", "requestreceivedtimestamp", "stagetimestamp", "time_iso8601",
        "time_local", "startlocal", "startutc", "receivetimestamp", "timeunixnano",
        "timestamp_iso", "isodate", "created", "created_at",
        "rt", "devtime", "date_time", "date-time", "start-date", "date_and_time", "when",
        "published", "calendartime", "unixtime", "t",
    ],
    "level": [
        "@l", "level_name", "log_level", "severitytext", "severity_text", "syslog_severity",
        "error_severity", "priority", "prio", "levelno", "severitynumber", "severity_number",
        "cef_severity", "sev", "log.severity", "event.severity", "loglevelname", "level_value",
        "entry_type", "leveltext", "nextcloud_level", "tags",
    ],
    "logger": [
        "loggername", "sourcecontext", "properties.sourcecontext", "category", "categoryname",
        "channel", "target", "syslog_identifier", "subsystem", "module", "log.name", "scope.name",
        "logger.name", "sourcename", "provider", "tag", "class",
    ],
    "pid": ["_pid", "syslog_pid", "processid", "procid", "process_pid", "properties.processid"],
    "message": [
        "@m", "@mt", "renderedmessage", "messagetemplate", "short_message", "textpayload",
        "fields.message", "jsonpayload.message", "jsonpayload.msg", "body", "body.stringvalue",
        "message_text", "output", "log", "text", "content", "description", "displaymessage",
        "cef_name", "eventmessage", "event_message", "full_message",
        "error.message", "err.message", "exception.message", "error",
    ],
}  # fmt: skip
MESSAGES = {*ALIASES["message"], *DIALECTS["message"]}
DAYS = {
    "date": ["date"],
    "year": ["year", "yyyy"],
    "month": ["month", "mon"],
    "day": ["day", "mday", "dayofmonth"],
}
"""Columns that say the day of a time of day, without case, blanks and marks."""
SECONDS = (  # log4j2's instant and others: seconds, and the nanoseconds beside them
    ("instant.epochsecond", "instant.nanoofsecond"),
    ("timestamp.seconds", "timestamp.nanos"),
    ("timestampseconds", "timestampnanos"),
    ("time.seconds", "time.nanos"),
)
COPIES = {"logger": ["app"]}
"""Columns that fill a normal one where nothing else does, and stay as they are."""
INTEGERS = ("status", "bytes", "tid", "connection")
KEYED_BY = {
    "t.$date": {"s": "level", "c": "logger"},
    "reqid": {"level": "nextcloud_level"},
}
"""Keys that mean something beside another: MongoDB's short ones, Nextcloud's numbers."""
STATUS = (
    "status", "sc-status", "status_code", "response_code", "http.response.status_code",
    "http_status", "statuscode", "httprequest.status",
)  # fmt: skip
"""Columns of an HTTP status, which is the level where nothing else is."""
TIME_KEY = r"(?:time|timestamp|date)(?:utc)?$"
"""Keys that hold a time where no key of the table is there."""


def bare(key: str) -> str:
    """Return a key as these tables have it: `_pid` for `field_PID`, `log_time` for `Log Time`."""
    key = key.lower().replace(" ", "_")
    return key.removeprefix("field") if key.startswith("field_") else key
