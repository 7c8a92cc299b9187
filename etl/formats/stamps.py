"""How times look in log lines: regexes that Python and Rust read alike.

`STAMP` finds a time; `FAMILIES` take one apart. A family's groups are `Y` or `y` (year, of
two digits), `m` or `b` (month, as a name), `d`, `H`, `M`, `S`, `f` (fraction), `p` (AM or
PM) and `z` (zone); `n1` to `n3` are numbers whose order the column decides.
"""

__all__ = [
    "CLOCK", "FAMILIES", "MONTHS", "STAMP", "STAMP_END", "STAMP_START", "TIMES_OF_DAY", "ZONES",
    "ZONE_NAMES",
]  # fmt: skip

ZONES = {  # hours east of UTC; where a name is used twice, the place that more logs come from
    "ACDT": 10.5, "ACST": 9.5, "AEDT": 11, "AEST": 10, "AKDT": -8, "AKST": -9, "ART": -3,
    "AST": -4, "AWST": 8, "BRT": -3, "BST": 1, "CAT": 2, "CDT": -5, "CEST": 2, "CET": 1,
    "CST": -6, "EAT": 3, "EDT": -4, "EEST": 3, "EET": 2, "EST": -5, "GMT": 0, "HKT": 8,
    "HST": -10, "ICT": 7, "IDT": 3, "IST": 5.5, "JST": 9, "KST": 9, "MDT": -6, "MESZ": 2,
    "MEZ": 1, "MSD": 4, "MSK": 3, "MST": -7, "NDT": -2.5, "NPT": 5.75, "NST": -3.5, "NZDT": 13,
    "NZST": 12, "PDT": -7, "PHT": 8, "PKT": 5, "PST": -8, "SAST": 2, "SGT": 8, "TRT": 3,
    "UTC": 0, "WAT": 1, "WEST": 1, "WET": 0, "WIB": 7, "YEKT": 5, "Z": 0,
}  # fmt: skip
ZONE_NAMES = "|".join(sorted((z for z in ZONES if z != "Z"), key=len, reverse=True))

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\.?,? +"
_B = rf"(?P<b>(?i:{'|'.join(MONTHS)})[a-z]*)\.?"
_F = "(?:[.,:](?P<f>[0-9]{1,12}))?"
_SHORT = r"[+-](?:[0-9]{3}|[0-9]{1,2})\b"  # +02, and +060: minutes, as Db2 writes them
_LONG = r"[+-][0-9]{2}:?[0-9]{2}\b"
_PLACE = "(?:Africa|America|Antarctica|Asia|Atlantic|Australia|Europe|Indian|Pacific)/[A-Za-z_/]+"
_Z = rf"(?P<z> ?(?:Z\b|{_PLACE}|(?:{ZONE_NAMES})\b(?:{_LONG}|{_SHORT})?|{_LONG})|{_SHORT})?"
_P = r"(?: ?(?P<p>[AaPp]\.?[Mm]\b\.?))?"
_HMS = f"(?P<H>[0-9]{{1,2}})[:.](?P<M>[0-9]{{2}})[:.](?P<S>[0-9]{{2}}){_F}{_P}{_Z}"
_HM = f"(?P<H>[0-9]{{1,2}}):(?P<M>[0-9]{{2}}){_P}{_Z}"
TIMES_OF_DAY = (_HMS, _HM)
"""What stands behind a date, as families."""
_GAP = r"(?:[T_:;|-]|\] ?\[|[,.]? +(?:-{1,2} )?|\t)"

