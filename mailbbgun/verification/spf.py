"""Asks pyspf whether a domain permits a client's address (RFC 7208)."""

import spf

from mailbbgun.relays.mx import NoAnswer
from mailbbgun.verification.look_ups import LONGEST_TEXT, BoundedLookUps
from mailbbgun.verification.verdict import SPFResult, SPFWord

#: Octets of a domain name (RFC 1035 §3.1) and of a local part that are looked at.
_LONGEST_DOMAIN, _LONGEST_LOCAL = 253, 256

_WORDS: dict[str, SPFWord] = {
    "none": "none",
    "neutral": "neutral",
    "pass": "pass",
    "fail": "fail",
    "softfail": "softfail",
    "temperror": "temperror",
    "permerror": "permerror",
}


class _Query(spf.query):  # type: ignore[misc]  # pyspf has no types
    """pyspf's evaluation, with our DNS in place of its own. Its limits are those of RFC 7208 §4.6.4."""

    def __init__(self, look_ups: BoundedLookUps, client_ip: str, sender: str, helo: str) -> None:
        super().__init__(i=client_ip, s=sender, h=helo)
        self._look_ups = look_ups

    def dns(self, name: object, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[object]:
        """Return records in pyspf's form. The resolver follows CNAMEs. "None at all" counts as void."""
        asked = str(name).removesuffix(".").lower()
        if not asked or any(not 0 < len(label) < 64 for label in asked.split(".")):
            return []
        try:
            records = self._look_ups.ask(asked, qtype)
        except NoAnswer as error:
            raise spf.TempError(str(error)) from error
        found = [_in_pyspf_form(record, qtype) for record in records]
        if not found and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError(f"Void lookup limit of {spf.MAX_VOID_LOOKUPS} exceeded")
        return found

    def dns_txt(self, domainname: str, rr: str = "TXT", ignore_void: bool = False) -> list[bytes]:
        """Return TXT records. One of SPF that is too long is an error; others do not matter."""
        texts: list[bytes] = super().dns_txt(domainname, rr, ignore_void)
        if any(len(text) > LONGEST_TEXT and text[:6].lower() == b"v=spf1" for text in texts):
            raise spf.PermError(f"The SPF record has more than {LONGEST_TEXT} octets")
        return [text for text in texts if len(text) <= LONGEST_TEXT]

    def validated_ptrs(self) -> list[str]:
        """Return the names of the client that lead back to it. One that the DNS does not tell is skipped (§5.5)."""
        try:
            names = self.dns_ptr(self.i)[: spf.MAX_PTR]
        except spf.TempError:
            return []
        return [name for name in names if self._leads_back(name)]

    def _leads_back(self, name: str) -> bool:
        try:
            return bool(self.cidrmatch(self.dns_a(name, self.A), self.cidrmax))
        except spf.TempError:
            return False

    def get_explanation(self, spec: str) -> None:
        """Do not fetch the domain's explanation (exp=): nobody reads it."""


def _in_pyspf_form(record: object, kind: str) -> object:
    match kind:
        case "MX":
            return (getattr(record, "preference", 0), str(getattr(record, "exchange", "")))
        case "PTR":
            return str(getattr(record, "target", "")).removesuffix(".")
        case "TXT":
            return tuple(getattr(record, "strings", ()))
    return str(getattr(record, "address", ""))


def check(client_ip: str, mail_from: str, helo: str, look_ups: BoundedLookUps) -> SPFResult:
    """Check MAIL FROM, or EHLO if the sender is null (RFC 7208 §2.4).

    Errors of the DNS and of records are results. Another exception is a bug of the library.
    """
    local, at, domain = mail_from.rpartition("@")
    identity, checked = ("mailfrom", domain) if at else ("helo", helo)
    domain = checked.lower().removesuffix(".")
    if not domain or len(domain) > _LONGEST_DOMAIN or not domain.isascii():
        return SPFResult("none", domain[:_LONGEST_DOMAIN], "mailfrom" if at else "helo", "no domain to check")
    sender = f"{local[:_LONGEST_LOCAL]}@{domain}" if at else ""
    query = _Query(look_ups, client_ip, sender, domain if not at else helo[:_LONGEST_DOMAIN])
    word, _, text = query.check()
    reason = text if word in ("temperror", "permerror") else ""
    return SPFResult(_WORDS.get(word, "permerror"), domain, "mailfrom" if identity == "mailfrom" else "helo", reason)
