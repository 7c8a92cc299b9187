"""What the path of a container's log says: Kubernetes names pods and containers in it, Docker ids.

The layouts are those of kubelet: `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/RESTARTS.log`, and the
links to these in `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`; and of Docker:
`/var/lib/docker/containers/ID/ID-json.log`. What Docker keeps beside that is read by
`sources.docker`, where the file is.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

__all__ = ["container_of"]

_NAME = "[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?"
_PATHS = (
    (
        "kubernetes",
        re.compile(
            rf"/pods/(?P<namespace>{_NAME})_(?P<pod>{_NAME})_(?P<pod_uid>[0-9a-f-]{{32,36}})"
            rf"/(?P<container>{_NAME})/(?P<restarts>[0-9]+)\.log(?:\.[0-9-]+)?(?:\.gz)?$"
        ),
    ),
    (
        "kubernetes",
        re.compile(
            rf"/containers/(?P<pod>{_NAME})_(?P<namespace>{_NAME})_(?P<container>{_NAME})"
            r"-(?P<container_id>[0-9a-f]{64})\.log$"
        ),
    ),
    (
        "docker",
        re.compile(r"/(?P<container_id>[0-9a-f]{64})/(?P=container_id)-json\.log(?:\.[0-9.gz]+)?$"),
    ),
)


@lru_cache(maxsize=1024)
def container_of(source: str) -> Mapping[str, str]:
    """Return what a source's path says of a container, by the names of columns; mostly nothing."""
    for system, path in _PATHS:
        if found := path.search(f"/{source}"):
            return {f"{system}.{name}": text for name, text in found.groupdict().items()}
    return {}
