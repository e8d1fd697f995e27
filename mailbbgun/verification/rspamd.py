"""Asks rspamd by HTTP what it thinks of a message (rspamd's ``/checkv2``)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import orjson

from mailbbgun.core.errors import ConfigurationError, InvalidInput
from mailbbgun.core.net import Allowed, Guard
from mailbbgun.outgoing.http import HTTPClient, NoHTTPAnswer
from mailbbgun.outgoing.urls import WEB_PORTS
from mailbbgun.smtp.reply import safe

#: Octets of an answer that are read.
_MOST = 1_048_576

#: Scores are smaller than this.
_MOST_SCORE = 1e9

#: Characters of an envelope's parts that are passed on.
_LONGEST = 1000

#: What may not stand in a header of HTTP.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")

SpamAction = Literal["accept", "quarantine", "defer", "reject"]

#: rspamd's actions.
_ACTIONS: dict[str, SpamAction] = {
    "no action": "accept",
    "greylist": "defer",
    "soft reject": "defer",
    "add header": "quarantine",
    "rewrite subject": "quarantine",
    "quarantine": "quarantine",
    "reject": "reject",
}


class SpamFilterUnavailable(Exception):
    """rspamd gives no answer that can be read. The text is for the log."""


@dataclass(frozen=True, slots=True)
class SpamVerdict:
    """The score of a message, the score of spam, what is to be done, and a text for the sender if there is one."""

    score: float
    required: float
    action: SpamAction
    text: str = ""


@dataclass(frozen=True, slots=True)
class MailOrigin:
    """Where a message comes from: what a filter may judge besides its octets."""

    client_ip: str
    helo: str
    mail_from: str
    recipient: str = ""  # the first one
    queue_id: str = ""


class Rspamd:
    """rspamd's normal worker at a URL such as ``http://127.0.0.1:11333``. Thread-safe.

    One message takes at most ``seconds``. Raises :class:`ConfigurationError` for a URL that is none.
    """

    def __init__(self, url: str, seconds: float, ca_file: str = "") -> None:
        self._url, self._seconds = f"{url.rstrip('/')}/checkv2", seconds
        try:
            host = urlsplit(url).hostname or ""
            # The operator names this host, so any address and port is right.
            self._client = HTTPClient(Guard(WEB_PORTS, Allowed.read([host])), ca_file)
        except ValueError as error:
            raise ConfigurationError(f"RSPAMD_URL: {url!r} is no URL like http://127.0.0.1:11333") from error
        if not url.lower().startswith(("http://", "https://")):
            raise ConfigurationError(f"RSPAMD_URL: {url!r} is no URL like http://127.0.0.1:11333")

    def check(self, raw: bytes, origin: MailOrigin) -> SpamVerdict:
        """Return what rspamd thinks. Raises :class:`SpamFilterUnavailable`."""
        given = {
            "IP": origin.client_ip,
            "Helo": origin.helo,
            "From": origin.mail_from,
            "Rcpt": origin.recipient,
            "Queue-Id": origin.queue_id,
        }
        headers = {name: _header(value) for name, value in given.items() if value}
        try:
            answer = self._client.post(self._url, raw, headers, self._seconds, keep=_MOST, repeatable=True)
        except (NoHTTPAnswer, InvalidInput) as error:
            raise SpamFilterUnavailable(str(error)) from error
        if answer.status != 200:
            raise SpamFilterUnavailable(f"rspamd answers with status {answer.status}")
        try:
            return parsed(orjson.loads(answer.body))
        except ValueError as error:
            raise SpamFilterUnavailable(f"rspamd's answer cannot be read: {error}") from error

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def parsed(answer: object) -> SpamVerdict:
    """Read an answer. Raises ``ValueError``."""
    if not isinstance(answer, Mapping):
        raise ValueError("it is no object")
    action = _ACTIONS.get(str(answer.get("action")))
    if action is None:
        raise ValueError(f"it has the action {answer.get('action')!r}")
    messages = answer.get("messages")
    text = messages.get("smtp_message") if isinstance(messages, Mapping) else None
    told = safe(text)[:200] if isinstance(text, str) else ""
    return SpamVerdict(_number(answer, "score"), _number(answer, "required_score"), action, told)


def _number(answer: Mapping[object, object], name: str) -> float:
    found = answer.get(name, 0.0)
    if not isinstance(found, int | float) or not -_MOST_SCORE < found < _MOST_SCORE:  # NaN is not between them
        raise ValueError(f"its {name} is no number of a score")
    return float(found)


def _header(value: str) -> str:
    """Return a value as UTF-8 octets, in the form in which http.client sends them."""
    return _CONTROLS.sub("", value[:_LONGEST]).encode("utf-8", "replace").decode("latin-1")
