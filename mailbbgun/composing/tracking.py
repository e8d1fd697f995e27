"""Tracked HTML: links lead through our server, and an invisible image tells of opening. Pure.

A token in a URL is URL-safe base64 of: its kind, the message's id, for a click the target, and an
HMAC-SHA256 of all that. Each message has a key of its own, derived from a secret of the installation
and kept with the message, so that composing needs no secret and makes the same bytes each time. The
target is in the token, so our server redirects to nothing that it was not told by the sender.
"""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, Self
from uuid import UUID

from mailbbgun.composing.links import HTMLLink, rewritten

#: Paths of our server, before the token.
OPEN_PATH, CLICK_PATH = "/o/", "/c/"
#: Octets of a link's target, at most. A longer link stays as it is: mail programs and proxies cut long URLs off.
LONGEST_TARGET = 2000
#: Characters of a token, at most.
LONGEST = (1 + 16 + LONGEST_TARGET + 16) * 4 // 3 + 4

_OPEN, _CLICK = b"\x01", b"\x02"
_ID, _SIGNED = 16, 16
#: What is signed begins with this, so that no other signature by the same secret can be taken for one of these.
_PURPOSE = b"tracking\0"
# Only these are ever redirected to.
_WEB = re.compile(r"https?://[^\s/\\?#]", re.IGNORECASE)
_IGNORED = str.maketrans("", "", "\t\n\r")  # browsers leave these out of URLs (https://url.spec.whatwg.org §4.4)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_IN_BRACKETS = re.compile(r"<([^<>]*)>")


@dataclass(frozen=True, slots=True)
class Tracking:
    """What is tracked of messages. ``base`` is the URL that recipients reach our server by, without a / at the end."""

    base: str
    opens: bool = False
    clicks: bool = False

    def as_json(self) -> dict[str, str | bool]:
        """Return it as a content keeps it."""
        return {"base": self.base, "opens": self.opens, "clicks": self.clicks}

    @classmethod
    def of_json(cls, given: Mapping[str, str | bool] | None) -> Self | None:
        """Return what :meth:`as_json` made; None for None."""
        return None if given is None else cls(str(given["base"]), bool(given["opens"]), bool(given["clicks"]))


class TrackedURL(NamedTuple):
    """What a token says. ``target``: where the link leads; None: it is the image's."""

    message_id: UUID
    target: str | None


def message_key(secret: bytes, message_id: UUID) -> bytes:
    """Return the key that signs the URLs of one message."""
    return hmac.digest(secret, _PURPOSE + message_id.bytes, sha256)[:_SIGNED]


def token_of(key: bytes, url: TrackedURL) -> str:
    """Return the token of a URL. ``key`` is the message's."""
    said = (_OPEN if url.target is None else _CLICK) + url.message_id.bytes + (url.target or "").encode()
    return urlsafe_b64encode(said + _signature(key, said)).rstrip(b"=").decode()


def url_of(key_of: Callable[[UUID], bytes], token: str) -> TrackedURL | None:
    """Return what a token says; None unless it is exactly what :func:`token_of` made with its message's key."""
    if len(token) > LONGEST or not token.isascii():
        return None
    try:
        whole = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (Error, ValueError):
        return None
    # Decoding skips some characters and bits: no two tokens are one.
    if urlsafe_b64encode(whole).rstrip(b"=").decode() != token or len(whole) < 1 + _ID + _SIGNED:
        return None
    said, signature = whole[:-_SIGNED], whole[-_SIGNED:]
    message_id = UUID(bytes=said[1 : 1 + _ID])
    if not hmac.compare_digest(signature, _signature(key_of(message_id), said)):
        return None
    return TrackedURL(message_id, said[1 + _ID :].decode() if said[:1] == _CLICK else None)


def _signature(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, said, sha256)[:_SIGNED]


def tracked(html: str, tracking: Tracking, message_id: UUID, key: bytes, headers: Mapping[str, str]) -> str:
    """Return a message's HTML with its links and the image.

    Links stay that are not to the web, by which the recipient unsubscribes (as its ``headers`` or our
    own links say), that say ``data-track="no"``, or that are tracked already.
    """
    unsubscribing = {
        url
        for name, value in headers.items()
        if name.lower() == "list-unsubscribe"
        for url in _IN_BRACKETS.findall(value)
    }
    ours = tuple(f"{tracking.base}{path}" for path in (OPEN_PATH, CLICK_PATH, "/unsubscribe/"))

    def replacement(link: HTMLLink) -> str | None:
        target = link.target.strip("\0\t\n\f\r ").translate(_IGNORED)
        if link.untracked or not _WEB.match(target) or _CONTROL.search(target):
            return None
        if target in unsubscribing or target.startswith(ours) or len(target.encode()) > LONGEST_TARGET:
            return None
        return f"{tracking.base}{CLICK_PATH}{token_of(key, TrackedURL(message_id, target))}"

    image = ""
    if tracking.opens:
        url = f"{tracking.base}{OPEN_PATH}{token_of(key, TrackedURL(message_id, None))}"
        image = f'<img src="{url}" width="1" height="1" alt="" style="border:0;width:1px;height:1px">'
    return rewritten(html, replacement if tracking.clicks else lambda _: None, image)
