"""What the relay to Slack asks of the database: accounts, and where earlier messages were posted."""

from uuid import UUID

from sqlalchemy import select

from mailbbgun.core.errors import SecretUnreadable
from mailbbgun.database.crypto import Vault
from mailbbgun.database.db import Database, db_now
from mailbbgun.messages.models import Delivery
from mailbbgun.messages.status import DELIVERED, PENDING
from mailbbgun.relays.slack.answers import Posted, posted
from mailbbgun.relays.slack.client import SlackTarget
from mailbbgun.relays.slack.relay import NotPostedYet, Unusable
from mailbbgun.slack_accounts import repo
from mailbbgun.slack_accounts.connection_test import target_of

#: Seconds after which a message asks again for the one in whose thread it goes: at least, and at most.
SOON, LATE = 1.0, 900.0


class StoredSlack:
    """Keeps the promises of ``SlackSource``. Thread-safe.

    It reads an account for each message: Slack takes about one message a second, and a change of the
    account is used at once.
    """

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database, self._vault = database, vault

    def target(self, account_id: UUID) -> SlackTarget:
        """Return an account. Raises :class:`Unusable`, :class:`DatabaseUnavailable`."""
        with self._database.read() as session:
            account = repo.of_any_tenant(session, account_id)
        if account is None:
            raise Unusable("the Slack account was deleted", gone=True)
        if not account.enabled:
            raise Unusable(f"the Slack account {account.name} is not enabled")
        try:
            return target_of(account, self._vault)
        except SecretUnreadable as error:
            raise Unusable(f"the secret of the Slack account {account.name} cannot be decrypted") from error

    def thread(self, message_id: UUID) -> Posted | None:
        """Return where a message is; None if it was not posted, or nobody knows where.

        Accept has checked that it is the same tenant's. Raises :class:`NotPostedYet`,
        :class:`DatabaseUnavailable`.
        """
        found = select(Delivery.status, Delivery.reply, Delivery.next_attempt_at, db_now())
        with self._database.read() as session:
            rows = session.execute(found.where(Delivery.message_id == message_id)).all()
        for status, reply, due, now in rows:  # it has one delivery
            if status == DELIVERED:
                return posted(reply)
            if status == PENDING:
                wait = (due - now).total_seconds() if due is not None else LATE
                raise NotPostedYet(message_id, min(max(wait + SOON, SOON), LATE))
        return None
