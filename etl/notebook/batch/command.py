"""What `etl batch` does: a notebook and a report per batch, and one page over many.

    run_batch(["app.log"], ["max_dead=0"], out=Path("today"))
    run_each(["logs/*.gz"], [], out=Path("today"), jobs=2)

Each batch of many is a process of its own: one that ends badly takes no other
along, and Ctrl-C reaches all of them.
"""

from __future__ import annotations

import glob
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from etl.errors import BatchFailed, EtlError, GateFailed, UsageError
from etl.filesystem import DISK
from etl.notebook.batch.batch import finished_before, locate, samples, store_in
from etl.notebook.batch.execute import execute
from etl.notebook.batch.parameters import DEFAULTS, check_limits, parse, read_options
from etl.notebook.batch.report import COUNTS, write_report, write_summary
from etl.notebook.shipped import find_notebook
from etl.pipeline.load import load_pipeline
from etl.queue.urls import without_secrets
from etl.runs.registry import find, make_folder, place_of, read
from etl.sources.files import FileSource
from etl.sources.resolve import resolve_sources
from etl.sources.stream import StreamSource
from etl.text import clock

__all__ = ["run_batch", "run_each"]

NOTEBOOK = "02_batch_run"

EXIT_STATES = dict(enumerate(("finished", "failed", "refused", "gate")))
"""What the exit code of a batch means; any other one: it was killed."""


def run_batch(
    sources: Sequence[str],
    texts: Sequence[str],
    *,
    out: Path | None,
    watching: Callable[[str], AbstractContextManager[None]] = lambda _url: nullcontext(),
) -> dict[str, str]:
    """Run one batch in a notebook, and write its report, whether it fails or not.

    Args:
        sources: Files, globs or folders; none for the sample logs.
        texts: Parameters of the notebook as `name=value`.
        out: The batch's folder; by default a new one below data/runs.
        watching: Given the store's URL, what to do while the notebook runs.

    Returns:
        `run`, `notebook`, `report`.

    Raises:
        UsageError: If a parameter cannot be used, or a source or the pipeline is not there.
        GateFailed: If a gate was not passed.
        BatchFailed: If the notebook failed.
    """
    notebook = find_notebook(NOTEBOOK)
    given, store = _given(sources, texts, out)
    folder = Path(given["out"])
    finished_before(given["run_id"], _sources(given), store)  # refuses what would mix two runs
    _make(folder)
    executed, page = folder / "run.ipynb", folder / "report.html"
    problem: EtlError | None = None
    try:
        with watching(store):
            execute(notebook, executed, given)
    except (GateFailed, BatchFailed) as error:
        problem = error
    write_report(executed, page, _about(given, problem))
    if problem:
        raise type(problem)(f"{problem}; report: {page}") from problem
    return {"run": given["run_id"], "notebook": str(executed), "report": str(page)}


def run_each(
    patterns: Sequence[str], texts: Sequence[str], *, out: Path, jobs: int
) -> list[dict[str, Any]]:
    """Run one batch per file, each in a folder below `out`, and write a summary over all.

    The summary is `summary.html` and `summary.json` in `out`.

    Args:
        patterns: Files, globs or folders.
        texts: Parameters of each, as `name=value`.
        out: Folder of all.
        jobs: How many at a time.

    Returns:
        A dict per file, with `file`, `folder`, `code` (its exit code), `state`,
        `error`, `seconds`, and the `accepted`, `done`, `filtered`, `dead` lines.

    Raises:
        UsageError: If a pattern matches nothing, or two files would share a folder.
    """
    check_limits(parse(texts))
    files = _folders(patterns)
    _make(out)
    running: set[subprocess.Popen[str]] = set()
    one = partial(_run_one, texts=texts, out=out, running=running)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            batches = list(pool.map(one, files.values(), files))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.send_signal(signal.SIGINT)
            raise
    DISK.make_file(out / "summary.json").write_text(json.dumps(batches, indent=1), encoding="utf-8")
    write_summary(out / "summary.html", batches)
    return batches


