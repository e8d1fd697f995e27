"""The DNS records that a sending domain needs, for people to publish. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailbbgun.domains.keys import record_value

#: Octets of one string of a TXT record (RFC 1035 §3.3). A longer value is several strings.
LONGEST_STRING = 255

DKIM, SPF, DMARC = PURPOSES = ("dkim", "spf", "dmarc")

#: What the SPF record of a domain must name, by preset of an SMTP account: each provider's manual says so.
SPF_OF_PRESET = {
    "gmail": "include:_spf.google.com",
    "outlook": "include:spf.protection.outlook.com",
    "exmail": "include:spf.mail.qq.com",
    "aliyun": "include:spf1.dm.aliyun.com",
    "ses": "include:amazonses.com",
    "sendgrid": "include:sendgrid.net",
    "mailgun": "include:mailgun.org",
    "postmark": "include:spf.mtasv.net",
}

_SPECIAL = re.compile(r'(["\\])')


class PublicKey(Protocol):
    """What a record says of a key."""

    @property
    def selector(self) -> str:
        """Where its record stands."""

    @property
    def algorithm(self) -> str:
        """Its algorithm."""

    @property
    def public_key(self) -> str:
        """Its p=."""


@dataclass(frozen=True, slots=True)
class Record:
    """A TXT record to publish. ``value`` is all of it."""

    purpose: str  # one of PURPOSES
    name: str
    value: str
    type: str = "TXT"

    @property
    def strings(self) -> list[str]:
        """The value in strings of at most 255 octets, as some DNS panels want it."""
        return [self.value[start : start + LONGEST_STRING] for start in range(0, len(self.value), LONGEST_STRING)]

    @property
    def zone(self) -> str:
        """The record as a line of a zone file (RFC 1035 §5.1)."""
        quoted = " ".join('"' + _SPECIAL.sub(r"\\\1", one) + '"' for one in self.strings)
        return f"{self.name}. IN {self.type} {quoted}"


def key_name(selector: str, domain: str) -> str:
    """Return the name of a key's record (RFC 6376 §3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def key_record(domain: str, key: PublicKey) -> Record:
    """Return the record of a key."""
    return Record(DKIM, key_name(key.selector, domain), record_value(key.algorithm, key.public_key))


def records(domain: str, keys: Iterable[PublicKey], mechanisms: Sequence[str]) -> list[Record]:
    """Return all records of a domain that sends with these keys.

    ``mechanisms`` are what its SPF record must name (RFC 7208 §5). Without any there is no SPF record
    among them: nobody knows yet which servers send its mail.
    """
    found = [key_record(domain, key) for key in keys]
    if mechanisms:
        found.append(Record(SPF, domain, f"v=spf1 {' '.join(mechanisms)} ~all"))
    return [*found, Record(DMARC, f"_dmarc.{domain}", "v=DMARC1; p=none")]
