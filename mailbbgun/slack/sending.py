"""The verb: choose account, channel and thread of a message to Slack, and hand it to ``accept``."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailbbgun.accept.accept import Accepted, Accepting, Acceptor
from mailbbgun.accept.checks import Wrong, check_options
from mailbbgun.accept.draft import PreparedSubmission
from mailbbgun.accept.fields import PLAIN, Options
from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import InvalidInput
from mailbbgun.database.db import Database
from mailbbgun.messages.models import Delivery, Message
from mailbbgun.relays.slack.medium import SIMULATED, SLACK_PREFIX, slack_account_of, slack_sender
from mailbbgun.relays.slack.relay import THREAD
from mailbbgun.settings.settings import Settings
from mailbbgun.slack.layout import SlackContent, cut, payload
from mailbbgun.slack_accounts import edit, repo
from mailbbgun.slack_accounts.models import SlackAccount

#: A time stamp by which Slack names a message.
TS = re.compile(r"[0-9]{1,12}\.[0-9]{1,9}")
#: Bytes of the JSON that Slack gets, at most.
LARGEST = 400_000
#: Characters of a subject: the title, or the beginning of the text.
SUBJECT = 150
#: What the sender of a test key's messages is called, and where they go if they name no channel.
SIMULATOR, SIMULATED_CHANNEL = "Slack simulator", "#simulator"
#: The recipient of messages through an incoming webhook, if neither message nor account names a channel.
WEBHOOK_CHANNEL = "webhook"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackMessage:
    """A message to Slack, whose values have the right types.

    ``account`` is a name or an id; None: the one of the thread, else the default one. ``channel`` is None
    for the one of the thread, else the account's. ``thread`` is the id of an earlier message, or the
    time stamp by which Slack knows one.
    """

    content: SlackContent
    account: str | None = None
    channel: str | None = None
    thread: str | None = None


class _Earlier(NamedTuple):
    """The message in whose thread another goes."""

    id: UUID
    sender: str
    channel: str


class SlackDoor:
    """Accepts messages to Slack."""

    def __init__(self, settings: Settings, database: Database, acceptor: Acceptor) -> None:
        self._settings, self._database, self._acceptor = settings, database, acceptor

    def accept(self, message: SlackMessage, caller: Caller, options: Options = PLAIN) -> Accepting:
        """Check a caller's message. It is stored when the result of what this returns is asked for.

        Raises :class:`InvalidInput`, :class:`Forbidden`, :class:`DatabaseUnavailable`, and what
        ``Acceptor.accept`` does.
        """
        edit.check_caller(caller)
        wrong: Wrong = {}
        check_options(options, self._settings, wrong)
        if wrong:
            raise InvalidInput("Some fields are not valid.", fields=wrong)
        with self._database.read(caller.tenant_id) as session:
            prepared = _prepared(session, message, caller)
        return self._acceptor.accept(prepared, caller, options)

    def send(self, tenant_id: UUID, message: SlackMessage, key: str, *, options: Options = PLAIN) -> Accepted:
        """Store a message of our own for a tenant, such as an alert; return when it is stored.

        Repeated with the same ``key``, 1 to 255 printable ASCII characters, it returns the first answer, and nothing
        is sent twice. ``thread`` may be the ``id`` that an earlier call returned. Raises what :meth:`accept` does, and
        :class:`IdempotencyMismatch` for a key that was used for another message.
        """
        caller = Caller(tenant_id, scopes=frozenset({Scope.WRITE}))
        return self.accept(message, caller, options.with_key(key)).result()


def _prepared(session: Session, message: SlackMessage, caller: Caller) -> PreparedSubmission:
    earlier = _earlier(session, message.thread, caller) if message.thread else None
    # A test key sees nothing of live data, so its messages need no account, and any name is right.
    account = None if caller.tests_only else _account(session, message, earlier, caller.tenant_id)
    sender = slack_sender(account.id) if account else SIMULATED
    if earlier and earlier.sender != sender:
        raise _wrong("account", f"The thread's message {earlier.id} went through another account: leave this out.")
    body: dict[str, Any] = payload(message.content)
    if earlier:
        body[THREAD] = str(earlier.id)
    elif message.thread:
        body["thread_ts"] = message.thread
    text = json.dumps(body, separators=(",", ":"))
    if len(text) > LARGEST:
        raise _wrong("blocks", f"The message has {len(text)} bytes of JSON, and {LARGEST} are the most.")
    return PreparedSubmission(
        sender=sender,
        sender_name=account.name if account else SIMULATOR,
        recipient=_channel(message, account, earlier),
        subject=_subject(message.content),
        body=text,
    )


def _subject(content: SlackContent) -> str:
    said = content.title or content.text or "(blocks)"
    return cut("".join(one if one.isprintable() else " " for one in " ".join(said.split())), SUBJECT)


def _account(session: Session, message: SlackMessage, earlier: _Earlier | None, tenant_id: UUID) -> SlackAccount:
    """Return the account of a message. Raises :class:`InvalidInput`."""
    if message.account is not None:
        found = repo.called(session, tenant_id, message.account)
        if found is None:
            raise _wrong("account", f"There is no Slack account {message.account[:64]!r}.")
        return found
    found = repo.account(session, tenant_id, slack_account_of(earlier.sender)) if earlier else None
    found = found or repo.default(session, tenant_id)
    if found is None:
        raise _wrong("account", "There is no default Slack account: name one, or set one up by POST /slack/accounts.")
    return found


def _channel(message: SlackMessage, account: SlackAccount | None, earlier: _Earlier | None) -> str:
    if earlier and message.channel not in (None, earlier.channel):
        raise _wrong("channel", f"The thread is in {earlier.channel}: leave this out.")
    of_thread = earlier.channel if earlier else None
    if channel := message.channel or of_thread or (account.default_channel if account else None):
        return channel
    if account is None:
        return SIMULATED_CHANNEL
    if account.kind == "webhook":
        return WEBHOOK_CHANNEL
    raise _wrong("channel", "Name a channel, like #alerts: the account has no default_channel.")


def _earlier(session: Session, thread: str, caller: Caller) -> _Earlier | None:
    """Return the message that a thread belongs to; None if the thread is a time stamp. Raises :class:`InvalidInput`."""
    if TS.fullmatch(thread):
        return None
    try:
        message_id = UUID(thread)
    except ValueError:
        raise _wrong(
            "thread", f"{thread[:60]!r} is neither the id of a message nor a time stamp like 1503435956.000247."
        ) from None
    found = select(Message.mail_from, Delivery.address).join(Delivery, Delivery.message_id == Message.id)
    its = (Message.tenant_id == caller.tenant_id, Delivery.tenant_id == caller.tenant_id, Message.id == message_id)
    row = session.execute(found.where(*its, Message.test == caller.tests_only)).first()
    if row is None or not row[0].startswith(SLACK_PREFIX):
        raise _wrong("thread", f"There is no message to Slack with the id {message_id}.")
    return _Earlier(message_id, *row)


def _wrong(name: str, why: str) -> InvalidInput:
    return InvalidInput("Some fields are not valid.", fields={name: [why]})


def from_given(given: Mapping[str, Any]) -> SlackMessage:
    """Return the message of a request's fields."""
    names = ("text", "title", "level", "fields", "blocks")
    content = SlackContent(**{name: given[name] for name in names if given.get(name) is not None})
    where = {name: given.get(name) for name in ("account", "channel", "thread")}
    return SlackMessage(content=content, **where)
