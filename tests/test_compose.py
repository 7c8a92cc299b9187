"""The files that start etl in containers hold together. They are read, not run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
SECRETS = {"ETL_TOKEN": "y"}


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"env": os.environ | SECRETS | environment, "capture_output": True, "text": True}
    return subprocess.run([str(word) for word in command], check=False, **given)


def has_compose() -> bool:
    return bool(shutil.which("docker")) and run("docker", "compose", "version").returncode == 0


@pytest.mark.skipif(not has_compose(), reason="there is no docker compose to ask")
def test_docker_compose_finds_nothing_wrong():
    done = run("docker", "compose", "-f", ROOT / "compose.yaml", "config", "--quiet")
    assert done.returncode == 0, done.stderr


def test_there_are_two_workers_a_server_and_a_lab_on_one_store():
    assert set(SERVICES) == {"store", "worker", "server", "lab"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    stores = {one["environment"]["ETL_STORE"] for one in SERVICES.values()}
    assert stores == {"sqlite:////data/store.db"}


def test_all_wait_for_the_store():
    for name in ("worker", "server", "lab"):
        waits = SERVICES[name]["depends_on"]
        assert waits == {"store": {"condition": "service_completed_successfully"}}
    assert not SERVICES["store"]["depends_on"]


@pytest.mark.parametrize("name", ["server", "lab"])
def test_who_is_asked_by_others_has_a_healthcheck(name):
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check["retries"] > 1


def test_every_volume_is_declared():
    used = [volume.split(":")[0] for one in SERVICES.values() for volume in one.get("volumes", ())]
    named = {volume for volume in used if not volume.startswith(".")}
    assert named == set(COMPOSE["volumes"]) == {"data"}


def test_only_this_machine_reaches_the_ports():
    ports = [port for one in SERVICES.values() for port in one.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_password_stands_in_the_files():
    text = (ROOT / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(SECRETS)


def test_the_image_is_made_of_files_that_are_there():
    text = (ROOT / "Dockerfile").read_text()
    lines = re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE)
    copied = [ROOT / word for line in lines for word in line.split()]
    assert copied
    assert [path for path in copied if not path.exists()] == []
