"""Tests a Slack account while the request waits. Nothing is posted."""

import http.client
import threading
import time
from collections.abc import Mapping
from typing import Any

from mailbbgun.core.errors import Unavailable
from mailbbgun.database.crypto import Vault
from mailbbgun.relays.slack.answers import SlackAnswer
from mailbbgun.relays.slack.client import SlackTarget, Unreachable, ask, webhook_permitted, words
from mailbbgun.relays.slack.errors import told
from mailbbgun.settings.settings import Settings
from mailbbgun.slack_accounts.models import SlackAccount
from mailbbgun.smtp_accounts.connection_test import most_at_once

#: An incoming webhook that works refuses a message without text by one of these, and posts nothing.
WORKS = ("no_text", "invalid_payload", "missing_text_or_fallback_or_attachments")


class SlackTests:
    """Runs tests of accounts, a few at once. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = threading.BoundedSemaphore(most_at_once(settings.API_THREADS) or 1)

    def run(self, target: SlackTarget) -> Mapping[str, Any]:
        """Ask Slack for a bot (``auth.test``), or an incoming webhook for its opinion of an empty message.

        Takes up to twice ``SLACK_TIMEOUT``. Returns what ``schemas.SlackTestResult`` shows. Raises
        :class:`Unavailable` while too many tests are running.
        """
        if not self._places.acquire(blocking=False):
            raise Unavailable("Too many accounts are being tried just now.", retry_after=self._settings.SLACK_TIMEOUT)
        began = time.monotonic()
        try:
            answer = self._ask(target)
        except (Unreachable, OSError, http.client.HTTPException, ValueError) as error:
            answer = SlackAnswer(0, f"Slack does not answer: {words(error)}")
        finally:
            self._places.release()
        ok = not answer.error or (target.webhook_url is not None and answer.error in WORKS)
        return {
            "ok": ok,
            "error": None if ok else told(answer.error),
            "team": answer.data.get("team"),
            "user": answer.data.get("user"),
            "seconds": round(time.monotonic() - began, 3),
        }

    def _ask(self, target: SlackTarget) -> SlackAnswer:
        url = self._settings.SLACK_API_URL
        if target.webhook_url is not None and not webhook_permitted(target.webhook_url, url):
            return SlackAnswer(0, "the URL of the incoming webhook is not Slack's")
        body = {} if target.webhook_url is None else {"text": ""}
        return ask(target, url, self._settings.SLACK_TIMEOUT, body, "auth.test")


def target_of(account: SlackAccount, vault: Vault) -> SlackTarget:
    """Return an account with its secret. Raises :class:`SecretUnreadable`."""
    token = None if account.bot_token is None else vault.decrypt(account.bot_token)
    url = None if account.webhook_url is None else vault.decrypt(account.webhook_url)
    return SlackTarget(account.name, token, url)
