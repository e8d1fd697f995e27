"""Composing is pure: the same parts make the same bytes, nested as mail programs expect, under names that they show."""

import getpass
import imaplib
import os
import re
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.composing.compose import Own, base64_lines, compose, encoded_size, method_of
from mailbbgun.composing.contents import Content, File, Personal, StoredContent, of_row
from mailbbgun.composing.mime import Mailbox
from mailbbgun.core.errors import InvalidInput
from tests.servers import install

OCTETS = b"\x00\xff\r\nFrom x\n.\n" * 9
ANN = Mailbox("Ann", "ann@example.com")
OWN = Own(
    UUID("01a22483-d3dd-74d9-ac09-5d5c613cad6c"),
    datetime(2026, 11, 28, 12, tzinfo=UTC),
    "<1@example.com>",
    "Hello",
    Personal(to=(ANN,)),
)
PLAIN = Content(sender=ANN, text="Hi")
ICS = "BEGIN:VCALENDAR\nMETHOD:request\nBEGIN:VEVENT\nSUMMARY:METHOD\n :CANCEL\nEND:VEVENT\nEND:VCALENDAR"
NAMES = [
    "a.pdf",
    'Prüfung (Q1)\'s "final".pdf',
    "請求書 2026年.pdf",
    "🎉 party 👩‍👩‍👧.png",
    "x" * 196 + ".txt",
    "ü" * 196 + ".txt",
    "per%cent*star=1;two.csv",
    "back\\slash.txt",
    "=?utf-8?q?x?=.txt",
    "  spaces  .txt",
    "no extension",
]


def file(filename: str = "a.bin", content_type: str = "application/pdf", content_id: str | None = None) -> File:
    return File(sha256="0" * 64, size=len(OCTETS), filename=filename, content_type=content_type, content_id=content_id)


def mime(content: Content, own: Own = OWN) -> bytes:
    """Return the bytes of a message; each of its files is ``OCTETS``."""
    composed = compose(content, own)
    whole = b"".join(piece if isinstance(piece, bytes) else base64_lines(OCTETS) for piece in composed.pieces)
    assert len(whole) == composed.size
    return whole


def shape(content: Content):
    """Return the types of a message's parts, nested."""

    def of(part):
        kind = part.get_content_type()
        return (kind, [of(inner) for inner in part.iter_parts()]) if part.is_multipart() else kind

    return of(message_from_bytes(mime(content), policy=policy.default))


TEXTS = replace(PLAIN, html="<p>Hi</p>")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (PLAIN, "text/plain"),
        (replace(PLAIN, text=None, html="<p>"), "text/html"),
        (TEXTS, ("multipart/alternative", ["text/plain", "text/html"])),
        (
            replace(TEXTS, amp_html="<html ⚡4email>"),
            ("multipart/alternative", ["text/plain", "text/x-amp-html", "text/html"]),
        ),
        (replace(PLAIN, files=(file(),)), ("multipart/mixed", ["text/plain", "application/pdf"])),
        (
            replace(TEXTS, files=(file(content_type="image/png", content_id="x"), file())),
            (
                "multipart/mixed",
                [
                    ("multipart/alternative", ["text/plain", ("multipart/related", ["text/html", "image/png"])]),
                    "application/pdf",
                ],
            ),
        ),
        # Without HTML nothing shows an inline file, so it is attached.
        (replace(PLAIN, files=(file(content_id="x"),)), ("multipart/mixed", ["text/plain", "application/pdf"])),
        (
            replace(TEXTS, calendar=ICS),
            (
                "multipart/mixed",
                [("multipart/alternative", ["text/plain", "text/html", "text/calendar"]), "application/ics"],
            ),
        ),
        # RFC 2046 §5.2.1 forbids base64 for these types.
        (
            replace(PLAIN, files=(file("x.eml", "message/rfc822"), file("y", "multipart/mixed"))),
            ("multipart/mixed", ["text/plain", "application/octet-stream", "application/octet-stream"]),
        ),
    ],
)
def test_parts_are_nested_as_mail_programs_expect(content, parts):
    assert shape(content) == parts


def test_the_same_parts_make_the_same_bytes_and_another_message_has_other_boundaries():
    content = replace(TEXTS, calendar=ICS, files=(file(), file("b.png", "image/png", "x")))
    stored = StoredContent.of(OWN.id, content)
    found, _ = of_row(stored.made_of)
    assert found == content
    assert StoredContent.of(OWN.id, found).id == stored.id
    assert StoredContent.of(OWN.id, replace(content, text="Ho")).id != stored.id
    assert StoredContent.of(UUID(int=1), content).id != stored.id
    assert mime(found, OWN._replace(personal=Personal.of_row(OWN.personal.row()))) == mime(content)
    other = mime(content, OWN._replace(id=UUID(int=7)))
    assert message_from_bytes(other).get_boundary() != message_from_bytes(mime(content)).get_boundary()


def test_a_text_that_has_the_boundary_gets_another_one():
    taken = message_from_bytes(mime(TEXTS)).get_boundary()
    found = message_from_bytes(mime(replace(TEXTS, text=f"--{taken}--")), policy=policy.default)
    assert found.get_boundary() != taken
    assert found.get_body(("plain",)).get_content().splitlines() == [f"--{taken}--"]


