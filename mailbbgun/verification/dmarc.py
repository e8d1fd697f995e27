"""Decides whether SPF or a signature stands for the domain in From (RFC 7489).

The organizational domain is found by the public suffix list, of which tldextract brings a copy; nothing is fetched.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import getaddresses
from functools import lru_cache

from tldextract import TLDExtract

from mailbbgun.core import addresses
from mailbbgun.domains.dkim import split
from mailbbgun.relays.mx import NoAnswer
from mailbbgun.verification.look_ups import BoundedLookUps
from mailbbgun.verification.verdict import DKIMResult, DMARCResult, SPFResult, Wish

#: Domains in From that are judged, and octets of a From field that are read. More make DMARC fail.
MOST_DOMAINS, _LONGEST_FROM = 4, 8192

#: Comments in From. Python's parser calls itself for each that stands in another.
_MOST_COMMENTS = 50

#: The wishes of owners, and the next milder one of each (RFC 7489 §6.6.4).
_WISHES: dict[str, Wish] = {"none": "none", "quarantine": "quarantine", "reject": "reject"}
_MILDER: dict[Wish, Wish] = {"none": "none", "quarantine": "none", "reject": "quarantine"}
_SEVERITY = list(_WISHES.values())

_AT = re.compile(r"@\s*([^\s@<>()\[\]\\,;:\"]+)")


@dataclass(frozen=True, slots=True)
class DMARCRecord:
    """What the owner of a domain published, as far as it matters to a receiver."""

    wish: Wish
    wish_below: Wish  # for subdomains
    strict_dkim: bool
    strict_spf: bool


@lru_cache(maxsize=1)
def _suffixes() -> TLDExtract:
    return TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)


def organizational(domain: str) -> str:
    """Return the organizational domain of a domain in A-labels (RFC 7489 §3.2)."""
    found = _suffixes()(domain)
    if not found.suffix:  # the list does not know its end: of any such domain, that is one label (*)
        return ".".join(domain.split(".")[-2:])
    return found.top_domain_under_public_suffix.lower() or domain


def from_domains(header: bytes) -> list[str] | None:
    """Return the domains of all authors, in A-labels; None if they cannot be told.

    A mail program may show any of them, so all of them count.
    """
    values = [whole.partition(b":")[2] for name, whole in split(header) if name == b"from"]
    if sum(map(len, values)) > _LONGEST_FROM or sum(value.count(b"(") for value in values) > _MOST_COMMENTS:
        return None
    texts = [value.decode("utf-8", "replace").replace("\r\n", "") for value in values]
    found: dict[str, None] = {}
    for text in texts:
        read = [address for _, address in getaddresses([text]) if "@" in address]
        names = [address.rpartition("@")[2] for address in read] or _AT.findall(text)
        for name in names:
            try:
                found[addresses.domain(name.strip().removesuffix("."))] = None
            except ValueError:
                return None
    return list(found) if 0 < len(found) <= MOST_DOMAINS else None


def parsed(text: bytes) -> DMARCRecord | None:
    """Read a TXT record; None if it is not a DMARC record (RFC 7489 §6.3)."""
    tags: dict[str, str] = {}
    for place, part in enumerate(text.decode("ascii", "replace").split(";")):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if place == 0 and (name, value) != ("v", "DMARC1"):
            return None
        tags.setdefault(name.lower(), value.lower())
    wish = _WISHES.get(tags.get("p", ""))
    if wish is None:  # RFC 7489 §6.6.3 (6): reports may be wanted all the same
        return DMARCRecord("none", "none", False, False) if tags.get("rua") else None
    below = _WISHES.get(tags.get("sp", ""), wish)
    if tags.get("t") == "y" or _percent(tags.get("pct", "100")) < 100:
        # The owner still tries it out. The mails that pct would choose at random get the milder treatment, too.
        wish, below = _MILDER[wish], _MILDER[below]
    return DMARCRecord(wish, below, tags.get("adkim") == "s", tags.get("aspf") == "s")


def _percent(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,3}", text) else 100


def check(header: bytes, spf: SPFResult, dkim: Sequence[DKIMResult], look_ups: BoundedLookUps) -> DMARCResult:
    """Judge each domain in From; the result is the worst of them."""
    domains = from_domains(header)
    if domains is None:
        return DMARCResult("permerror", reason="From has no domain, too many, or one that cannot be read")
    results = [_of_domain(domain, spf, dkim, look_ups) for domain in domains]
    worst = ("fail", "temperror", "permerror", "none", "pass")
    return min(results, key=lambda result: (worst.index(result.result), -_SEVERITY.index(result.wish)))


def _of_domain(domain: str, spf: SPFResult, dkim: Sequence[DKIMResult], look_ups: BoundedLookUps) -> DMARCResult:
    organization = organizational(domain)
    try:
        record, wish = _published(domain, organization, look_ups)
    except NoAnswer as error:
        return DMARCResult("temperror", domain, reason=str(error))
    if record is None:
        return DMARCResult("none", domain)
    result = DMARCResult("fail", domain, wish, "neither SPF nor a signature stands for the domain")
    of_spf = spf.result if _aligned(spf.domain, domain, organization, record.strict_spf) else "none"
    of_dkim = {one.result for one in dkim if _aligned(one.domain, domain, organization, record.strict_dkim)}
    if of_spf == "pass" or "pass" in of_dkim:
        return replace(result, result="pass", reason="")
    if of_spf == "temperror" or "temperror" in of_dkim:
        return replace(result, result="temperror", reason="the DNS did not answer")
    return result


def _published(domain: str, organization: str, look_ups: BoundedLookUps) -> tuple[DMARCRecord | None, Wish]:
    """Return the record that applies to a domain, and its wish (RFC 7489 §6.6.3). Raises :class:`NoAnswer`."""
    if record := _record_at(domain, look_ups):
        return record, record.wish
    if organization != domain and (record := _record_at(organization, look_ups)):
        return record, record.wish_below
    return None, "none"


def _record_at(domain: str, look_ups: BoundedLookUps) -> DMARCRecord | None:
    """Return the record of one domain. If there are several, none of them counts."""
    records = [record for text in look_ups.texts(f"_dmarc.{domain}") if (record := parsed(text))]
    return records[0] if len(records) == 1 else None


def _aligned(proven: str, domain: str, organization: str, strict: bool) -> bool:
    """Return whether a proven domain stands for the one in From (RFC 7489 §3.1)."""
    if not proven or not proven.isascii():
        return False
    return proven == domain or (not strict and organizational(proven) == organization)
