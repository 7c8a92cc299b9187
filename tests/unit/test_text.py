"""Text for people: tables as HTML, and texts that are cut."""

from __future__ import annotations

import re

from etl.text import Html, first_line, html_table, shortened


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


def test_a_text_is_cut_after_a_word():
    text = "the line names no level, and nothing else"
    assert shortened(text, 30) == "the line names no level, and…"
    assert shortened(text, 26) == "the line names no level…"
    assert shortened(text, len(text)) == text
    assert shortened("x" * 50, 10) == "x" * 9 + "…"
    assert shortened("a b\x1b[2J" * 9, 12) == "a b\\x1b[2Ja…"
    assert all(len(shortened(text, most)) <= most for most in range(1, 50))


def test_the_first_line_of_an_error_is_what_it_says():
    assert first_line("\n\nit failed\r\n\nThis error occurred in …") == "it failed"
    assert first_line("") == ""
