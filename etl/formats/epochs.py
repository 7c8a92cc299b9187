"""Times that are a number: seconds, ms, µs or ns since 1970, and labels of TAI64N."""

import polars as pl

__all__ = ["UTC_TIME", "read_epochs", "read_tai"]

UTC_TIME = pl.Datetime("us", "UTC")


def read_epochs(text: pl.Series) -> pl.Series:
    """Read seconds, ms, µs or ns since 1970, told apart by size: 1973 to 2286 in each unit."""
    digits = text.str.contains(r"^[0-9]{9,19}(?:[.,][0-9]+)?$")
    if not digits.any():
        return pl.repeat(None, len(text), dtype=UTC_TIME, eager=True)
    parts = text.set(~digits, None).str.replace(",", ".", literal=True).str.splitn(".", 2)
    whole = pl.lit(parts.struct.field("field_0").cast(pl.Int64, strict=False))
    fraction = "0." + parts.struct.field("field_1").fill_null("0")
    part = pl.lit(fraction.cast(pl.Float64, strict=False))
    units = (  # from, microseconds of a whole one, and of its fraction
        (10**8, whole * 10**6, part * 1e6),
        (10**11, whole * 10**3, part * 1e3),
        (10**14, whole, part),
        (10**17, whole // 1000, part * 0),
    )
    micros = [
        pl.when(whole.is_between(low, low * 100 - 1)).then(micro + rest.round().cast(pl.Int64))
        for low, micro, rest in units[:3]
    ]
    micros.append(pl.when(whole >= units[3][0]).then(units[3][1]))
    return pl.select(pl.coalesce(micros).cast(UTC_TIME)).to_series()


def read_tai(text: pl.Series) -> pl.Series:
    """Read labels of TAI64N: seconds of TAI, which were 10 ahead of Unix's in 1970, and ns."""
    label = text.set(~text.str.contains("^@4[0-9a-f]{23}$").fill_null(value=False), None)
    if not label.count():
        return pl.repeat(None, len(text), dtype=UTC_TIME, eager=True)
    second, nano = (
        label.str.slice(start, 8).str.to_integer(base=16, dtype=pl.Int64) for start in (9, 17)
    )
    return ((second - 10) * 1_000_000 + nano // 1000).cast(UTC_TIME)
