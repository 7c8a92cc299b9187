"""Where lines come from, and how far each source was read.

A source yields batches with the position after each; putting both in one
transaction is what makes a killed run go on where it was. A plain file is
queued by reference (byte ranges of it), anything else by content. Not here:
what the lines mean (`formats`).
"""

from etl.sources.files import FileSource
from etl.sources.follow import FollowSource
from etl.sources.ingest import ingest
from etl.sources.resolve import Source, resolve_sources
from etl.sources.stream import StreamSource

__all__ = ["FileSource", "FollowSource", "Source", "StreamSource", "ingest", "resolve_sources"]
