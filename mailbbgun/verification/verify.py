"""Verifies the sender of one received message: SPF, DKIM, ARC and DMARC, in this order."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mailbbgun.relays.mx import Resolver
from mailbbgun.verification import chain, dmarc, fields, signatures, spf
from mailbbgun.verification.look_ups import BoundedLookUps
from mailbbgun.verification.message import SignedMessage
from mailbbgun.verification.verdict import ARCResult, DKIMResult, DMARCResult, SenderVerdict, SPFResult

log = logging.getLogger(__name__)

#: Seconds of DNS queries about one message, and of those for SPF, which come first: a slow answer about the
#: client must not cost us the signatures.
SECONDS, SPF_SECONDS = 10.0, 4.0

#: DNS queries for SPF: ten terms of it, each of which may name ten hosts (RFC 7208 §4.6.4); and for all else.
SPF_QUERIES, QUERIES = 120, 60

T = TypeVar("T")


def verify(
    raw: bytes,
    mail_from: str,
    helo: str,
    client_ip: str,
    resolver: Resolver,
    authserv_id: str,
    *,
    seconds: float = SECONDS,
) -> SenderVerdict:
    """Return what is known about the sender of a message.

    ``raw`` has lines that end in CRLF. ``mail_from`` is empty for the null sender. ``authserv_id`` is our host name
    (RFC 8601 §2.5). It waits for the DNS for ``seconds`` at most, so call it in a thread. It never raises: what a
    library cannot take is a permanent error of that method.
    """
    message = SignedMessage(raw)
    for_spf = BoundedLookUps(resolver, seconds * SPF_SECONDS / SECONDS, SPF_QUERIES)
    rest = BoundedLookUps(resolver, seconds, QUERIES)
    reason = "the library cannot read it"
    of_spf = _safely(
        lambda: spf.check(client_ip, mail_from, helo, for_spf), SPFResult("permerror", "", "mailfrom", reason)
    )
    unread: tuple[DKIMResult, ...] = (DKIMResult("permerror", reason=reason),)
    of_dkim = _safely(lambda: signatures.check(message, rest), unread)
    of_dmarc = _safely(
        lambda: dmarc.check(message.header, of_spf, of_dkim, rest), DMARCResult("permerror", reason=reason)
    )
    of_arc = _safely(lambda: chain.check(message, rest), ARCResult("fail", reason=reason))
    told = fields.authentication_results(authserv_id, of_spf, of_dkim, of_arc, of_dmarc)
    return SenderVerdict(of_spf, of_dkim, of_arc, of_dmarc, told)


def _safely(check: Callable[[], T], otherwise: T) -> T:
    """Return the result of one method. Strangers write what the libraries read, and not all they do is expected.

    The log says where it happened in one line: a stranger could fill it with the calls that led there.
    """
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - see above
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        log.error("verification_failed", extra={"error": f"{type(error).__name__}: {str(error)[:200]}", "where": where})
        return otherwise
