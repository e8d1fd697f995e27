"""Finds the recipients that failed in a notice that follows no standard.

Such notices have two halves: words of the mail server, then the mail that came back or its header.
The address stands in the first, on a line of its own or in a sentence; if it does not, the returned
mail's only recipient is meant.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mailbbgun.bounces import addresses, mime

#: Characters of a notice that are read, its lines, and the recipients that are taken from it.
LONGEST, MOST_LINES, MOST_RECIPIENTS = 24_000, 600, 100

_HEADER_LINE = re.compile(
    r"[>|\s]{0,8}(?:received|return-path|message-id|mime-version|subject|date|from|to|content-type|reply-to|"
    r"(?:x|list)-[\w-]{2,40}|dkim-signature|in-reply-to|references|sender|content-transfer-encoding)\s{0,3}:",
    re.IGNORECASE,
)
_RECEIVED = re.compile(r"[>|\s]{0,8}received: (?:from|by|\(qmail)", re.IGNORECASE)
_ORIGINAL = re.compile(
    r"below this line is a copy|this is a copy of (?:the|your) message|copy of (?:the|your) (?:original )?message|"
    r"original message (?:follows|header|text|body)|-- ?(?:your )?(?:the )?original (?:message|mail)|"
    r"(?:unsent|returned|undelivered|rejected) message (?:follows|below|is)|message (?:header|text) follows|"
    r"(?:text|header|headers|body|first \d{1,6} lines) of (?:the |your )?(?:original |returned |failed )?(?:message|"
    r"mail)\b|"
    r"returned (?:message|mail) (?:follows|contents)|--- ?(?:message|mail) headers?|included below is|"
    r"begin(?:ning)? (?:of )?(?:original|returned|message)|original headers|received header:|"
    r"^\s{0,3}the following (?:is|message) (?:a copy|was sent)|following is (?:a copy|the (?:original|message))|"
    r"unsent message below|--- ?(?:undelivered|returned|forwarded|rejected) (?:message|mail)|"
    r"\boriginal mail\b.{0,20}:$",
    re.IGNORECASE,
)
# Behind these words, a few fields of the mail's header stand in the middle of the notice.
_RELATES = re.compile(r"with the following header fields", re.IGNORECASE)
# On a line of its own: <ann@example.com>: … or ann@example.com, perhaps after a label.
_ALONE = re.compile(
    r"[\s>*\-|#.\d()]{0,12}(?:(?P<label>to|recipients?|address|user|e-?mail(?: address)?|mailbox|(?:original|intended) "
    r"recipient|failed (?:recipient|address|addresses)|delivery to|for|undeliverable to|target mail address)\b"
    r"(?:[^@:<]{0,30}[:=]|\s)\s{0,40})?[<\"'(\[]{0,3}(?:smtp:|mailto:|rfc822;\s?)?"
    r"(?P<address>[^\s<>\"'(),;:]{1,200}@[\w.\-\[\]]{1,200})[>\"'):\].,;]{0,5}",
    re.IGNORECASE,
)
# What a server says of a recipient that it begins a line with.
_BLAMED = re.compile(r"\s{0,8}<(?P<address>[^\s<>]{1,200}@[\w.\-]{1,200})>(?::| \((?:expanded|generated) from)")
# The line before a list of recipients.
_INTRODUCES = re.compile(
    r"following|recipient|address(?:es|ed)?\b.{0,40}(?::|$)|deliver\w{0,8}(?: \w{1,20}){0,3} to\b|did not reach|"
    r"because|undeliver|not (?:be )?(?:sent|delivered)|fatal error|pas pu",
    re.IGNORECASE,
)
_FAILED = re.compile(
    r"fail|undeliver|not (?:be |been )?(?:deliver|reach|sent|found|exist)|unknown|reject|refus|unable|"
    r"could(?:n't| not)|"
    r"no such|invalid|illegal|does(?:n't| not)|did not|was(?:n't| not)|wasn't|bounce|full|quota|exceed|error|denied|"
    r"disabled|inactive|no longer|expired|warning|delay|rcpt to|recipient|\b[45]\d\d\b|[45]\.\d\.\d|できません|"
    r"届け|エラー|"
    r"nicht|impossible|addressed to|local user|n'a pas|no se ha|non è|não|недостав|не достав|无法|失败|退信|"
    r"unzustellbar|zugestellt|entreg|recapit|onbestel|bezorg|leverer|levere|consegn|remis|toimit|dostarcz|doruč|kézbesít|"
    r"teslim|배달|傳遞|传递|送达|送達",
    re.IGNORECASE,
)
_PLAINLY = re.compile(
    r"(?:could|can|was|were|has|have) ?not (?:be |been )?(?:delivered|sent)|unable to deliver|undeliverable|"
    r"did not reach the|"
    r"delivery (?:to \S{1,100} )?(?:has )?failed|permanent (?:fatal )?(?:delivery )?error|fatal (?:delivery )?error|"
    r"n'a pas (?:pu|été)|konnte nicht zugestellt|no (?:se )?(?:pudo|ha podido) (?:ser )?entreg|could not deliver|"
    r"encountered an error|trouble delivering",
    re.IGNORECASE,
)
_RCPT = re.compile(r"RCPT TO:?\s{0,3}<?(?P<address>[^\s<>]{1,200}@[\w.\-]{1,200})", re.IGNORECASE)
_CONTACT = re.compile(
    r"contact|postmaster|questions|assistance|help|write to|mail to:|support|https?://|from:|sender|return-path|"
    r"message-id|received:|mail from|reply-to|\bby .{0,60} with\b|subject:|envelope-from|x-mailer",
    re.IGNORECASE,
)
# A reply in the transcript of an old sendmail, about one recipient: 550 <ann@example.net>... User unknown
_IN_TRANSCRIPT = re.compile(r"\s{0,3}[45]\d\d[ \-]<[^<>\s]{1,320}>\.\.\. ")
# An address that the next line goes on about: … (expanded from
_GOES_ON = re.compile(r"\((?:expanded|generated) from:?\s{0,9}\Z", re.IGNORECASE)
_FORWARDED_BY = re.compile(
    r"\((?:expanded|generated) from:?\s{1,9}<?(?P<address>[^\s<>()]{1,320}@[^\s<>()]{1,255}?)>?\)"
)
# A line before names that have no domain, and such a name, perhaps with words far behind it.
_LISTS = re.compile(
    r"(?:to the following|following (?:recipient|user|name|address|mailbox)).{0,200}:\s{0,9}\Z", re.IGNORECASE
)
_NAME = re.compile(r"\s{0,12}<?(?P<name>[a-z0-9][\w.+\-]{0,62}\w)>?(?:\s{2,40}\S.{0,200})?\s{0,9}", re.IGNORECASE)
# The addresses of list managers, and what they say of mail that they refuse: not of mail that waits for a moderator.
_MANAGER = re.compile(
    r"(?:owner-(?P<owned>[^\s@]{1,64})|(?P<list>[^\s@]{1,64})-(?:admin|owner|bounces?|request|help|return|errors)|"
    r"listserv|majordomo|sympa|mailman)@(?P<domain>[^\s@]{1,255})",
    re.IGNORECASE,
)
_LIST_REFUSES = re.compile(
    r"\b(?:you|senders?|authors?|posters?)\b.{0,60}(?:not|n't) (?:yet )?(?:an? )?(?:registered )?(?:member|subscrib)|"
    r"only (?:\w{1,12} ){0,3}(?:member|subscriber)s\b|not (?:allowed|permitted|authori[sz]ed) to (?:post|send|submit)|"
    r"been (?:automatically )?(?:rejected|refused|discarded)|rejected for the following|"
    r"duplicated message-id|loop (?:alert|detected)",
    re.IGNORECASE,
)
_HELD = re.compile(
    r"awaits? moderat|being held|held (?:until|for)|(?:pending|waiting for) (?:approval|moderat)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Failed:
    """A recipient, and what the notice says about it."""

    address: str
    text: str


@dataclass(frozen=True, slots=True)
class Halves:
    """A notice's own lines, and the header of the mail that came back."""

    lines: list[str]
    original: dict[str, list[str]]


