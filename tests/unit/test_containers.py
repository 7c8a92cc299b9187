"""The path of a container's log says whose it is."""

from __future__ import annotations

import pytest

from etl import Batch
from etl.formats import container_of
from etl.processors import Parse, normalise

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
    ["/var/log/app.log", "", "/var/log/pods/shop_web/app/3.log", "/var/log/pods/../x_y/0.log"],
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
