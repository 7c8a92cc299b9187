"""The files that start a cluster in containers hold together. They are read, not run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import nats_servers
import pytest
import yaml

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
SECRETS = {"NATS_PASSWORD": "x", "ETL_TOKEN": "y"}


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"env": os.environ | SECRETS | environment, "capture_output": True, "text": True}
    return subprocess.run([str(word) for word in command], check=False, **given)


def has_compose() -> bool:
    return bool(shutil.which("docker")) and run("docker", "compose", "version").returncode == 0


@pytest.mark.skipif(not has_compose(), reason="there is no docker compose to ask")
def test_docker_compose_finds_nothing_wrong():
    done = run("docker", "compose", "-f", ROOT / "compose.yaml", "config", "--quiet")
    assert done.returncode == 0, done.stderr


def test_there_are_three_nodes_workers_a_server_and_a_lab():
    assert set(SERVICES) == {"nats-1", "nats-2", "nats-3", "store", "worker", "server", "lab"}
    assert SERVICES["worker"]["deploy"]["replicas"] >= 2


def test_all_wait_for_the_store_and_the_store_for_healthy_nodes():
    for name in ("worker", "server", "lab"):
        waits = SERVICES[name]["depends_on"]
        assert waits == {"store": {"condition": "service_completed_successfully"}}
    nodes = [name for name in SERVICES if name.startswith("nats-")]
    assert SERVICES["store"]["depends_on"] == {
        node: {"condition": "service_healthy"} for node in nodes
    }


@pytest.mark.parametrize("name", ["nats-1", "nats-2", "nats-3", "server", "lab"])
def test_who_is_asked_by_others_has_a_healthcheck(name):
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check["retries"] > 1


def test_every_volume_is_declared_and_every_node_has_its_own():
    used = [volume.split(":")[0] for one in SERVICES.values() for volume in one.get("volumes", ())]
    named = {volume for volume in used if not volume.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    assert all(used.count(f"nats-{number}") == 1 for number in (1, 2, 3))


def test_only_this_machine_reaches_the_ports():
    ports = [port for one in SERVICES.values() for port in one.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_password_stands_in_the_files():
    text = (ROOT / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(SECRETS)
    assert re.findall(r"password: (.*)", (ROOT / "deploy" / "nats.conf").read_text()) == [
        "$NATS_PASSWORD"
    ]


def test_the_nodes_configuration_is_one_that_a_server_takes():
    conf = ROOT / "deploy" / "nats.conf"
    done = run(nats_servers.find_server(), "-t", "-c", conf, NODE="nats-1")
    assert done.returncode == 0, done.stderr


def test_the_image_is_made_of_files_that_are_there():
    text = (ROOT / "Dockerfile").read_text()
    lines = re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE)
    copied = [ROOT / word for line in lines for word in line.split()]
    assert copied
    assert [path for path in copied if not path.exists()] == []
