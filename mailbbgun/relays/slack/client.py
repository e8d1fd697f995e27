"""Requests to Slack, by its own client library. All of them block."""

import logging
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from slack_sdk import WebClient, WebhookClient
from slack_sdk.errors import SlackApiError

from mailbbgun.relays.slack.answers import SlackAnswer
from mailbbgun.smtp.reply import safe

#: Hosts of incoming webhooks.
WEBHOOK_HOSTS = ("hooks.slack.com", "hooks.slack-gov.com")

#: Slack's library logs each failure by itself; ours are events.
_QUIET = logging.getLogger("mailbbgun.slack_sdk")
_QUIET.setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class SlackTarget:
    """An account as the relay uses it: it has a bot token or the URL of an incoming webhook."""

    name: str
    token: str | None = None
    webhook_url: str | None = None


def webhook_permitted(url: str, api_url: str) -> bool:
    """Say whether an incoming webhook may be there: at Slack, or where SLACK_API_URL is if that is elsewhere."""
    try:
        asked, api = urlsplit(url), urlsplit(api_url)
        if not re.fullmatch("[!-~]+", url):  # urllib would send no request, and nobody could tell that from a lost one
            return False
        if asked.username is not None or asked.password is not None or not asked.path.strip("/"):
            return False
        if asked.scheme == "https" and asked.hostname in WEBHOOK_HOSTS and asked.port in (None, 443):
            return True
        ours = api.hostname not in ("slack.com", "slack-gov.com")
        return ours and (asked.scheme, asked.hostname, asked.port) == (api.scheme, api.hostname, api.port)
    except ValueError:  # a port that is no number
        return False


class Unreachable(Exception):
    """Slack could not be connected to, or not be handed the whole request: it was not acted upon."""


def ask(
    target: SlackTarget, api_url: str, timeout: int, body: Mapping[str, Any], method: str = "chat.postMessage"
) -> SlackAnswer:
    """Do one request, without retries. ``body`` goes to the webhook if the account has one.

    Raises :class:`Unreachable`, and TimeoutError, OSError or HTTPException if nobody knows whether Slack acted on it.
    """
    try:
        if target.webhook_url is not None:
            hook = WebhookClient(target.webhook_url, timeout=timeout, logger=_QUIET, retry_handlers=[])
            hook.proxy = None  # urllib finds the proxy by itself, and knows about no_proxy
            said = hook.send_dict({name: value for name, value in body.items() if name != "channel"})
            return _of_webhook(said.status_code, said.body, said.headers)
        client = WebClient(target.token, api_url, timeout=timeout, logger=_QUIET, retry_handlers=[])
        client.proxy = None
        try:
            response = client.api_call(method, json=dict(body))
        except SlackApiError as error:
            response = error.response
        return _of_api(response.status_code, response.data, response.headers)
    except URLError as error:  # raised while connecting and sending, but not while waiting for the answer
        raise Unreachable(words(error.reason)) from error


def _of_webhook(status: int, body: str, headers: Mapping[str, str]) -> SlackAnswer:
    error = "" if status == 200 and body.strip() == "ok" else safe(body)[:200] or f"HTTP {status}"
    return SlackAnswer(status, error, _retry_after(headers))


def _of_api(status: int, data: Any, headers: Mapping[str, str]) -> SlackAnswer:
    said: Mapping[str, Any] = data if isinstance(data, dict) else {}
    if status == 200 and said.get("ok") is True:
        channel, ts = safe(str(said.get("channel") or "")), safe(str(said.get("ts") or ""))
        return SlackAnswer(status, "", None, channel, ts, said)
    return SlackAnswer(status, safe(str(said.get("error") or f"HTTP {status}"))[:200], _retry_after(headers), data=said)


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    found = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    found = found[0] if isinstance(found, list) else found
    return float(found) if found is not None and re.fullmatch("[0-9]{1,9}", str(found).strip()) else None


def connect(target: SlackTarget, api_url: str, timeout: int) -> None:
    """See whether Slack, or the proxy on the way, takes connections. Raises :class:`Unreachable`."""
    url = urlsplit(target.webhook_url or api_url)
    proxy = None if proxy_bypass(url.netloc) else getproxies().get(url.scheme)
    goal = urlsplit(proxy if proxy is None or "://" in proxy else f"http://{proxy}") if proxy else url
    try:
        port = goal.port or (443 if goal.scheme == "https" else 80)
        socket.create_connection((goal.hostname or "", port), timeout).close()
    except (OSError, ValueError) as error:
        raise Unreachable(f"{goal.hostname}: {words(error)}") from error


def words(error: object) -> str:
    """Return an error in words that are safe to show."""
    return safe(getattr(error, "strerror", None) or str(error) or type(error).__name__)