def halves(text: str) -> Halves:
    """Split a notice where the mail that came back begins."""
    lines = text[:LONGEST].split("\n")[:MOST_LINES]
    for index, line in enumerate(lines):
        if _ORIGINAL.search(line[:200]) and index and not _address_follows(lines, index):
            return Halves(lines[:index], _header_in(lines[index + 1 :]))
        if _HEADER_LINE.match(line[:200]) and _is_header(lines[index : index + 12]):
            if _RELATES.search(" ".join(lines[max(index - 2, 0) : index])[:400]):
                end = next((at for at in range(index, len(lines)) if not lines[at].strip()), len(lines))
                rest = halves("\n".join(lines[end:]))
                return Halves([*lines[:index], *rest.lines], _header_in(lines[index:end]))
            return Halves(lines[:index], _header_in(lines[index:]))
    return Halves(lines, {})


def _address_follows(lines: list[str], index: int) -> bool:
    """Return whether an address stands alone right after the line, so that the notice goes on."""
    return any(is_address(line) for line in lines[index + 1 : index + 3])


def is_address(line: str) -> bool:
    """Return whether a line is an address, perhaps after a label."""
    return _ALONE.fullmatch(line.strip()[:400]) is not None


def _is_header(lines: list[str]) -> bool:
    names = set()
    if _RECEIVED.match(lines[0][:200]):
        return True
    for line in lines:
        if not line.strip():
            break
        if match := _HEADER_LINE.match(line[:200]):
            names.add(match[0].strip(" >|\t:").lower())
    if not names & {"from", "received", "return-path", "message-id", "mime-version"}:
        return False
    return len(names) >= 3