FAMILIES = {  # tried in this order, each on what those before it left
    # 2024-03-05T10:00:00.123Z, 2024/3/5 10:00:00,123 +0100, 2005-06-03-15.42.50.675872
    "ymd": (
        rf"(?:{_DAY})?(?P<Y>[0-9]{{4}})[-/.](?P<m>[0-9]{{1,2}})[-/.](?P<d>[0-9]{{1,2}})"
        rf"{_GAP}{_HMS}"
    ),
    "ymd_minute": (
        rf"(?P<Y>[0-9]{{4}})[-/.](?P<m>[0-9]{{1,2}})[-/.](?P<d>[0-9]{{1,2}}){_GAP}{_HM}"
    ),
    # 20240305T100000Z, 20240305-10:00:00:123, 20240305100000
    "compact": (
        r"(?P<Y>(?:19|20)[0-9]{2})(?P<m>[0-9]{2})(?P<d>[0-9]{2})[T_ :-]?"
        rf"(?P<H>[0-9]{{2}}):?(?P<M>[0-9]{{2}}):?(?P<S>[0-9]{{2}}){_F}{_Z}"
    ),
    # 10:00:00.123 2024-03-05
    "hms_ymd": rf"{_HMS} +(?P<Y>[0-9]{{4}})[-/.](?P<m>[0-9]{{2}})[-/.](?P<d>[0-9]{{2}})",
    # 10:00:00 UTC 03/05/2024
    "hms_numbers": (
        rf"{_HMS} +(?P<n1>[0-9]{{2}})(?P<sep>[/.])(?P<n2>[0-9]{{2}})[/.](?P<n3>[0-9]{{4}})"
    ),
    # 240305 10:00:00 (MySQL 5), 081109 203615
    "short": (
        r"(?P<y>[0-9]{2})(?P<m>[0-9]{2})(?P<d>[0-9]{2}) +"
        rf"(?P<H>[0-9]{{1,2}}):?(?P<M>[0-9]{{2}}):?(?P<S>[0-9]{{2}}){_F}{_Z}"
    ),
    # Tue, 05 Mar 2024 10:00:00 GMT, 5-Mar-24 10:00:00.123, 05/Mar/2024:10:00:00 +0000
    "dby": (
        rf"(?:{_DAY})?(?P<d>[0-9]{{1,2}})[ /-]?{_B}[ /-]?(?P<Y>[0-9]{{4}}|[0-9]{{2}})"
        rf"(?:{_GAP}|::){_HMS}"
    ),
    # 2024 Mar 05 10:00:00 (OSSEC)
    "ybd": rf"(?P<Y>[0-9]{{4}})[ /-]{_B}[ /-](?P<d>[0-9]{{1,2}})(?:{_GAP}|::){_HMS}",
    # Tue Mar  5 10:00:00.123 EST 2024, Mar 05, 2024 10:00:00 AM, Mar  5 10:00:00
    "asctime": (
        rf"{_DAY}{_B} +(?P<d>[0-9]{{1,2}}) (?P<H>[0-9]{{1,2}}):(?P<M>[0-9]{{2}}):"
        rf"(?P<S>[0-9]{{2}}){_F}{_Z} (?P<Y>[0-9]{{4}})\b(?: UTC| GMT)?"
    ),
    "bdy": rf"(?:{_DAY})?{_B}(?: +|[/-])(?P<d>[0-9]{{1,2}})(?:,? |[/-])(?P<Y>[0-9]{{4}}),? +{_HMS}",
    "bd": rf"(?:{_DAY})?{_B}(?: +|-)(?P<d>[0-9]{{1,2}}),? +{_HMS}",
    # 5/3/2024 -- 10:00:00: Suricata's, whose day is first
    "suricata": (rf"(?P<d>[0-9]{{1,2}})/(?P<m>[0-9]{{1,2}})/(?P<Y>[0-9]{{4}}) -- {_HMS}"),
    # 05.03.2024 10:00:00, 03/05/2024 10:00:00 AM, 03/05/24 10:00:00:123 GMT
    "numbers": (
        rf"(?P<n1>[0-9]{{1,2}})(?P<sep>[-/.])(?P<n2>[0-9]{{1,2}})[-/.](?P<n3>[0-9]{{4}}|[0-9]{{2}})"
        rf"{_GAP}{_HMS}"
    ),
    # 03-05 10:00:00.123 (no year), 10.30 16:49:06, 03/05-10:00:00.123456 (Snort)
    "two_numbers": rf"(?P<n1>[0-9]{{1,2}})[-/.](?P<n2>[0-9]{{1,2}})(?:[T_|-]| +){_HMS}",
    # 05 Mar 10:00:00.123 (old Redis)
    "db": rf"(?P<d>[0-9]{{1,2}}) {_B} {_HMS}",
    # I0305 10:00:00.123456 (glog), without its letter
    "glog": (
        r"(?P<m>[0-9]{2})(?P<d>[0-9]{2}) (?P<H>[0-9]{2}):(?P<M>[0-9]{2}):(?P<S>[0-9]{2})"
        r"\.(?P<f>[0-9]{6})"
    ),
    # 0305/100000.123456 (Chromium)
    "chromium": (
        r"(?P<m>[0-9]{2})(?P<d>[0-9]{2})/(?P<H>[0-9]{2})(?P<M>[0-9]{2})(?P<S>[0-9]{2})"
        r"\.(?P<f>[0-9]+)"
    ),
}

CLOCK = (
    "(?P<H>[0-9]{1,2}):(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]{1,9}))?)?"
    r"(?: ?(?P<p>[AaPp]\.?[Mm]\b\.?))?(?P<z>Z)?"
)
"""A time of day, as a family."""
_BARE = {name: pattern for name, pattern in FAMILIES.items() if name not in ("glog", "chromium")}
_EPOCH = r"1[0-9]{18}|1[0-9]{15}|1[0-9]{12}(?:\.[0-9]+)?|1[0-9]{9}(?:[.,][0-9]{1,9})?"
_TAI = "@4[0-9a-f]{23}"  # cr.yp.to/libtai/tai64.html, multilog's
_CLOCK = (
    r"[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?:Z\b| ?[AaPp]\.?[Mm]\b)?"
    r"|[0-9]{1,2}:[0-9]{2} ?[AP]M"
)


# Of four and more cells between commas, one that follows a time is no fraction of it.
_CELL = "(?:[.:]|,(?=(?:[0-9]{3}){1,3}(?![0-9])|[0-9]+(?![0-9,])))"


def _plain(pattern: str) -> str:
    """Return the pattern without the names of its groups, as only Python's `re` reads it."""
    pattern = pattern.replace(_F, _F.replace("[.,:]", _CELL))
    while "(?P<" in pattern:
        before, _, after = pattern.partition("(?P<")
        pattern = f"{before}(?:{after.partition('>')[2]}"
    return pattern


# What `re` finds: a full date and time first, then epochs, then a time of day.
STAMP = (
    "(?:"
    + "|".join(f"(?P<{name}>{_plain(pattern)})" for name, pattern in _BARE.items())
    + rf"|(?P<tai>{_TAI})|(?P<epoch>{_EPOCH})|(?P<clock>{_CLOCK}))"
)
STAMP_START = (
    r"(?:(?<![0-9A-Za-z.:_/+-])|(?<=::)|(?<=:)(?=(?:19|20)[0-9]{2}[-/.][0-9]{2}[-/.][0-9]{2}[ T]))"
)
STAMP_END = r"(?![0-9A-Za-z])(?!\.[0-9]|,[0-9]+(?![0-9,]))(?!(?<=[0-9]):[0-9])"
