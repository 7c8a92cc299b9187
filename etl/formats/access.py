"""The formats of access logs: web servers, proxies and load balancers.

As in `catalogue`, patterns are Rust regexes that Python's `re` reads alike. Fields that were
added behind those of a format are the rest.
"""

__all__ = ["ACCESS"]

_RFC3339 = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]+)?(?:Z|[+-][0-9:]{4,5})"
_QUOTED = r'(?:[^"\\]|\\.)*'
_TAIL = "(?: (?P<rest>.*))?$"
# Access logs: httpd.apache.org/docs/2.4/logs.html, common and combined, nginx's default; fields
# that were added behind them are the rest.
_VHOST = (
    r"(?P<vhost>(?:[A-Za-z0-9_-]+\.)+[A-Za-z][A-Za-z0-9-]*(?::[0-9]+)?|[A-Za-z0-9_.-]+:[0-9]+) "
)
_CLIENT = r"(?P<client>[^\s,]+(?:, [^\s,]+)*) (?P<ident>\S+) (?P<user>-|[^\s\[-](?:[^\[]*[^\[\s])?)"
_CLF = r"(?P<client>\S+) (?P<ident>\S+) (?P<user>\S+) \[(?P<timestamp>[^\]]+)\] "
_CLF_ODD = rf"{_CLIENT} \[(?P<timestamp>[0-9]+/[A-Z][a-z]+/[^\]]+)\] "
_REPLY = (
    r" (?P<status>[0-9]{3}) (?P<bytes>[0-9]+|-)"
    rf'(?: "(?P<referer>{_QUOTED})" "(?P<agent>{_QUOTED})"(?: (?P<rest>.*))?)?$'
)
_REPLY_ODD = r' (?P<status>[0-9]{3}) (?P<bytes>[0-9]+|-) (?P<rest>[^"].*)$'
_PROTOCOL = "(?P<protocol>HTTP/[0-9.]+)"
_ODD_REQUEST = rf'"(?P<method>[A-Z]+) (?P<url>(?:[^"\\]|\\.)*?)(?: {_PROTOCOL})?"'
_ACCESS = (
    rf'^{_CLF}"(?P<method>[A-Z]+) (?P<url>[^\s"]+)(?: (?P<protocol>[^\s"]+))?"{_REPLY}',
    # a request that is none: empty, or a TLS hello
    rf'^{_CLF}"(?P<url>[^\s"]*|[^A-Z"]{_QUOTED}|[A-Z]*[^A-Z" ]{_QUOTED})"{_REPLY}',
    rf'^{_CLF}"(?P<method>[A-Z]+) (?P<url>[^\s"]+)(?: (?P<protocol>[^\s"]+))?"{_REPLY_ODD}',
    rf"^{_CLF_ODD}{_ODD_REQUEST}{_REPLY}",
    rf"^{_VHOST}{_CLF_ODD}{_ODD_REQUEST}{_REPLY}",
)
ACCESS: dict[str, str | tuple[str, ...]] = {
    "nginx_access": _ACCESS,
    "apache_access": _ACCESS,
    "haproxy": (
        r"^(?P<client>[0-9a-fA-F.:]+:[0-9]+) \[(?P<timestamp>[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:"
        r"[0-9:.]+)\] (?P<frontend>\S+) (?P<backend>[^\s/]+)/(?P<server>\S+) (?P<timers>[0-9/+-]+)"
        r" (?:(?P<status>-?[0-9]{1,3}) )?(?P<bytes>\+?[0-9]+) (?:(?P<cookies>\S+ \S+) )?"
        r"(?P<state>[A-Za-z-]{2,4}) (?P<counts>[0-9/+]+) (?P<queues>[0-9/]+)(?: (?P<rest>.*))?$"
    ),
    "squid": (  # wiki.squid-cache.org, Features/LogFormat: squid native
        r"^(?P<timestamp>[0-9]{9,10}\.[0-9]{3}) +(?P<duration>-?[0-9]+) (?P<client>\S+) "
        r"(?P<result>[A-Z_]+)/(?P<status>[0-9]{3}) (?P<bytes>[0-9]+) (?P<method>\S+) (?P<url>\S+) "
        rf"(?P<user>\S+) (?P<hierarchy>\S+) (?P<content_type>\S+){_TAIL}"
    ),
    "envoy": (  # envoyproxy.io, access logging: the default format
        rf'^\[(?P<timestamp>{_RFC3339})\] "(?P<method>[A-Z-]+) (?P<url>[^\s"]+) '
        r'(?P<protocol>[^\s"]+)" (?P<status>[0-9]{1,3}) (?P<flags>\S+)'
        rf"(?: (?P<details>[^0-9].*?))?? (?P<received>[0-9]+) (?P<bytes>[0-9]+){_TAIL}"
    ),
    "aws_alb": (  # docs.aws.amazon.com: access logs of load balancers
        rf"^(?:(?P<type>https?|h2|grpcs|wss?) )?(?P<timestamp>{_RFC3339}) (?P<elb>\S+) "
        r"(?P<client>[0-9a-fA-F.:]+:[0-9]+) (?P<target>\S+) (?P<timers>[0-9.-]+ [0-9.-]+ [0-9.-]+) "
        r"(?P<status>[0-9]{1,3}|-) (?P<target_status>[0-9]{1,3}|-) (?P<received>[0-9]+) "
        rf'(?P<bytes>[0-9]+) "(?P<method>[A-Z-]+) (?P<url>\S+) (?P<protocol>[^\s"]+)"{_TAIL}'
    ),
    "aws_vpc": (  # docs.aws.amazon.com: flow logs, version 2
        r"^(?P<version>[2-9]) (?P<account>[0-9]{12}|unknown) (?P<interface>eni-\S+) "
        r"(?P<source>\S+) (?P<destination>\S+) (?P<source_port>\S+) (?P<destination_port>\S+) "
        r"(?P<protocol>\S+) (?P<packets>\S+) (?P<bytes>\S+) "
        r"(?P<timestamp>[0-9]{10}) (?P<end>[0-9]{10}) "
        rf"(?P<action>ACCEPT|REJECT|-) (?P<log_status>OK|NODATA|SKIPDATA){_TAIL}"
    ),
    "aws_s3": (  # docs.aws.amazon.com: S3 server access logs
        r"^(?P<owner>[0-9a-f]{64}) (?P<bucket>\S+) \[(?P<timestamp>[^\]]+)\] (?P<client>\S+) "
        r"(?P<user>\S+) (?P<request_id>\S+) (?P<operation>[A-Z]+(?:\.[A-Z_]+)+) (?P<key>\S+) "
        rf'(?:"(?P<request>{_QUOTED})"|-) (?P<status>[0-9]{{3}}|-) (?P<error>\S+) '
        rf"(?P<bytes>[0-9]+|-){_TAIL}"
    ),
    "gin": (  # github.com/gin-gonic/gin: its logger
        r"^\[GIN\] (?P<timestamp>[0-9]{4}/[0-9]{2}/[0-9]{2} - [0-9:]{8}) \| *(?P<status>[0-9]{3}) "
        r"\| *(?P<duration>\S+) \| *(?P<client>\S+) \| *(?P<method>[A-Z]+) +\"(?P<url>[^\"]*)\""
        r"(?:\s(?P<rest>(?s:.*)))?$"
    ),
}