def _given(
    sources: Sequence[str], texts: Sequence[str], out: Path | None
) -> tuple[dict[str, Any], str]:
    """Return all parameters of a batch and its store; nothing is started before they fit."""
    given = dict(DEFAULTS) | parse(texts)
    given |= {"source": list(sources)} if sources else {}
    given |= {"out": str(out)} if out else {}
    check_limits(given)
    options = read_options(given)
    given["format"] = options.format or ""
    found = resolve_sources(_sources(given), options)
    if any(isinstance(one, StreamSource) for one in found):
        raise UsageError("a batch reads files, so that it can be started again; etl run reads -")
    load_pipeline(given["pipeline"])
    if given["store"] != without_secrets(given["store"]):
        os.environ["ETL_STORE"] = given["store"]  # the notebook is kept, the password is not
        given["store"] = without_secrets(given["store"])
    run_id, folder, store = locate(given["run_id"], given["out"], given["store"])
    return given | {"run_id": run_id, "out": str(folder)}, store


def _make(folder: Path) -> None:
    probe = folder / ".etl-probe"
    try:
        make_folder(folder)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"nothing can be written below {str(folder)!r}: {error.strerror}; name another --out"
        ) from error


def _sources(given: Mapping[str, Any]) -> list[str]:
    source = given["source"] or samples()
    return [source] if isinstance(source, str) else list(source)


def _about(given: Mapping[str, Any], problem: EtlError | None) -> dict[str, Any]:
    """Return what a report's head and foot show."""
    record = read(place_of(given["run_id"])) or {}
    names = [Path(one).name or one for one in _sources(given)]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    start, end = record.get("started_at"), record.get("ended_at")
    facts = {
        "run": given["run_id"],
        "started": f"{clock(start)} UTC" if start else "",
        "took": f"{end - start:,.1f} s" if start and end else "",
        "pipeline": f"{given['pipeline']} · {record.get('version', '')}",
        "output": str(Path(given["out"], "out")),
    }
    failed = "gate" if isinstance(problem, GateFailed) else "failed"
    gates = record.get("gates") or [] if failed == "gate" else []
    versions = (f"{name} {record.get(name.lower(), '')}" for name in ("etl", "Python", "Polars"))
    return {
        "title": ", ".join(names[:4]) + more,
        "state": failed if problem else "finished",
        "error": str(problem or "").partition(". ")[2] if gates else str(problem or ""),
        "gates": [
            f"{one['gate']}: {one['value']}, not {one['limit']}"
            for one in gates
            if not one["passed"]
        ],
        "facts": [(name, value) for name, value in facts.items() if value],
        "parameters": [
            (name, value if isinstance(value, str) else json.dumps(value))
            for name, value in given.items()
            if value != ""
        ],
        "footer": " · ".join([*versions, str(record.get("host", ""))]),
    }


def _folders(patterns: Sequence[str]) -> dict[str, Path]:
    """Return the files by the name of their folders: the same however many files there are."""
    found: dict[str, Path] = {}
    for pattern in patterns:
        fixed = Path(pattern)
        while glob.has_magic(str(fixed)):
            fixed = fixed.parent
        top = fixed if fixed.is_dir() else fixed.parent
        for source in resolve_sources([pattern]):
            if not isinstance(source, FileSource):
                raise UsageError(f"{pattern!r} is no file; a batch of its own needs one")
            name = "~".join(source.path.relative_to(top).parts)
            if found.setdefault(name, source.path) != source.path:
                raise UsageError(
                    f"{str(found[name])!r} and {str(source.path)!r} would share the folder "
                    f"{name!r}; run them with an --out each"
                )
    return found


def _run_one(
    file: Path, name: str, *, texts: Sequence[str], out: Path, running: set[subprocess.Popen[str]]
) -> dict[str, Any]:
    folder = out / name
    command = [sys.executable, "-m", "etl", "batch", str(file), "--out", str(folder)]
    command += [word for text in texts for word in ("-p", text)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    running.add(process)
    _, errors = process.communicate()
    running.discard(process)
    code, lines = process.returncode, errors.strip().splitlines()
    record = find(store_in(folder), kind="batch") or {}
    counts = record.get("counts") or {}
    return {
        "file": str(file),
        "folder": name,
        "run": record.get("run"),
        "code": code,
        "state": EXIT_STATES.get(code, "killed"),
        "error": lines[-1].removeprefix("etl: ") if code and lines else "",
        "seconds": round(record["ended_at"] - record["started_at"], 3) if counts else None,
        **{key: counts.get(key) for key in COUNTS},
    }
