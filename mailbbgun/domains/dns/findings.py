"""Says in words what the DNS has of a sending domain. Pure: it gets the answers, and asks nobody."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mailbbgun.domains.dns.records import PublicKey, key_name
from mailbbgun.domains.keys import key_type

OK, MISSING, WRONG, UNKNOWN = STATES = ("ok", "missing", "wrong", "unknown")
DKIM, SPF, DMARC, MX, RETURN_PATH = ABOUT = ("dkim", "spf", "dmarc", "mx", "return_path")

#: Characters of a record that a finding shows, and how many records.
SHOWN, MOST_SHOWN = 600, 5

_BLANKS = re.compile(r"[ \t\r\n]+")
_SPF = re.compile(r"v=spf1(?: |$)", re.IGNORECASE)
_DMARC = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|$)")


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The name servers gave no answer; ``why`` says why."""

    why: str


#: TXT records of a name, or why they are not known.
Texts = Sequence[str] | Unanswered


@dataclass(frozen=True, slots=True)
class MailHosts:
    """The servers that take mail for a domain; none, and then ``why``."""

    names: Sequence[str]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the DNS says about one thing. ``found`` are the records that it has."""

    about: str  # one of ABOUT
    name: str
    state: str  # one of STATES
    words: str
    found: Sequence[str] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return it as it is kept in the database."""
        return asdict(self) | {"found": [one[:SHOWN] for one in self.found[:MOST_SHOWN]]}


def of_key(domain: str, key: PublicKey, there: Texts) -> Finding:
    """Return what the DNS says about a key's record (RFC 6376 §3.6.1)."""
    name = key_name(key.selector, domain)
    if isinstance(there, Unanswered):
        return _unknown(DKIM, name, there)
    if not there:
        words = "There is no such record yet: publish it. The DNS may take hours to show it."
        return Finding(DKIM, name, MISSING, words)
    if len(there) > 1:
        words = f"There are {len(there)} TXT records, and receivers need exactly one: delete the others."
        return Finding(DKIM, name, WRONG, words, there)
    tags = tags_of(there[0])
    if tags.get("p") == key.public_key and tags.get("k", "rsa") == key_type(key.algorithm):
        if tags.get("v", "DKIM1") != "DKIM1":
            return Finding(DKIM, name, WRONG, f"It begins with v={tags['v']}, and must with v=DKIM1.", there)
        words = "The key is there."
        if "y" in tags.get("t", "").split(":"):
            words = "The key is there, but t=y says that the domain only tests DKIM: take it out."
        return Finding(DKIM, name, OK, words, there)
    if "p" not in tags:
        why = "It is no DKIM record: it has no p=."
    elif not tags["p"]:
        why = "Its p= is empty, which says that the key was withdrawn."
    elif tags["p"] == key.public_key:
        why = f"Its key type is k={tags.get('k', 'rsa')}, and must be k={key_type(key.algorithm)}."
    elif key.public_key.startswith(tags["p"]):
        why = "Its key is cut off: enter the value in strings of at most 255 characters."
    else:
        why = "It has another key."
    return Finding(DKIM, name, WRONG, f"{why} Replace it by the record that is shown here.", there)


def of_spf(name: str, there: Texts, mechanisms: Sequence[str]) -> Finding:
    """Return what the DNS says about a domain's SPF record (RFC 7208).

    ``mechanisms`` are what it must name, as far as that is known.
    """
    if isinstance(there, Unanswered):
        return _unknown(SPF, name, there)
    found = [one for one in there if _SPF.match(one)]
    if not found:
        example = f"v=spf1 {' '.join(mechanisms) or 'include:…'} ~all"
        example += "" if mechanisms else ", with what your provider says for include"
        return Finding(SPF, name, MISSING, f"There is no SPF record. Publish TXT {example}.")
    if len(found) > 1:
        return Finding(
            SPF, name, WRONG, f"There are {len(found)} SPF records, and with more than one all fail: join them.", found
        )
    terms = found[0].lower().split()[1:]
    if {"+all", "all"} & set(terms):
        words = "It lets every server of the world send as this domain: end it in ~all."
        return Finding(SPF, name, WRONG, words, found)
    if not any(one.lstrip("-~?") == "all" or one.startswith("redirect=") for one in terms):
        return Finding(SPF, name, WRONG, "It does not end in ~all or -all, so it refuses no server.", found)
    direct = {one.lstrip("+") for one in terms}
    if lacking := [one for one in mechanisms if one.lower() not in direct]:
        return Finding(
            SPF,
            name,
            UNKNOWN,
            f"It does not name {' and '.join(lacking)}. Add that, unless another part of it covers these servers.",
            found,
        )
    words = "It names the servers in use." if mechanisms else "There is one SPF record."
    return Finding(SPF, name, OK, words, found)


