"""What `etl batch` does: a notebook and a report per batch, and one page over many.

    run_batch(["app.log"], ["max_dead=0"], out=Path("today"))
    run_each(["logs/*.gz"], [], out=Path("today"), jobs=2)

Each batch of many is a process of its own: one that dies takes no other along,
and Ctrl-C reaches all of them.
"""

from __future__ import annotations

import glob
import html
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
from urllib.parse import quote

from etl.errors import BatchFailed, EtlError, GateFailed, UsageError
from etl.notebook.batch.batch import is_over, run_of, samples, store_in, with_secrets
from etl.notebook.batch.notebooks import (
    defaults_of,
    find_notebook,
    parameters,
    run_notebook,
    write_report,
)
from etl.pipeline.load import load_pipeline
from etl.queue.urls import without_secrets
from etl.runs.registry import find, place_of, read
from etl.settings import settings
from etl.sources.files import FileSource
from etl.sources.resolve import resolve_sources
from etl.text import clock

__all__ = ["BatchResult", "run_batch", "run_each"]

NOTEBOOK = "02_batch_run"


VERDICTS = {
    "finished": "passed",
    "gate": "quality gate failed",
    "failed": "failed",
    "killed": "killed",
    "refused": "refused",
}


STATES = {0: "finished", 1: "failed", 2: "refused", 3: "gate"}
"""What the exit code of a batch says."""


SEVERITY = ("finished", "gate", "refused", "failed", "killed")


COUNTS = ("accepted", "done", "filtered", "dead")


BatchResult = dict[str, Any]


def run_batch(
    sources: Sequence[str],
    texts: Sequence[str],
    *,
    out: Path | None,
    watching: Callable[[str], AbstractContextManager[None]] = lambda _url: nullcontext(),
) -> BatchResult:
    """Run one batch in a notebook, and write its report whatever becomes of it.

    Args:
        sources: Files, globs or folders; none for the sample logs.
        texts: Parameters of the notebook as `name=value`.
        out: The batch's folder; by default a new one below data/runs.
        watching: Given the store's URL, what to do while the notebook runs.

    Returns:
        `run`, `notebook`, `report` (str).

    Raises:
        UsageError: If a parameter, a source or the pipeline is not there.
        GateFailed: If a gate was not passed.
        BatchFailed: If the notebook failed.
    """
    notebook = find_notebook(NOTEBOOK)
    given = _given(sources, texts, out, defaults_of(notebook))
    store = with_secrets(given["store"]) or store_in(Path(given["out"]))
    is_over(given["run_id"], _sources(given), store)  # refuses what would mix two runs
    _make(Path(given["out"]))
    executed, page = Path(given["out"], "run.ipynb"), Path(given["out"], "report.html")
    problem: EtlError | None = None
    try:
        with watching(store):
            run_notebook(notebook, executed, given)
    except (GateFailed, BatchFailed) as error:
        problem = error
    write_report(executed, page, _about(given, problem))
    if problem:
        raise type(problem)(f"{problem}; report: {page}") from problem
    return {"run": given["run_id"], "notebook": str(executed), "report": str(page)}


def run_each(
    patterns: Sequence[str], texts: Sequence[str], *, out: Path, jobs: int
) -> list[BatchResult]:
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
        UsageError: If a pattern stands for nothing, or two files for one folder.
    """
    parameters(texts, defaults_of(find_notebook(NOTEBOOK)))
    files = _folders(patterns)
    _make(out)
    running: set[subprocess.Popen[str]] = set()
    one = partial(_run_one, texts=texts, out=out, running=running)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            outcomes = list(pool.map(one, files.values(), files))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.send_signal(signal.SIGINT)
            raise
    (out / "summary.json").write_text(json.dumps(outcomes, indent=1), encoding="utf-8")
    (out / "summary.html").write_text(_page(outcomes), encoding="utf-8")
    return outcomes


def _given(
    sources: Sequence[str], texts: Sequence[str], out: Path | None, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all parameters of a batch; a mistake in them is told before anything starts."""
    given = dict(defaults) | parameters(texts, defaults)
    given |= {"source": list(sources)} if sources else {}
    given |= {"out": str(out)} if out else {}
    found = resolve_sources(_sources(given), format=given["format"] or None)
    if not all(isinstance(one, FileSource) for one in found):
        raise UsageError("a batch reads files, so that it can be started again; etl run reads -")
    load_pipeline(given["pipeline"])
    if not 0 <= given["max_dead_ratio"] <= 1:
        raise UsageError(f"max_dead_ratio is {given['max_dead_ratio']}; give a share from 0 to 1")
    if given["store"] != without_secrets(given["store"]):
        os.environ["ETL_STORE"] = given["store"]  # the notebook is kept, the password is not
        given["store"] = without_secrets(given["store"])
    given["run_id"] = given["run_id"] or run_of(given["store"], given["out"])
    given["out"] = given["out"] or str(settings().runs / given["run_id"])
    return given


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".etl-probe").touch()
        (folder / ".etl-probe").unlink()
    except OSError as error:
        raise UsageError(
            f"nothing can be written below {str(folder)!r}: {error.strerror}; name another --out"
        ) from error