@pytest.mark.parametrize(
    ("calendar", "method"),
    [
        (ICS, "REQUEST"),
        (ICS.replace("\n", "\r\n"), "REQUEST"),
        (ICS.replace("METHOD:request\n", ""), None),
        ("BEGIN:VCALENDAR\r\nMETHOD;X=1:CAN\r\n CEL\r\nEND:VCALENDAR\r\n", "CANCEL"),
        ("begin:vcalendar\nmethod:Reply \nend:vcalendar", "REPLY"),
    ],
)
def test_the_method_of_an_invitation_is_the_calendars_own(calendar, method):
    assert method_of(calendar) == method
    found = message_from_bytes(mime(replace(PLAIN, calendar=calendar)), policy=policy.default)
    (part,) = [one for one in found.walk() if one.get_content_type() == "text/calendar"]
    assert part["Content-Type"].params.get("method") == method
    (attached,) = found.iter_attachments()
    assert attached.get_filename() == "invite.ics"
    assert attached.get_content().decode().splitlines() == calendar.splitlines()


def test_a_text_file_keeps_its_bytes_and_has_a_charset_only_if_that_is_known():
    content = replace(PLAIN, files=(file("a.txt", "text/plain"), file("b.csv", "text/csv; charset=utf-16")))
    first, second = message_from_bytes(mime(content), policy=policy.default).iter_attachments()
    assert (first.get_content_charset(), second.get_content_charset()) == (None, "utf-16")
    assert first.get_payload(decode=True) == second.get_payload(decode=True) == OCTETS


@given(st.binary(max_size=4000))
def test_the_encoded_size_is_known_before_a_file_is_read(octets):
    assert encoded_size(len(octets)) == len(base64_lines(octets))


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=255).filter(str.strip),
    st.sampled_from(["attachment", "inline"]),
)
def test_no_name_breaks_its_header_and_pythons_parser_shows_it_as_it_was(filename, kind):
    content = replace(TEXTS, files=(file(filename, content_id="x" if kind == "inline" else None),))
    raw = mime(content)
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    (part,) = [one for one in message_from_bytes(raw, policy=policy.default).walk() if one.get_filename() is not None]
    # Not get_filename(), which strips blanks.
    assert (part["Content-Disposition"].params["filename"], part.get_content_disposition()) == (filename, kind)
    assert part["Content-Disposition"].defects == ()
    assert part["Content-Type"].params["name"].isascii()


def test_a_header_that_cannot_be_sent_is_refused():
    with pytest.raises(InvalidInput):
        compose(replace(PLAIN, headers={"References": "größer"}), OWN)


MIME_PARSER = r"""
use MIME::Parser; use MIME::WordDecoder; use Encode; binmode STDOUT, ':raw';
my $parser = MIME::Parser->new; $parser->output_to_core(1); $parser->decode_bodies(1);
my $whole = $parser->parse(\*STDIN);
for my $part ($whole->parts_DFS) {
    my $name = $part->head->recommended_filename or next;
    print encode('UTF-8', $name), "\0", unpack('H*', $part->bodyhandle->as_string), "\n";
}
"""
EMAIL_MIME = r"""
use Email::MIME; use Encode; binmode STDOUT, ':raw'; local $/;
my $whole = Email::MIME->new(scalar <STDIN>);
$whole->walk_parts(sub {
    my ($part) = @_; return if $part->subparts; my $name = $part->filename or return;
    print encode('UTF-8', $name), "\0", unpack('H*', $part->body), "\n";
});
"""


@pytest.mark.parametrize(("module", "script"), [("MIME/Parser.pm", MIME_PARSER), ("Email/MIME.pm", EMAIL_MIME)])
def test_perls_parsers_show_the_names_and_the_bytes(module, script):
    install.perl_module(module)
    raw = mime(replace(TEXTS, files=tuple(map(file, NAMES))))
    done = subprocess.run(["perl", "-e", script], input=raw, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = [line.split(b"\0") for line in done.stdout.splitlines()]
    assert [name.decode() for name, _ in found] == NAMES
    assert {bytes.fromhex(octets.decode()) for _, octets in found} == {OCTETS}


DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/state
mail_location = maildir:{folder}/mail
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
log_path = {folder}/log
ssl = no
"""


@pytest.fixture
def dovecot():
    """Let Dovecot show a mailbox with one message: a function of its bytes that returns an IMAP client."""
    program = install.dovecot()
    with TemporaryDirectory() as folder, ExitStack() as opened:  # not tmp_path: Dovecot refuses to be root
        user, group = ("nobody", "nogroup") if os.geteuid() == 0 else (getpass.getuser(), os.getgid())
        (Path(folder) / "conf").write_text(DOVECOT.format(folder=folder, user=user, group=group))

        def show(message: bytes) -> imaplib.IMAP4:
            for name in ("cur", "new", "tmp"):
                (Path(folder) / "mail" / name).mkdir(parents=True)
            (Path(folder) / "mail/new/1.x").write_bytes(message)
            if os.geteuid() == 0:
                for path in (Path(folder), *Path(folder).rglob("*")):
                    shutil.chown(path, user)
            imap = program.parent.parent / "lib/dovecot/imap"
            return opened.enter_context(
                imaplib.IMAP4_stream(f"USER={user} HOME={folder} {imap} -c {folder}/conf 2>{folder}/err")
            )

        yield show


def test_dovecots_parser_shows_the_names_and_the_bytes(dovecot):
    client = dovecot(mime(replace(TEXTS, files=tuple(map(file, NAMES)))))
    client.select("INBOX")
    _, told = client.fetch("1", "(BODYSTRUCTURE)")
    structure = b"".join(part if isinstance(part, bytes) else part[0] + b'"' + part[1] + b'"' for part in told).decode()
    names = []
    for coded, name in re.findall(r'\("attachment" \("filename(\*?)" (?:\{\d+\})?"((?:\\.|[^"\\])*)"\)\)', structure):
        names.append(unquote(name.removeprefix("utf-8''")) if coded else name)
    assert names == NAMES, structure
    # The first part is the text.
    for number in range(2, len(NAMES) + 2):
        _, found = client.fetch("1", f"(BINARY[{number}])")
        assert found[0][1] == OCTETS
