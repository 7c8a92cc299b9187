"""What the README says works."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from etl.cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TOML = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
CALLS = sorted(set(re.findall(r"^(?:.*\| )?(?:\.venv/bin/)?(etl [a-z].*)$", README, re.MULTILINE)))


def test_the_output_of_several_formats_is_read_as_the_readme_says(etl, tmp_path):
    logs = [ROOT / "data" / name for name in ("python_app.log", "service.jsonl", "dpkg.log")]
    done = json.loads(etl("run", *logs, "--store", "s.db", "--json").stdout)
    code = PYTHON[0].replace("data/runs/<run>/out", done["out"])
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102
    assert names["lines"].height == done["done"]
    assert {"timestamp", "level", "package", "request_id"} <= set(names["lines"].columns)


def test_the_pipeline_of_the_readme_runs(etl, tmp_path):
    (tmp_path / "shop.py").write_text(PYTHON[1], encoding="utf-8")
    (tmp_path / "app.log").write_text("2026-01-01 10:00:00,000 ERROR shop: total=12\n")
    done = etl("run", "app.log", "--pipeline", "shop.py:pipeline", "--store", "s.db", "--json")
    assert '"done": 1' in done.stdout, done.stderr
    assert len(list((tmp_path / "out" / "orders").glob("*.parquet"))) == 1


def test_the_tests_of_the_readme_pass(tmp_path):
    (tmp_path / "shop.py").write_text(PYTHON[1], encoding="utf-8")
    (tmp_path / "test_shop.py").write_text(PYTHON[2], encoding="utf-8")
    (tmp_path / "shop.etl.toml").write_text(TOML[0], encoding="utf-8")
    (tmp_path / "app.log").write_text("2026-01-01 10:00:00,000 ERROR shop: total=12\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "etl.testing.pytest_plugin",
        "-o",
        "pythonpath=.",
    ]
    command += ["-q", "--etl-update-golden"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "app.golden.jsonl").exists()


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = PYTHON[3].replace("queue.pause()", "while not queue.stats().idle: pass\nqueue.pause()")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102
    assert names["queue"].stats().accepted == 2
    names["queue"].close()


def test_the_analysis_of_the_readme_runs(etl, tmp_path, monkeypatch, capsys):
    for day in ("yesterday", "today"):
        etl("run", ROOT / "data" / "redis.log", "--store", f"{day}/store.db", "--workers", "1")
    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in PYTHON if "etl.compare" in block]
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102
    assert "No failure is new." in capsys.readouterr().out
    assert names["found"]["text"].notna().all()
    assert names["news"].empty
    names["queue"].close()


@pytest.mark.parametrize("call", CALLS)
def test_every_call_in_the_readme_names_commands_and_options_that_exist(call):
    words = shlex.split(call.split("#")[0].split(";")[0])
    command, known = get_command(app), {"--help"}
    for word in words[1:]:
        command = getattr(command, "commands", {}).get(word, command)
    known |= {option for one in command.params for option in one.opts}
    assert command.name != "etl", f"no command in {call!r}"
    assert {word for word in words if word.startswith("--")} <= known


def test_every_command_is_in_the_readme():
    missing = [name for name in get_command(app).commands if f"`etl {name}" not in README]
    assert missing == []
