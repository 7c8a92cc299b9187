"""The path of a container's log says whose it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import etl
from etl import Batch
from etl.formats import container_of
from etl.processors import Parse, normalise
from etl.records.context import Context
from etl.sources.resolve import resolve_sources

UID = "1b2c3d4e-0000-4444-8888-123456789abc"
POD = {
    "kubernetes.namespace": "shop",
    "kubernetes.pod": "web-7d4b9c-x2x",
    "kubernetes.container": "app",
}
LINES = [
    "2026-11-21T10:00:00.123456789Z stderr F 2 boats left",
    '2026-11-21T10:00:01.123456789Z stdout F {"level":"error","msg":"sunk","kubernetes.pod":"x"}',
]


@pytest.mark.parametrize(
    ("source", "more"),
    [
        (f"/var/log/pods/shop_web-7d4b9c-x2x_{UID}/app/3.log", ("3", UID)),
        (f"pods/shop_web-7d4b9c-x2x_{UID}/app/3.log.20261121-100000.gz", ("3", UID)),
        (f"bundle.tar.gz!/var/log/pods/shop_web-7d4b9c-x2x_{UID}/app/3.log", ("3", UID)),
        (f"/var/log/containers/web-7d4b9c-x2x_shop_app-{'a' * 64}.log", None),
    ],
)
def test_a_path_of_kubernetes_says_which_container_it_is_of(source, more):
    own = {"kubernetes.container_id": "a" * 64}
    if more:
        own = dict(zip(("kubernetes.restarts", "kubernetes.pod_uid"), more, strict=True))
    assert container_of(source) == POD | own


@pytest.mark.parametrize(
    "source",
    [
        "/var/log/app.log",
        "",
        f"{'a' * 64}/{'b' * 64}-json.log",
        "/var/log/pods/shop_web/app/3.log",
        "/var/log/pods/../x_y/0.log",
    ],
)
def test_other_paths_say_nothing(source):
    assert container_of(source) == {}


def test_what_the_path_says_are_columns_beside_those_of_the_line():
    batch = Batch.from_lines(LINES, source=f"/var/log/pods/shop_web-7d4b9c-x2x_{UID}/app/3.log")
    rows = normalise(Parse()(batch.frame(), batch), batch)
    assert rows["message"].to_list() == ["2 boats left", "sunk"]
    assert rows["level"].to_list() == [None, "ERROR"]
    assert rows["kubernetes.namespace"].to_list() == ["shop", "shop"]
    assert rows["kubernetes.pod"].to_list() == ["web-7d4b9c-x2x"] * 2  # not what the line claims
    assert rows["kubernetes.pod_"].to_list() == [None, "x"]


ID = "0123456789abcdef" * 4
CONFIG = {
    "ID": ID,
    "Name": "/shop-web-1",
    "Config": {
        "Image": "nginx:1.29",
        "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
    },
}
KNOWN = {
    "docker.container_id": ID,
    "docker.container": "shop-web-1",
    "docker.image": "nginx:1.29",
    "docker.project": "shop",
    "docker.service": "web",
}


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """Make a folder of Docker's, with the log of a container, and return that."""
    log = tmp_path / "containers" / ID / f"{ID}-json.log"
    log.parent.mkdir(parents=True)
    log.with_name("config.v2.json").write_text(json.dumps(CONFIG))
    entry = {"log": "ERROR no such boat\n", "stream": "stderr", "time": "2026-11-27T08:00:00.5Z"}
    log.write_text(json.dumps(entry) + "\n")
    for other in ("hostconfig.json", "hostname", "resolv.conf"):
        log.with_name(other).write_text("{}\n")
    return log


@pytest.mark.parametrize("name", ["folder", "link", "rotated"])
def test_what_docker_keeps_beside_a_log_are_columns(docker: Path, tmp_path: Path, name: str):
    source = docker.parents[1]
    if name == "link":
        source = tmp_path / "web.log"
        source.symlink_to(docker)
    elif name == "rotated":
        source = docker.rename(docker.with_name(f"{docker.name}.1"))
    result = etl.run([str(source)], store=str(tmp_path / "run" / "store.db"))
    (row,) = result.output().to_dicts()
    wanted = KNOWN if name != "link" else KNOWN | {"docker.container_id": None}
    assert {key: row.get(key) for key in wanted} == wanted
    assert (row["level"], row["message"]) == ("ERROR", "no such boat")


@pytest.mark.parametrize(
    ("config", "said"),
    [("{", 1), ("[1]", 0), ('{"Name": 3, "Config": null}', 0), (None, 0)],
)
def test_a_container_of_which_nothing_is_known_is_read(docker: Path, caplog, config, said):
    if config is None:
        docker.with_name("config.v2.json").unlink()
    else:
        docker.with_name("config.v2.json").write_text(config)
    (source,) = resolve_sources([str(docker)])
    assert source.options.columns == ()
    assert len(caplog.messages) == said


def test_half_a_character_in_a_name_is_replaced(docker: Path):
    docker.with_name("config.v2.json").write_text('{"Name": "/\\ud800x"}')
    (source,) = resolve_sources([str(docker)])
    assert source.options.columns == (("docker.container", "?x"),)


def test_what_is_known_of_lines_is_kept_with_them(docker: Path):
    (source,) = resolve_sources([str(docker)])
    (chunk,) = source.read()
    context = chunk.batch.context
    assert dict(context.columns)["docker.service"] == "web"
    assert Context.decode(context.encode()) == context
