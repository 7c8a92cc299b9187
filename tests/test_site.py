"""The site that `make docs` builds: whole, up to date, and without a word to another host."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

import etl

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import reference  # noqa: E402 - it is no module of a package

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""What a browser fetches by itself, by tag."""

NOT_FETCHED = {"canonical", "next", "prev", "alternate"}
"""Kinds of `link` that only say something."""


class Page(HTMLParser):
    """What a page loads, where it leads to, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a":
            self.links.append(given.get("href", ""))
        elif tag in LOADED and given.get("rel") not in NOT_FETCHED:
            self.loads += filter(None, [given.get(LOADED[tag], ""), given.get("srcset", "")])
        self.loads += re.findall(r"url\(([^)]+)\)", given.get("style", ""))


@pytest.fixture(scope="module")
def pages(documentation_site: Path) -> dict[str, Page]:
    found = sorted(documentation_site.rglob("*.html"))
    return {path.relative_to(documentation_site).as_posix(): Page(path) for path in found}


def places(nav: list[object]) -> Iterator[str]:
    for one in nav:
        for value in one.values():
            yield from [value] if isinstance(value, str) else places(value)


def test_every_page_has_its_place_in_the_navigation():
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    there = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert sorted(places(nav)) == sorted(there)


@pytest.mark.parametrize("page", sorted(reference.PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_the_reference_says_what_the_package_has(page: Path):
    text = page.read_text(encoding="utf-8")
    assert text == reference.written(text), "write it again: make docs"


def test_every_part_of_the_reference_that_can_be_written_is_somewhere():
    text = "".join(page.read_text(encoding="utf-8") for page in reference.PAGES.glob("*.md"))
    assert set(re.findall(r"<!-- generated: (\w+) -->", text)) == set(reference.PARTS)


def test_every_public_name_is_in_the_reference(pages):
    anchors = set().union(*(pages[name].anchors for name in pages if "reference/" in name))
    homes = {f"etl.analysis.{name}" for name in etl._MODULES}
    wanted = {f"etl.{name}" for name in etl._HOME} - {"etl.EtlError"} | {"etl.errors.EtlError"}
    assert wanted - anchors == set()
    lacking = [name for name in homes if not any(one.startswith(name) for one in anchors)]
    assert lacking == ["etl.analysis.figures"], "the figures are methods of a store"
    assert "etl.store.Figures" in anchors


def test_no_page_loads_anything_from_another_host(pages, documentation_site):
    assert pages
    assert {len(page.loads) > 0 for page in pages.values()} == {True}
    styles = "".join(path.read_text(encoding="utf-8") for path in documentation_site.rglob("*.css"))
    asked = [one for page in pages.values() for one in page.loads]
    asked += re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", styles)
    assert [one for one in asked if urlsplit(one.strip()).netloc] == []


def test_what_a_page_refers_to_is_there(pages, documentation_site):
    site, missing = documentation_site, []
    for name, page in pages.items():
        for link in filter(None, page.links + page.loads):
            path, anchor = urldefrag(link)
            if urlsplit(link).scheme or name == "404.html":
                continue
            target = (site / name).parent / unquote(path) if path else site / name
            if target.is_dir():
                target /= "index.html"
            known = pages.get(target.resolve().relative_to(site.resolve()).as_posix())
            if not target.exists() or (anchor and known and anchor not in known.anchors):
                missing.append((name, link))
    assert missing == []