def _sources(given: Mapping[str, Any]) -> list[str]:
    source = given["source"] or samples()
    return [source] if isinstance(source, str) else list(source)


def _about(given: Mapping[str, Any], problem: EtlError | None) -> dict[str, Any]:
    """Return what a report's head and foot say."""
    record = read(place_of(given["run_id"])) or {}
    failed = "gate" if isinstance(problem, GateFailed) else "failed"
    state = failed if problem else "finished"
    names = [Path(one).name or one for one in _sources(given)]
    start, end = record.get("started_at"), record.get("ended_at")
    facts = {
        "run": given["run_id"],
        "started": f"{clock(start)} UTC" if start else "",
        "took": f"{end - start:,.1f} s" if start and end else "",
        "pipeline": f"{given['pipeline']} · {record.get('version', '')}",
        "output": str(Path(given["out"], "out")),
    }
    versions = (f"{name} {record.get(name.lower(), '')}" for name in ("etl", "Python", "Polars"))
    return {
        "title": ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else ""),
        "state": state,
        "verdict": VERDICTS[state],
        "error": str(problem or ""),
        "facts": [(name, value) for name, value in facts.items() if value],
        "parameters": [(name, _literal(value)) for name, value in given.items() if value != ""],
        "footer": " · ".join([*versions, str(record.get("host", ""))]),
    }


def _literal(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


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
) -> BatchResult:
    folder = out / name
    command = [sys.executable, "-m", "etl", "batch", str(file), "--out", str(folder)]
    command += [word for text in texts for word in ("-p", text)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    running.add(process)
    _, errors = process.communicate()
    running.discard(process)
    code = process.returncode
    record = find(store_in(folder), kind="batch") or {}
    counts = record.get("counts") or {}
    said = errors.strip().splitlines()
    return {
        "file": str(file),
        "folder": name,
        "run": record.get("run"),
        "code": code,
        "state": STATES.get(code, "killed"),
        "error": said[-1].removeprefix("etl: ") if code and said else "",
        "seconds": round(record["ended_at"] - record["started_at"], 3) if counts else None,
        **{key: counts.get(key) for key in COUNTS},
    }


def _page(outcomes: Sequence[BatchResult]) -> str:
    """Return the summary as a page, with a link to each report."""
    worst = max(outcomes, key=lambda one: SEVERITY.index(one["state"]))["state"]
    rows = []
    for one in outcomes:
        name, link = html.escape(one["file"]), f"{quote(one['folder'])}/report.html"
        shown_name = name if one["state"] == "refused" else f'<a href="{link}">{name}</a>'
        numbers = [*(one[key] for key in COUNTS), one["seconds"]]
        shown = ["" if value is None else f"{value:,}" for value in numbers]
        cells = "".join(f'<td style="text-align:right">{value}</td>' for value in shown)
        state = f'<span class="verdict {one["state"]}">{VERDICTS[one["state"]]}</span>'
        rows.append(
            f"<tr><td>{shown_name}</td><td>{state}</td>{cells}"
            f"<td>{html.escape(one['error'])}</td></tr>"
        )
    head = "".join(f'<th style="text-align:right">{name}</th>' for name in (*COUNTS, "seconds"))
    css = (Path(__file__).parent / "report_template" / "report.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Batches</title>'
        f'<style>{css}</style></head><body><header><p class="verdict {worst}">{VERDICTS[worst]}'
        f'</p><h1>{len(outcomes):,} batches</h1></header><div class="shown"><table><thead><tr>'
        '<th style="text-align:left">file</th><th style="text-align:left">state</th>'
        f'{head}<th style="text-align:left">why</th></tr></thead><tbody>{"".join(rows)}'
        "</tbody></table></div></body></html>\n"
    )
