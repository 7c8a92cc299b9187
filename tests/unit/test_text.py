"""Text for people: tables as HTML."""

from __future__ import annotations

import re

from etl.text import Html, html_table


def cells(table: str) -> list[str]:
    return re.findall(r"<td[^>]*>(.*?)</td>", table)


def test_a_table_aligns_numbers_and_gives_them_separators():
    table = html_table(["lines", "share"], [[1234567, 0.5], [None, None]], formats={"share": ".1%"})

    assert cells(table) == ["1,234,567", "50.0%", "", ""]
    assert table.count("text-align:right") == 6
    assert "text-align:right" not in html_table(["lines", "flag"], [["7", True]])


def test_a_table_escapes_what_is_not_html_already():
    table = html_table(
        ["<i>", "why"], [["<b>\x1b[0m", ["a & b", "c"]], [Html("<em>x</em>"), "y" * 200]], most=9
    )

    assert "&lt;i&gt;" in table
    assert cells(table)[:2] == ["&lt;b&gt;\\x1b[…", "a &amp; b<br>c"]
    assert cells(table)[2:] == ["<em>x</em>", "yyyyyyyy…"]


def test_a_table_has_a_caption_and_a_class():
    assert html_table(["a"], [], caption="<1>", css="etl").startswith(
        '<table class="etl"><caption>&lt;1&gt;</caption>'
    )
    assert html_table(["a"], []).startswith("<table>")
