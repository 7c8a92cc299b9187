"""The files that start etl in containers hold together. They are read, not run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if name != "db"}
SECRETS = {"ETL_TOKEN": "y", "PGPASSWORD": "z"}


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"env": os.environ | SECRETS | environment, "capture_output": True, "text": True}
    return subprocess.run([str(word) for word in command], check=False, **given)


def has_compose() -> bool:
    return bool(shutil.which("docker")) and run("docker", "compose", "version").returncode == 0


def strings(value: object) -> Iterator[str]:
    """Yield all texts in a part of the file."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


@pytest.mark.skipif(not has_compose(), reason="there is no docker compose to ask")
def test_docker_compose_finds_nothing_wrong():
    done = run("docker", "compose", "-f", ROOT / "compose.yaml", "config", "--quiet")
    assert done.returncode == 0, done.stderr


def test_there_are_two_workers_a_server_and_a_lab_on_one_store():
    assert set(SERVICES) == {"db", "store", "worker", "server", "lab"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    stores = {one["environment"]["ETL_STORE"] for one in OURS.values()}
    assert stores == {SERVICES["store"]["command"][-1]} == {"postgresql://db/etl"}


def test_the_database_is_made_once_it_answers_and_all_wait_for_that():
    assert SERVICES["store"]["command"][:2] == ["store", "init"]
    assert SERVICES["store"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    for name in set(OURS) - {"store"}:
        waits = SERVICES[name]["depends_on"]
        assert waits == {"store": {"condition": "service_completed_successfully"}}


def test_all_start_again_but_for_the_service_that_is_run_once():
    policies = {name: one["restart"] for name, one in SERVICES.items()}
    assert policies.pop("store") == "no"
    assert set(policies.values()) == {"unless-stopped"}


@pytest.mark.parametrize("name", ["db", "server", "lab"])
def test_who_is_asked_by_others_has_a_healthcheck(name):
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check["retries"] > 1
    if check["test"][1:3] == ["python", "-c"]:
        compile(check["test"][3], name, "exec")


@pytest.mark.parametrize("name", [name for name, one in OURS.items() if "command" in one])
def test_every_command_has_options_that_exist(name, parse_command):
    assert DOCKERFILE.count('ENTRYPOINT ["etl"]') == 1
    parse_command(SERVICES[name]["command"])


def test_the_version_of_postgresql_is_pinned_and_its_pages_have_checksums():
    image, version = SERVICES["db"]["image"].split(":")
    (volume,) = SERVICES["db"]["volumes"]
    assert image == "postgres"
    assert 13 <= int(version) < 18, "from 18 on, the image keeps its data elsewhere"
    assert volume == "database:/var/lib/postgresql/data"
    assert "--data-checksums" in SERVICES["db"]["environment"]["POSTGRES_INITDB_ARGS"]


def test_every_volume_is_declared():
    used = [volume.split(":")[0] for one in SERVICES.values() for volume in one.get("volumes", ())]
    named = {volume for volume in used if not volume.startswith(".")}
    assert named == set(COMPOSE["volumes"]) == {"database", "output"}


def test_all_see_the_logs_and_the_output_at_the_same_paths_and_nobody_changes_the_logs():
    for one in OURS.values():
        assert one["volumes"] == ["./logs:/logs:ro", "output:/data"]
    assert SERVICES["worker"]["command"][-1].startswith("/data/")
    assert 'VOLUME ["/data", "/logs"]' in DOCKERFILE


def test_only_this_machine_reaches_the_ports_and_nobody_the_database():
    ports = [port for one in SERVICES.values() for port in one.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "ports" not in SERVICES["db"]


def test_every_secret_comes_from_the_environment_and_is_asked_for_if_it_is_not_there():
    asked = [text for text in strings(SERVICES) if "$" in text]
    names = {re.fullmatch(r"\$\{(\w+):\?write it into \.env\}", text)[1] for text in asked}
    assert names == set(SECRETS)
    written = re.search(r"printf '(.*)'", TEXT)[1]
    assert set(re.findall(r"([A-Z]\w*)=%s", written)) == names


def test_no_password_stands_in_a_url():
    urls = [text for text in strings(SERVICES) if "://" in text]
    assert urls
    assert [url for url in urls if "@" in url or "password" in url] == []


def test_the_file_with_the_secrets_is_not_committed():
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_image_is_made_of_files_that_are_there():
    lines = re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE)
    copied = [ROOT / word for line in lines for word in line.split()]
    assert copied
    assert [path for path in copied if not path.exists()] == []
