"""Signs a mail between reading and sending it, if From is of a sending domain (``domains/signing.py``)."""

from collections.abc import Iterable
from dataclasses import replace

from mailbbgun.database.db import Database
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.domains.repo import KeyRow
from mailbbgun.domains.signing import DomainKeys, Signer
from mailbbgun.drivers.operations import InThread
from mailbbgun.smtp.downgrade import header_of
from mailbbgun.smtp.envelope import Envelope


async def with_signature(keys: DomainKeys, db: Database, transaction: Transaction, envelope: Envelope) -> Envelope:
    """Return the envelope with what signs its message, and note the selectors in the transaction.

    The message is signed in a thread: an RSA signature takes half a millisecond, a large body more.
    If no key is for it, the envelope is returned as it is. Raises :class:`SecretUnreadable` and
    :class:`DatabaseUnavailable`.
    """
    transaction.selectors = []
    if not keys.knows(transaction.tenant_id):
        await InThread(lambda: keys.load(db, {transaction.tenant_id}), reads=True)
    rows = keys.keys_for(transaction.tenant_id, transaction.author, transaction.message_id)
    if not rows:
        return envelope
    signer, transaction.selectors = await InThread(lambda: _signed(keys, db, transaction, envelope, rows), reads=True)
    return replace(envelope, sign=signer)


def _signed(
    keys: DomainKeys, db: Database, transaction: Transaction, envelope: Envelope, rows: list[KeyRow]
) -> tuple[Signer | None, list[str]]:
    """Sign the message as it is; the signer remembers that."""
    header = header_of(envelope.raw)

    def body() -> Iterable[bytes]:
        return (envelope.raw[len(header) :],)

    signer = keys.signer(db, transaction.message_id, rows, body)
    if signer is None:
        return None, []
    signer(header)
    return signer, signer.selectors(header)
