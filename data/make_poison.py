"""Make poison.log: good python-logging lines with bad ones of every kind between."""

from pathlib import Path

GOOD = [
    ("DEBUG", "shop.cart", "cart 41 loaded, 3 items"),
    ("INFO", "shop.cart", "cart 41 checked out, total=59.90"),
    ("INFO", "shop.mail", "receipt sent to alice@example.com"),
    ("WARNING", "shop.stock", "only 2 pieces of lamp-m left"),
    ("ERROR", "shop.payment", "card refused: code=51"),
    ("CRITICAL", "shop.store", "database is read-only"),
]
ESC, BEL, RLO = "\x1b", "\x07", "\u202e"


def head(number: int, level: str = "INFO", name: str = "shop.web") -> str:
    """Give the start of a python-logging line; number sets its time."""
    clock = f"09:{number // 60:02d}:{number % 60:02d},{number * 37 % 1000:03d}"
    return f"2026-11-21 {clock} {level} {name}: "


def good(number: int) -> bytes:
    """Give one good line without its newline."""
    level, name, message = GOOD[number % len(GOOD)]
    return (head(number, level, name) + message).encode()


def poison() -> list[bytes]:
    """Give every bad line, each without its newline."""
    deep = '{"a":' * 20_000 + "1" + "}" * 20_000
    long_start = head(19)
    return [
        head(0).encode() + b"invalid UTF-8 \xff\xfe\xc3( here",
        head(3).encode() + b"a NUL byte \x00 here",
        head(5).encode() + b"this line ends with CR LF\r",
        b"",
        b"~~ this line is in no known format ~~",
        head(11).encode() + b"search for <img src=x onerror=alert(1)> gave 0 hits",
        b"<img src=x onerror=alert(1)>",
        f"{head(15)}terminal {ESC}]0;owned{BEL}{ESC}[31mred text{ESC}[0m".encode(),
        b'{"timestamp": "2026-11-21T09:00:17Z", "level": "info", "event": "cut off he',
        (long_start + "x" * (100_000 - len(long_start))).encode(),
        b"=cmd|' /C calc'!A0",
        (head(23) + "line\u2028separator and next\u0085line inside").encode(),
        b"2026-02-30 09:00:25,925 INFO shop.web: this day does not exist",
        head(27, "FATALITY").encode() + b"nobody knows this level",
        (head(29) + f"file photo_{RLO}gpj.exe uploaded").encode(),
        deep.encode(),
    ]


def main() -> None:
    """Write the file."""
    lines: list[bytes] = []
    number = 0
    for bad in poison():
        lines += [good(number), good(number + 1), bad]
        number += 2
    lines += [good(number), good(number + 1)]
    lines.append(head(number + 2).encode() + b"the last line has no newline at its end")
    Path(__file__).with_name("poison.log").write_bytes(b"\n".join(lines))


if __name__ == "__main__":
    main()
