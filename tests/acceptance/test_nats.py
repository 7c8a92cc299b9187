"""Every command and every page does on NATS what it does on a file."""

from __future__ import annotations

import secrets

import httpx
import pytest

PAGES = ["/stats", "/trace", "/errors", "/queue", "/workers", "/history", "/dlq", "/dlq/groups"]
LINES = [f"line {n} {'poison' if n % 10 == 5 else 'well'}" for n in range(100)]


@pytest.fixture
def far(site, nats_server):
    """Give a site whose store is on NATS."""
    site.store = f"{nats_server}/{secrets.token_hex(8)}"
    site.out = site.folder / "data" / "out"
    return site


def test_every_command_works_on_nats(far):
    source = far.write("a.log", "\n".join(LINES) + "\n")
    assert far.json("put", source) == {"put": 100}
    far.etl("pause")
    assert far.json("status")["paused"]
    far.etl("resume")
    far.etl("work", "--drain", "--workers", 2, *far.pipeline("numbered"))
    far.settled(done=90, dead=10)
    (group,) = far.json("dlq list")["groups"]
    assert (group["lines"], group["processor"]) == (10, "number")
    assert "poison" in far.etl("dlq list", "--lines")
    assert len(far.json("trace")["traces"]) == 100
    assert "90 done" in far.etl("top", "--once")
    assert "10 lines wait again" in far.etl("dlq replay", "--all")
    far.etl("work", "--drain", *far.pipeline("unnumbered"))
    far.seen(lambda stats: stats.done == 100)
    again = far.json("run", source, "--again", *far.pipeline("numbered"))
    assert (again["accepted"], again["dead"], again["conserved"]) == (200, 10, True)
    far.seen(lambda stats: stats.dead == 10)
    assert "10 dead letters discarded" in far.etl("dlq discard", "--all")


def test_every_page_of_the_server_works_on_nats(far):
    server = far.start("serve", "--port", 0)
    url = server.stdout.readline().split()[-1]
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        text = {"content-type": "text/plain"}
        answer = client.post("/logs", content="\n".join(LINES), headers=text)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 100)
        far.etl("work", "--drain", *far.pipeline("numbered"))
        far.seen(lambda stats: stats.done == 90)
        assert [client.get(page).status_code for page in PAGES] == [200] * len(PAGES)
        assert client.get("/readyz").status_code == 200
        assert client.post("/pause").status_code == 200
        assert far.json("status")["paused"]
        assert client.get("/dlq/groups").json() != []
    far.end(server)
