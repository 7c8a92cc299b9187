"""What the README and the pages in docs/ say works."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.main import get_command

from etl.cli.app import app
from etl.server.security import OPEN_PATHS
from etl.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT / "docs").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(ROOT.glob("docs/**/*.md"))
}
GUIDES = ("tutorial.md", "howto/")
TEXT = "\n".join([README, *PAGES.values()])
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
CODE = "".join(text for language, text in BLOCKS if language in {"", "sh", "bash"})
CALLS = sorted(set(re.findall(r"^(?:.*\| )?(?:\.venv/bin/)?(etl [a-z].*)$", CODE, re.MULTILINE)))


def block(language: str, having: str) -> str:
    """Return the one block of code of a language in which a text stands, but for the guides."""
    text = "\n".join([README, *(PAGES[name] for name in PAGES if not name.startswith(GUIDES))])
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    (found,) = [one for one in blocks if having in one]
    return found


def execute(code: str) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(code, "docs", "exec"), names)  # noqa: S102
    return names


def test_the_readme_is_short_and_opens_with_what_it_is_for():
    assert len(README.splitlines()) < 250
    opening = README.split("## In 30 seconds")[0]
    assert "For data engineers and SREs" in opening
    assert "What it is not:" in opening


def test_the_output_of_several_formats_is_read_as_the_readme_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logs = [str(ROOT / "data" / name) for name in ("python_app.log", "service.jsonl", "dpkg.log")]
    names = execute(block("python", "result.output()").replace('"app.log"', repr(logs)))
    assert names["lines"].height == names["result"].counts["done"]
    assert {"timestamp", "level", "package", "request_id"} <= set(names["lines"].columns)


def test_the_pipeline_of_the_readme_runs(etl, tmp_path):
    (tmp_path / "shop.py").write_text(block("python", "# shop.py"), encoding="utf-8")
    (tmp_path / "app.log").write_text("2026-01-01 10:00:00,000 ERROR shop: total=12\n")
    done = etl("run", "app.log", "--pipeline", "shop.py:pipeline", "--store", "s.db", "--json")
    assert json.loads(done.stdout)["done"] == 1, done.stderr
    assert len(list((tmp_path / "out" / "orders").glob("*.parquet"))) == 1


def test_the_tests_of_the_docs_pass(tmp_path):
    (tmp_path / "shop.py").write_text(block("python", "# shop.py"), encoding="utf-8")
    (tmp_path / "test_shop.py").write_text(block("python", "# test_shop.py"), encoding="utf-8")
    (tmp_path / "shop.etl.toml").write_text(block("toml", "[[case]]"), encoding="utf-8")
    (tmp_path / "app.log").write_text("2026-01-01 10:00:00,000 ERROR shop: total=12\n")
    command = [sys.executable, "-m", "pytest", "-p", "etl.testing.pytest_plugin"]
    command += ["-o", "pythonpath=.", "-q", "--etl-update-golden"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "app.golden.jsonl").exists()


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = block("python", "store.dead_letters.groups()")
    names = execute(
        code.replace("store.pause()", "while not store.status.idle: pass\nstore.pause()")
    )
    assert names["store"].status.accepted == 2
    names["store"].close()


def test_the_analysis_of_the_docs_runs(etl, tmp_path, monkeypatch, capsys):
    for day in ("yesterday", "today"):
        etl("run", ROOT / "data" / "redis.log", "--store", f"{day}/store.db", "--workers", "1")
    monkeypatch.chdir(tmp_path)
    names = execute(block("python", "etl.compare"))
    assert "No failure is new." in capsys.readouterr().out
    assert names["found"]["text"].notna().all()
    assert names["news"].empty
    names["store"].close()


@pytest.mark.parametrize("call", CALLS)
def test_every_call_in_the_docs_names_commands_and_options_that_exist(call):
    words = shlex.split(call.split("#")[0].split(";")[0])
    root = command = get_command(app)
    known = {"--help"}
    for word in words[1:]:
        command = getattr(command, "commands", {}).get(word, command)
    known |= {option for one in command.params for option in one.opts}
    assert command is not root, f"no command in {call!r}"
    assert {word for word in words if word.startswith("--")} <= known


def recipes(language: str) -> list[str]:
    """Return the blocks of a language in the recipes for many machines."""
    section = PAGES["many_machines.md"].split("\n## Recipes\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def etl_calls(text: str) -> list[list[str]]:
    """Return the words after each `etl`, with a number for what the shell puts in."""
    found = re.findall(r"(?<![-\w.])etl ([a-z][^'\n#;]*)", text)
    return [shlex.split(re.sub(r'"?\$\{?\w+\}?"?', "1", call)) for call in found]


def test_the_unit_for_systemd_is_whole(parse_command, tmp_path):
    (text,) = recipes("ini")
    unit = configparser.ConfigParser(delimiters="=", interpolation=None)
    unit.optionxform = str
    unit.read_string(text)
    assert unit.sections() == ["Unit", "Service", "Install"]
    service = unit["Service"]
    (call,) = etl_calls(service["ExecStart"])
    parse_command(call)
    assert call[call.index("--out") + 1] == service["ReadWritePaths"]
    assert f"%d/{service['LoadCredential'].split(':')[0]}" in service["ExecStart"]
    if shutil.which("systemd-analyze"):
        instance = tmp_path / "etl-work@1.service"
        instance.write_text(text)
        command = ["systemd-analyze", "verify", str(instance)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert [line for line in done.stderr.splitlines() if instance.name in line] == []


def test_the_manifests_for_kubernetes_are_whole(parse_command):
    deployment, server = map(yaml.safe_load, recipes("yaml"))
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}
    assert container["readinessProbe"]["exec"]["command"][0] == "etl"
    parse_command(container["readinessProbe"]["exec"]["command"][1:])
    for one in (container, server):
        parse_command(one["args"])
        assert all(("value" in name) != ("valueFrom" in name) for name in one["env"])
    probe = server["readinessProbe"]["httpGet"]
    assert probe["port"] == server["ports"][0]["containerPort"] == Settings.server_port
    assert probe["path"] in OPEN_PATHS


def test_the_job_for_slurm_is_a_script_that_becomes_the_worker(parse_command):
    (text,) = recipes("bash")
    checked = subprocess.run(["bash", "-n"], input=text, text=True, check=False)
    assert checked.returncode == 0
    *_, last = text.splitlines()
    assert last.startswith("exec etl ")
    (call,) = etl_calls(last)
    parse_command(call)
    options = re.findall(r"(?<= )--[a-z-]+(?==)", "".join(re.findall("#SBATCH.*", text)))
    assert {"--array", "--signal", "--time", "--cpus-per-task"} <= set(options)


def test_no_password_stands_in_a_recipe():
    text = "".join(recipes(r"\w+"))
    urls = re.findall(r"\w+://\S+", text)
    assert urls
    assert [url for url in urls if "@" in url or "password" in url] == []


def test_every_command_is_in_the_readme():
    missing = [name for name in get_command(app).commands if f"`etl {name}" not in README]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one).strip().lower().replace(" ", "-") for one in headings}


def test_every_link_of_the_docs_leads_to_a_file_and_a_heading():
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    pages += [ROOT / "docs" / name for name in PAGES]
    missing = []
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", text):
            target = (page.parent / link) if link else page
            if not target.exists() or (
                anchor and not anchor.startswith("etl.") and anchor not in anchors(target)
            ):
                missing.append((page.name, link, anchor))
    assert missing == []


def test_every_link_to_another_host_is_encrypted():
    links = re.findall(r"\]\((\w+:[^)]+)\)", TEXT)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_animated_picture_of_the_readme_is_small():
    with Image.open(ROOT / "docs" / "pictures" / "control_room.webp") as picture:
        assert picture.is_animated
    assert "docs/pictures/control_room.webp" in README
    files = [path for path in (ROOT / "docs").rglob("*") if path.suffix in {".png", ".webp"}]
    assert [path.name for path in files if path.stat().st_size > 1_500_000] == []
    shown = {Path(link).name for link in re.findall(r"!\[[^]]+\]\(([^)]+)\)", TEXT)}
    assert shown == {path.name for path in files}, "each is shown, and there is one for each"


def test_every_test_that_the_docs_name_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)
    assert named
    missing = [
        (path, name)
        for path, name in named
        if not (ROOT / path).exists() or f"def {name}" not in (ROOT / path).read_text("utf-8")
    ]
    assert missing == []
