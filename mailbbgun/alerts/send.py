"""The verb: send the notices that are due.

A mail goes through ``accept`` like any other, with the notice's id as its idempotency key: if this process dies
between the message and the mark that the notice is done, the next try finds the message and makes no second one.
A request to the rule's URL has the notice's id as ``webhook-id``, by which its receiver recognizes a second one.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select

from mailbbgun.accept.accept import Accepted, Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.fields import Fields, Options
from mailbbgun.accept.store import Store
from mailbbgun.alerts import notices, repo
from mailbbgun.alerts.models import Alert, Notice
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core.caller import ANYONE, Caller
from mailbbgun.core.errors import DatabaseUnavailable, IdempotencyMismatch, InvalidInput, MailBBGunError, Unavailable
from mailbbgun.database.db import db_now
from mailbbgun.messages.publisher import Publisher
from mailbbgun.outgoing.http import HTTPClient, NoHTTPAnswer
from mailbbgun.services import Services
from mailbbgun.slack.layout import SlackContent
from mailbbgun.slack.sending import SlackDoor, SlackMessage
from mailbbgun.smtp_accounts.sender import identities
from mailbbgun.templates.resolve import Templates

#: Seconds for which a process has a notice in hand. If it dies, another one takes the notice then.
IN_HAND = 30
#: Channels that take no time, and those whose servers may be silent: these must not hold up the others.
QUICK, SLOW = ("mail", "slack"), ("webhook",)
#: Seconds between tries: the first, the second … The last one repeats.
WAITS = (5, 15, 60, 300, 1800)
#: After this a notice is given up: by then nobody wants it any more.
GIVEN_UP = timedelta(hours=20)
#: Seconds in which a URL must answer.
HTTP_SECONDS = 10.0
#: The tag of mails about alerts, and their priority: they go before others.
TAG, PRIORITY = "alert", 8

log = logging.getLogger("mailbbgun.alerts")


class _Refused(Exception):
    """A notice cannot be sent, now or later. The text says why."""


class _NotYet(Exception):
    """A notice could not be sent now. The text says why."""


@dataclass(frozen=True, slots=True)
class AlertDoor:
    """The way into accept for mails about alerts, as every door has one."""

    acceptor: Acceptor
    store: Store
    publisher: Publisher

    @classmethod
    def of(cls, services: Services) -> "AlertDoor":
        """Make a door for this process."""
        store = Store(services.db, services.settings.IDEMPOTENCY_SECONDS)
        publisher = Publisher(services.db, services.queue, services.outages)
        attached, templates = Attached(services, Inspector(services)), Templates(services.db)
        return cls(Acceptor(services.settings, store, publisher, attached, templates), store, publisher)

    def close(self) -> None:
        """Write what waits, and stop."""
        self.store.close()
        self.publisher.close()


class Sender:
    """Sends notices for one worker process."""

    def __init__(self, services: Services, stopped: Callable[[], bool]) -> None:
        settings = services.settings
        self._services, self._stopped = services, stopped
        self._door = AlertDoor.of(services)
        self._http = HTTPClient.permitting(settings.ALLOW_PRIVATE_HOSTS)
        self._slack_door = SlackDoor(settings, services.db, self._door.acceptor)
        self._ways: dict[str, Callable[[Alert, Notice], UUID | None]] = {
            "mail": self._mail,
            "slack": self._slack,
            "webhook": self._post,
        }

    def close(self) -> None:
        """Close what it sends with."""
        self._door.close()
        self._http.close()

    def turn(self, channels: Collection[str]) -> None:
        """Send all notices on these channels that are due. Raises :class:`DatabaseUnavailable`."""
        while not self._stopped():
            with self._services.db.write() as session:
                taken = repo.claim_notice(session, channels, IN_HAND)
            if taken is None:
                return
            notice_id, tenant_id = taken
            self._send(tenant_id, notice_id)

    def _send(self, tenant_id: UUID, notice_id: UUID) -> None:
        with self._services.db.read(tenant_id) as session:
            notice = repo.notice(session, tenant_id, notice_id)
            alert = repo.alert(session, tenant_id, notice.alert_id) if notice else None
            now = session.scalars(select(db_now())).one()
        if notice is None or alert is None:  # somebody has deleted the rule
            return
        values: dict[str, Any]
        try:
            values = {"done_at": now, "error": None, "message_id": self._ways[notice.channel](alert, notice)}
        except _NotYet as error:
            values = self._later(notice, now, str(error))
        except _Refused as error:
            values = {"done_at": now, "error": str(error)}
        except DatabaseUnavailable:
            raise
        except Exception as error:  # a fault about one notice must stop neither the others nor the worker's mail
            log.exception("alert_notice_broken", extra={"alert_id": alert.id, "tenant_id": tenant_id})
            values = self._later(notice, now, type(error).__name__)
        with self._services.db.write(tenant_id) as session:
            repo.note(session, tenant_id, notice_id, values)
        if (why := values["error"]) is not None:
            told = {"alert_id": alert.id, "tenant_id": tenant_id, "channel": notice.channel, "why": why}
            log.warning("alert_notice_failed" if "done_at" in values else "alert_notice_waits", extra=told)

    @staticmethod
    def _later(notice: Notice, now: datetime, why: str) -> dict[str, Any]:
        if now - notice.created_at > GIVEN_UP:
            return {"done_at": now, "error": f"given up: {why}"}
        wait = WAITS[min(notice.tries, len(WAITS)) - 1]
        return {"due_at": now + timedelta(seconds=wait), "error": why}

    def _mail(self, alert: Alert, notice: Notice) -> UUID | None:
        settings = self._services.settings
        told = notices.words(alert, notice, settings.PUBLIC_URL)
        headers = {"Auto-Submitted": "auto-generated", **notices.thread(notice, settings.HOSTNAME)}
        submission = Fields(
            to=alert.emails,
            subject=told.subject,
            text=told.text,
            headers=headers,
            message_id_header=notices.message_id(notice.change_id, settings.HOSTNAME),
        )
        options = _options(notice)
        caller = self._caller(alert.tenant_id)
        return _stored(lambda: self._door.acceptor.accept(submission, caller, options).result())

    def _slack(self, alert: Alert, notice: Notice) -> UUID | None:
        told = notices.words(alert, notice, self._services.settings.PUBLIC_URL)
        with self._services.db.read(alert.tenant_id) as session:
            found = [repo.message_of(session, alert.tenant_id, UUID(one), "slack") for one in notice.answers]
        thread = next((str(one) for one in found if one is not None), None)
        message = SlackMessage(
            content=SlackContent(text=told.text, title=told.subject, level=told.level),
            channel=None if thread else alert.slack_channel,  # a thread stays in its channel
            thread=thread,
        )
        key, options = _key(notice), _options(notice)
        return _stored(lambda: self._slack_door.send(alert.tenant_id, message, key, options=options))

    def _caller(self, tenant_id: UUID) -> Caller:
        """Return the tenant as a caller without a key. Notices count against no quota."""
        with self._services.db.read() as session:
            identity = identities(session, [tenant_id]).get(tenant_id, ANYONE)
        return Caller(tenant_id, identity=identity, has_suppressions=True)

    def _post(self, alert: Alert, notice: Notice) -> UUID | None:
        body = orjson.dumps(notices.payload(alert, notice, self._services.settings.PUBLIC_URL))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": f"msg_{notice.id.hex}",
            "webhook-timestamp": str(int(notice.created_at.timestamp())),
        }
        try:
            answer = self._http.post(alert.webhook_url or "", body, headers, HTTP_SECONDS, repeatable=True)
        except InvalidInput as error:  # NotPermitted is one
            raise _Refused(str(error)) from error
        except NoHTTPAnswer as error:
            raise _NotYet(str(error)) from error
        if 200 <= answer.status < 300:
            return None
        why = f"the URL answered {answer.status}"
        if answer.status >= 500 or answer.status in (408, 425, 429):
            raise _NotYet(why)
        raise _Refused(why)


def _key(notice: Notice) -> str:
    return f"alert {notice.id}"


def _options(notice: Notice) -> Options:
    metadata = {notices.MARK: str(notice.id)}
    return Options(tags=[TAG], metadata=metadata, priority=PRIORITY, idempotency_key=_key(notice))


def _stored(store: Callable[[], Accepted]) -> UUID | None:
    """Store a message, and return its id; None if it was stored before, with other words."""
    try:
        return UUID(store().id)
    except IdempotencyMismatch:  # it was accepted before somebody changed the rule
        return None
    except Unavailable as error:
        raise _NotYet(str(error)) from error
    except InvalidInput as error:
        faults = [f"{name}: {' '.join(why)}" for name, why in (error.fields or {}).items()]
        raise _Refused(" ".join(faults) or str(error)) from error
    except MailBBGunError as error:
        raise _Refused(str(error)) from error