def _header_in(lines: list[str]) -> dict[str, list[str]]:
    """Return the fields of the first header in lines, which may be quoted or indented."""
    kept: list[str] = []
    for line in lines:
        bare = line.lstrip(" >|\t") if _HEADER_LINE.match(line[:200]) else line
        if not bare.strip() and len(kept) > 1:
            break
        if bare.strip():
            kept.append(bare if _HEADER_LINE.match(bare[:200]) or not kept else f" {bare.strip()}")
    return mime.fields_of("\n".join(kept))


def recipients(lines: list[str], ours: frozenset[str]) -> list[Failed]:
    """Return the recipients that the lines name, by the best evidence. ``ours``: addresses that are none."""
    lines = [line for line in lines if line.strip()]
    for found in (
        _alone(lines, labelled=False),
        _services(lines),
        _rcpt(lines),
        _in_sentences(lines),
        _alone(lines, labelled=True),
    ):
        kept: dict[str, int] = {}
        for address, at in found:
            if address.lower() not in ours:
                kept.setdefault(address, at)
            if len(kept) >= MOST_RECIPIENTS:
                break
        # A name inside the server's system often stands beside the address that a person wrote.
        kept = {address: at for address, at in kept.items() if "." in address.rpartition("@")[2]} or kept
        if kept:
            return [Failed(address, _about(lines, at, set(kept.values()))) for address, at in kept.items()]
    return []


def names(lines: list[str], original: Sequence[str], domain: str) -> list[Failed]:
    """Return the recipients that a server lists without a domain.

    ``original``: the recipients of the mail that came back. Names that are not among them belong to ``domain``.
    """
    lines = [line for line in lines if line.strip()]
    known = {one.partition("@")[0].lower(): one for one in original}
    found: list[Failed] = []
    for index, line in enumerate(lines):
        if not _LISTS.search(line[-400:]):
            continue
        for at in range(index + 1, min(index + 1 + MOST_RECIPIENTS, len(lines))):
            if (match := _NAME.fullmatch(lines[at][:300])) is None:
                break
            address = known.get(match["name"].lower(), f"{match['name']}@{domain}")
            found.append(Failed(address, " ".join(f"{lines[at]} {line}".split())[:2_000]))
        break
    return found