def of_dmarc(domain: str, there: Mapping[str, Texts], return_paths: Sequence[str]) -> Finding:
    """Return what the DNS says about DMARC (RFC 7489).

    ``there`` has the TXT records of ``_dmarc`` below the domain and below each of its parents, the
    domain first: the first one that exists counts.
    """
    for name, texts in there.items():
        if isinstance(texts, Unanswered):
            return _unknown(DMARC, name, texts)
        if found := [one for one in texts if _DMARC.match(one)]:
            return _dmarc(domain, name, found, return_paths)
    name = f"_dmarc.{domain}"
    return Finding(DMARC, name, MISSING, "There is no DMARC record. Publish TXT v=DMARC1; p=none to begin with.")


def _dmarc(domain: str, name: str, found: Sequence[str], return_paths: Sequence[str]) -> Finding:
    if len(found) > 1:
        return Finding(
            DMARC, name, WRONG, f"There are {len(found)} DMARC records, and with more than one none counts.", found
        )
    tags = tags_of(found[0])
    policy = tags.get("p", "").lower()
    if policy not in ("none", "quarantine", "reject"):
        return Finding(DMARC, name, WRONG, "It needs a policy: p=none, p=quarantine or p=reject.", found)
    if name != f"_dmarc.{domain}":
        policy = tags.get("sp", policy).lower()
    words = [f"Receivers are asked to treat mail that fails as p={policy} says."]
    if policy == "none":
        words = ["It asks receivers only to report: p=none."]
    if tags.get("adkim", "r").lower() == "s":
        words.append("adkim=s: mail from a subdomain fails unless that is a sending domain of its own.")
    others = sorted({one for one in return_paths if one != domain})
    if tags.get("aspf", "r").lower() == "s" and others:
        words.append(f"aspf=s: SPF does not count for mail that is returned to {', '.join(others)}; DKIM does.")
    return Finding(DMARC, name, OK, " ".join(words), found)


def of_mx(domain: str, there: MailHosts | Unanswered) -> Finding:
    """Return what the DNS says about who takes mail for the domain."""
    if isinstance(there, Unanswered):
        return _unknown(MX, domain, there)
    if not there.names:
        return Finding(MX, domain, MISSING, f"Nobody takes mail for it, so answers cannot arrive: {there.why}.")
    return Finding(MX, domain, OK, "Servers take mail for it.", there.names)


def of_return_path(domain: str, name: str, there: MailHosts | Unanswered) -> Finding:
    """Return what the DNS says about a domain that bounces go to. SPF is about this domain."""
    if isinstance(there, Unanswered):
        return _unknown(RETURN_PATH, name, there)
    if not there.names:
        return Finding(RETURN_PATH, name, WRONG, f"Bounces cannot arrive there: {there.why}.")
    if aligned(domain, name):
        words = "Bounces go there. It belongs to the domain, so SPF counts for DMARC."
        return Finding(RETURN_PATH, name, OK, words, there.names)
    words = "Bounces go there. It does not belong to the domain, so only DKIM counts for DMARC, and not SPF."
    return Finding(RETURN_PATH, name, OK, words, there.names)


def aligned(one: str, other: str) -> bool:
    """Return whether two domains are the same, or one is below the other (RFC 7489 §3.1, relaxed)."""
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")


def tags_of(text: str) -> dict[str, str]:
    """Return the tags of a record in the order of the text, without blanks (RFC 6376 §3.2)."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip(): _BLANKS.sub("", value) for name, equals, value in pairs if equals}


def _unknown(about: str, name: str, why: Unanswered) -> Finding:
    return Finding(about, name, UNKNOWN, f"The name servers give no answer; ask again later: {why.why}.")
