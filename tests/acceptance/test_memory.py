"""A file of any size goes through in little memory."""

from __future__ import annotations

from pathlib import Path

MAX_TEMPLATES = 500 << 20


def peaks(group):
    """Return the most memory in bytes that each process of a group has had so far, by its id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            text = (folder / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and "VmHWM:" in text:
            found[int(folder.name)] = int(text.partition("VmHWM:")[2].split()[0]) << 10
    return found


def test_a_large_file_needs_little_memory_in_any_process(site, until):
    part = (site.data / "nginx_access.log").read_bytes()
    log = site.folder / "large.log"
    copies = (200 << 20) // len(part) + 1
    with log.open("wb") as file:
        for _ in range(copies):
            file.write(part)
    process = site.start("run", log)
    most: dict[int, int] = {}

    def ended():
        most.update(peaks(process.pid))
        return process.poll() is not None

    until(ended, 120)
    site.ended(process)
    site.settled(done=copies * part.count(b"\n"))
    assert process.pid in most
    assert max(most.values()) < MAX_TEMPLATES, most