def list_that_refuses(lines: list[str], author: str, ours: frozenset[str]) -> list[Failed]:
    """Return the mailing list that did not take the mail, if the author is a list manager that says so."""
    manager = _MANAGER.fullmatch(author)
    lines = [line for line in lines if line.strip()][:12]
    text = " ".join(" ".join(lines).split())[:2_000]
    refuses = next((at for at, line in enumerate(lines) if _LIST_REFUSES.search(line[:400])), None)
    if manager is None or refuses is None or _HELD.search(text):
        return []
    named = [one for one in addresses.all_in(" ".join(lines[: refuses + 2])[:2_000]) if one.lower() not in ours]
    name = manager["owned"] or manager["list"]
    address = next(iter(named), f"{name}@{manager['domain']}" if name else "")
    return [Failed(address, text)] if address else []


def forwarded_by(text: str) -> str:
    """Return the address that forwarded the mail to the one that failed, if what is said of it tells; else empty."""
    match = _FORWARDED_BY.search(text)
    return addresses.clean(match["address"]) if match else ""


def _alone(lines: list[str], *, labelled: bool) -> Iterator[tuple[str, int]]:
    """Yield addresses that begin a line. ``labelled``: those after a mere "To:" instead."""
    for index, line in enumerate(lines):
        match = _ALONE.match(line[:400])
        if index and _GOES_ON.search(lines[index - 1][-40:]):
            continue
        if match is None or ((match["label"] or "").lower() == "to") is not labelled:
            continue
        rest = line[match.end() : 400].strip()
        sure = not rest or match[0].rstrip().endswith((">:", ":", ">")) or match["label"] or _FAILED.search(rest)
        introduced = index and _INTRODUCES.search(lines[index - 1][:400])
        if (sure or introduced) and (address := _person(match["address"])):
            yield address, index


def _rcpt(lines: list[str]) -> Iterator[tuple[str, int]]:
    for index, line in enumerate(lines):
        for match in (*_RCPT.finditer(line[:1_000]), *_FORWARDED_BY.finditer(line[:1_000])):
            if address := _person(match["address"]):
                yield address, index


def _services(lines: list[str]) -> Iterator[tuple[str, int]]:
    """Yield addresses of services that failed: notices name those of people to ask, too, but not in this form."""
    for index, line in enumerate(lines):
        if (match := _BLAMED.match(line[:400])) and (address := addresses.clean(match["address"])):
            yield address, index


def _person(text: str) -> str:
    """Return the address in a text; empty if there is none, or if it is of a service."""
    address = addresses.clean(text)
    return "" if addresses.is_service(address) else address


def _in_sentences(lines: list[str]) -> Iterator[tuple[str, int]]:
    for index, line in enumerate(lines):
        near = " ".join(lines[max(index - 1, 0) : index + 2])[:1_000]
        if "@" in line and _FAILED.search(near) and not _CONTACT.search(line[:400]):
            found = addresses.all_in(line[:1_000])
            yield from ((address, index) for address in found if not addresses.is_service(address))


def _about(lines: list[str], at: int, others: set[int]) -> str:
    """Return what the lines say about the recipient in line ``at``: up to the next one."""
    if _IN_TRANSCRIPT.match(lines[at][:400]):
        return " ".join(lines[at].split())[:2_000]
    last = next((index for index in range(at + 1, min(at + 40, len(lines))) if index in others), at + 40)
    return " ".join(" ".join(lines[at:last]).split())[:2_000]


def says_it_failed(lines: list[str], *, plainly: bool = False) -> bool:
    """Return whether the notice speaks of mail that was not delivered; ``plainly``: in words that nobody else uses."""
    return bool((_PLAINLY if plainly else _FAILED).search(" ".join(lines)[:4_000]))
