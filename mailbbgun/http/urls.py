"""URLs: the host that a request names, and the addresses of our views in responses to it."""

import re
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from flask import g, request, url_for

from mailbbgun.core.hosts import Hosts
from mailbbgun.http.provided import provided

#: How OpenAPI documents the header of :func:`next_page`.
NEXT_PAGE = {"Link": {"description": 'rel="next": the next page, if there is one.', "schema": {"type": "string"}}}

_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)


def named_hosts() -> list[str | None]:
    """Return the hosts that the request names. The first one counts; None stands for no host.

    A target in absolute form names a host. The Host header is ignored then (RFC 9112 §3.2.2).
    """
    header = request.headers.get("Host")
    target = _ABSOLUTE.match(request.environ.get("RAW_URI", ""))
    return [target[1], header] if target else [header]


def address_of(endpoint: str, **values: Any) -> str:
    """Return the address of a view. It has a host only if that is known to be ours.

    See :meth:`Hosts.base`.
    """
    path, root = url_for(endpoint, **values), quote(request.root_path)
    return own_base() + path.removeprefix(root)


def own_base() -> str:
    """Return the beginning of our addresses in responses to this request."""
    return provided(Hosts).base(request.scheme, named_hosts()[0], quote(request.root_path))


def next_page(last: UUID | None) -> dict[str, str]:
    """Return the ``Link`` header to the page after the entry ``last``; none if that is None."""
    if last is None:
        return {}
    kept = {name: value for name, value in g.query.items() if name not in ("offset", "after")}
    page = address_of(request.endpoint or "", **(request.view_args or {}))
    # A blank as %20: in a parameter that is an e-mail address, a + is a plus.
    return {"Link": f'<{page}?{urlencode({**kept, "after": str(last)}, quote_via=quote)}>; rel="next"'}
