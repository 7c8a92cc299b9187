"""Which requests Lab and the web page refuse; that they ask is tested with real servers."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from etl.notebook.guard import refusal
from etl.server.hosts import AllowedHosts

HOSTS = AllowedHosts(["proxy.example"])
FOREIGN = {"Origin": "http://evil.example"}
UPGRADE = {"Upgrade": "websocket"}


def status(method: str = "GET", host: str = "localhost:1", **headers: str) -> int | None:
    """Return the status with which a request is refused."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    line = RequestStartLine(method, "/", "HTTP/1.1")
    request = HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": host} | given))
    found = refusal(HOSTS, request)
    return found and found[0]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:1", "", "localhost.evil.example"])
def test_a_foreign_host_is_refused(host: str):
    assert status(host=host) == status("POST", host) == status(host=host, **UPGRADE) == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8888", "[::1]:1", "Proxy.example"])
def test_a_name_of_the_server_is_not(host: str):
    own = {"Origin": f"https://{host}"}
    assert [status(host=host), status("POST", host, **own)] == [None, None]
    assert status(host=host, **UPGRADE, **own) is None


@pytest.mark.parametrize(
    "headers",
    [FOREIGN, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}, {**FOREIGN, **UPGRADE}],
)
def test_a_page_of_another_site_is_refused(headers: dict[str, str]):
    assert status("POST", **headers) == status(**headers) == 403


def test_a_link_on_a_page_of_another_site_may_be_followed():
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document"}
    assert status(**link) is None
    assert status(**UPGRADE, **link) == status("POST", **link) == 403
