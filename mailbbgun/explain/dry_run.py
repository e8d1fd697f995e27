"""The verb: treat a submission as accept would, store nothing, and tell what would become of it."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.draft import Draft
from mailbbgun.accept.fields import Fields, Options
from mailbbgun.attachments import store
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.attachments.store import StoredFile
from mailbbgun.composing.compose import Own, compose
from mailbbgun.composing.contents import File
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput
from mailbbgun.core.ids import new_id
from mailbbgun.domains.signing import DomainKeys
from mailbbgun.explain.authentication import authentication
from mailbbgun.explain.facts import ACCOUNTS, CATCHER, LOCAL, MX, Way
from mailbbgun.explain.ways import ways_of
from mailbbgun.queues.lanes import lane_of
from mailbbgun.safety.examine import Examination, Rules, SafeFile
from mailbbgun.safety.names import safe_name
from mailbbgun.services import Services
from mailbbgun.suppressions.check import TenantRecipient, suppressed

#: Characters of MIME that are shown, at most.
SHOWN = 65_536


class DryInspector(Inspector):
    """Judges files as they come, without storing them. They are not scanned for viruses."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._accepted = Rules.of(services.settings)

    def take(
        self, who: Caller, blocks: Iterable[bytes], filename: str, declared: str, *, most: int, size: int | None
    ) -> tuple[StoredFile, SafeFile]:
        """Read and judge a file. Raises :class:`TooLarge`, :class:`FileRefused`."""
        examination = Examination()
        measured = store.measure(examination.watch(blocks), who.tenant_id, most=most, name=safe_name(filename))
        return measured, examination.judge(filename, declared, self._accepted)


class DryRun:
    """Tells what would become of submissions. Thread-safe."""

    def __init__(self, services: Services, acceptor: Acceptor, keys: DomainKeys) -> None:
        """``acceptor``: one whose files are judged by :class:`DryInspector`."""
        self._services, self._acceptor, self._keys = services, acceptor, keys

    def run(self, submission: Fields, options: Options, caller: Caller) -> dict[str, Any]:
        """Return what would become of a submission, as ``schemas.DryRunShape`` shows it.

        Raises what :meth:`Acceptor.accept` does, but for quotas.
        """
        if submission.individual:
            raise InvalidInput(
                "Some fields are not valid.",
                fields={"individual": ["A dry run shows one mail, so leave it out and name one recipient in to."]},
            )
        identifier = new_id()
        draft = self._acceptor.draft(identifier, submission, options, caller)
        rows = self._acceptor.rows(identifier, draft, options, caller, lane_of(options.priority))
        message = rows.message
        mime, cut = _mime(draft, identifier, message["message_id"], message["raw"])
        stopped = self._suppressed(draft, caller)
        ways = ways_of(self._services, caller.tenant_id, test=caller.tests_only)
        author = draft.sender.address
        recipients = []
        for address, kind in draft.recipients.items():
            way = ways(author, address)
            account = next(iter([way.best] if way.best else way.accounts), None)
            told = {"address": address, "kind": kind, "suppressed": address in stopped}
            recipients.append(told | {"account": account and account.name, "way": way.kind, "why": _why(way, author)})
        return {
            "subject": draft.subject,
            "from": str(draft.sender),
            "mail_from": message["mail_from"],
            "size": message["size"],
            "send_at": message["send_at"],
            "useful_until": message["useful_until"],
            "mime": mime,
            "mime_is_cut": cut,
            "recipients": recipients,
            "authentication": self._authentication(draft, identifier, caller),
        }

    def _suppressed(self, draft: Draft, caller: Caller) -> set[str]:
        if not caller.has_suppressions:
            return set()
        asked = [TenantRecipient(caller.tenant_id, caller.tests_only, one) for one in draft.recipients]
        return {one.address for one in suppressed(self._services.db, asked)}

    def _authentication(self, draft: Draft, identifier: UUID, caller: Caller) -> dict[str, Any]:
        author = draft.sender.address
        self._keys.load(self._services.db, {caller.tenant_id})
        signing = self._keys.keys_for(caller.tenant_id, author, identifier)
        return authentication(self._services.db, caller.tenant_id, author, draft.mail_from, signing)


def _mime(draft: Draft, identifier: UUID, message_id_header: str, raw: bytes | None) -> tuple[str, bool]:
    """Return the beginning of the MIME, with a note in place of each file, and whether it is cut off."""
    if raw is not None:
        return _text([raw])
    assert draft.content is not None  # a draft has that, or its bytes
    own = Own(identifier, datetime.now(UTC), message_id_header, draft.subject, draft.personal)
    return _text(_noted(one) if isinstance(one, File) else one for one in compose(draft.content, own).pieces)


def _noted(file: File) -> bytes:
    return f"({file.size} bytes, SHA-256 {file.sha256}, as base64)\r\n".encode()


def _text(pieces: Iterable[bytes]) -> tuple[str, bool]:
    whole = b"".join(pieces)
    return whole[:SHOWN].decode(errors="replace"), len(whole) > SHOWN


def _why(way: Way, author: str) -> str:
    """Say why the mail would leave that way."""
    if way.kind == CATCHER:
        return "The mail catcher takes it: a test key sends it, or SMTP_URL names the catcher."
    if way.kind == LOCAL:
        return "The recipient's domain is local: the mail is kept in a mailbox here."
    if way.kind == MX:
        return "The tenant has no SMTP account, and SMTP_URL is mx:, so it goes straight to the recipient's MX."
    if way.kind != ACCOUNTS:
        return "The tenant has no SMTP account, so the server of SMTP_URL takes it."
    if not way.accounts:
        return f"No SMTP account that is enabled takes mail from {author} to this recipient: it would wait for one."
    if (best := way.best) is None:
        first = way.accounts[0].name
        return f"Each SMTP account that fits is paused, used up for today, or unusable; it waits for {first}."
    same = [one for one in way.accounts if one.open and one.priority == best.priority]
    if len(same) > 1:
        names = ", ".join(one.name for one in same)
        return f"The accounts {names} fit with the same priority, {best.priority}; their weights decide."
    others = f", before {len(way.accounts) - 1} more" if len(way.accounts) > 1 else ""
    return f"Account {best.name} fits sender and recipient, and comes first by its priority, {best.priority}{others}."
