"""Tells how receivers would judge a mail by DKIM, SPF and DMARC, from what the DNS said when it was last asked."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from mailbbgun.core import addresses
from mailbbgun.database.db import Database
from mailbbgun.domains import repo
from mailbbgun.domains.dns import findings
from mailbbgun.domains.dns.findings import DKIM, DMARC, MISSING, OK, SPF, UNKNOWN, aligned, tags_of
from mailbbgun.domains.models import SendingDomain
from mailbbgun.domains.repo import KeyRow

Finding = Mapping[str, Any]

_NOT_OURS = "It is none of the tenant's sending domains, so nothing is known of its DNS: POST /domains adds it."
_NOT_ASKED = "The DNS was not asked yet: POST /domains/{domain}/check asks it."


def authentication(
    database: Database, tenant_id: UUID, author: str, mail_from: str, keys: Sequence[KeyRow]
) -> dict[str, Any]:
    """Return how receivers would judge a mail, as ``schemas.AuthenticationShape`` shows it.

    ``author`` is the address in From, ``mail_from`` the envelope's; ``keys`` sign it. Asks no name server.
    Raises :class:`DatabaseUnavailable`.
    """
    name, returned = _domain(author), _domain(mail_from)
    with database.read(tenant_id) as session:
        found = (repo.domain(session, tenant_id, one) for one in _upwards(name))
        known = _Known(next((one for one in found if one), None))
    return judged(name, returned, keys, known.findings, why_unknown=known.why, checked_at=known.checked_at)


class _Known:
    """What is known of a sending domain's DNS."""

    def __init__(self, domain: SendingDomain | None) -> None:
        self.findings: Sequence[Finding] = domain.findings if domain else ()
        self.checked_at = domain.checked_at if domain else None
        self.why = _NOT_ASKED if domain else _NOT_OURS


def judged(
    name: str, returned: str, keys: Sequence[KeyRow], found: Sequence[Finding], *, why_unknown: str, checked_at: Any
) -> dict[str, Any]:
    """Return the judgement, given what the DNS said (pure). ``returned``: the domain that bounces go to."""
    policy = next((one for one in found if one["about"] == DMARC), None)
    tags = tags_of(policy["found"][0]) if policy and policy["found"] else {}
    signers = [key.domain for key in keys]
    dkim_aligned = any(_aligned(name, one, tags.get("adkim", "r")) for one in signers)
    spf_aligned = bool(returned) and _aligned(name, returned, tags.get("aspf", "r"))
    dkim = _of_dkim(keys, found)
    spf = next((one for one in found if one["about"] == SPF and one["name"] == returned), None)
    states = [
        dkim[0] if dkim_aligned else None,
        spf["state"] if spf and spf_aligned else UNKNOWN if spf_aligned else None,
    ]
    return {
        "from_domain": name,
        "checked_at": checked_at,
        "dkim": {
            "signatures": [
                {"domain": key.domain, "selector": key.selector, "algorithm": key.algorithm} for key in keys
            ],
            "aligned": dkim_aligned,
            "state": dkim[0],
            "text": dkim[1],
        },
        "spf": {
            "domain": returned,
            "aligned": spf_aligned,
            "state": spf["state"] if spf else UNKNOWN,
            "text": spf["words"] if spf else f"Nothing is known of the SPF record of {returned or 'the null sender'}.",
        },
        "dmarc": {
            "passes": True if OK in states else None if UNKNOWN in states else False,
            "state": policy["state"] if policy else UNKNOWN,
            "text": policy["words"] if policy else why_unknown,
        },
    }


def _of_dkim(keys: Sequence[KeyRow], found: Sequence[Finding]) -> tuple[str, str]:
    """Return the state of the best signature, and a sentence."""
    if not keys:
        return MISSING, "No key of the tenant signs it. The server that takes it may sign it, for its own domain."
    names = {f"{key.selector}._domainkey.{key.domain}" for key in keys}
    its = [one for one in found if one["about"] == DKIM and one["name"] in names]
    best = next((one for state in (OK, UNKNOWN, *findings.STATES) for one in its if one["state"] == state), None)
    return (best["state"], best["words"]) if best else (UNKNOWN, "The DNS was not asked about the keys that sign it.")


def _aligned(one: str, other: str, mode: str) -> bool:
    """Return whether domains agree, strictly or relaxed (RFC 7489 §3.1)."""
    return one == other if mode.lower() == "s" else aligned(one, other)


def _domain(address: str) -> str:
    """Return the domain of an address in A-labels; empty if it is none."""
    try:
        return addresses.domain(address.rpartition("@")[2])
    except ValueError:
        return ""


def _upwards(name: str) -> Sequence[str]:
    """Return a domain and its parents that have a dot."""
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(max(len(labels) - 1, 1))]
