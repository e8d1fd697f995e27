"""The files in a whole mail are found wherever mail programs would find them, in bounded time."""

from base64 import b64encode
from email.message import EmailMessage
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import SMTP

import pytest

from mailbbgun.core.errors import FileRefused
from mailbbgun.safety.mail_files import HEADER_SIZE, MOST_LEVELS, MOST_PARTS, MailFile, files_in
from tests.safety.samples import PDF, PROGRAM


def mail() -> EmailMessage:
    made = EmailMessage(policy=SMTP)
    made["From"], made["To"], made["Subject"] = "shop@example.com", "ann@example.com", "Hello"
    made.set_content("Hello\n")
    made.add_alternative("<p>Hello</p>", subtype="html")
    return made


def part(header: str, body: bytes) -> bytes:
    return (
        b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n'
        + header.encode()
        + b"\r\n\r\n"
        + body
        + b"\r\n--b--\r\n"
    )


def test_bodies_are_no_files() -> None:
    assert [*files_in(mail().as_bytes())] == []
    assert [*files_in(b"Subject: x\r\n\r\nbody\r\n")] == []
    assert [*files_in(b"")] == [*files_in(b"\r\nbody")] == [*files_in(b"no header at all")] == []


@pytest.mark.parametrize("name", ["invoice.pdf", 'Prüfung (Q1)\'s "final".pdf', "請求書.pdf", "a" * 200 + ".pdf"])
def test_a_file_is_found_under_its_name(name: str) -> None:
    made = mail()
    made.add_attachment(PDF, maintype="application", subtype="pdf", filename=name)
    assert [*files_in(made.as_bytes())] == [MailFile(name, "application/pdf", PDF)]
    assert [*files_in(made.as_bytes().replace(b"\r\n", b"\n"))] == [MailFile(name, "application/pdf", PDF)]


def test_a_file_in_a_forwarded_mail_is_found() -> None:
    inner, outer = mail(), mail()
    inner.add_attachment(PDF, maintype="application", subtype="pdf", filename="a.pdf")
    outer.add_attachment(inner)
    assert [one.filename for one in files_in(outer.as_bytes())] == ["a.pdf"]
    whole = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64encode(inner.as_bytes())
    assert [one.filename for one in files_in(whole)] == ["a.pdf"]


@pytest.mark.parametrize(
    ("header", "body", "found"),
    [
        ("Content-Type: application/octet-stream", b"x", ("", "application/octet-stream")),
        ("Content-Type: text/plain\r\nContent-Disposition: attachment", b"x", ("", "text/plain")),
        ("Content-Type: text/html; name=a.html", b"x", ("a.html", "text/html")),
        ("Content-Type: image/png;\r\n name==?utf-8?B?ZS5wbmc=?=", b"x", ("e.png", "image/png")),
        ("Content-Type: application/x; name*0=a.; name*1=exe", b"x", ("a.exe", "application/x")),
        ("Content-Disposition: inline; filename*=utf-8''%C3%BC.exe", b"x", ("ü.exe", "text/plain")),
        ("CONTENT-TYPE: broken\r\nContent-Disposition: attachment; filename=a", b"x", ("a", "text/plain")),
        ("X: " + "y" * HEADER_SIZE + "\r\nContent-Type: image/png;\r\n name=a.png", b"x", ("a.png", "image/png")),
        ("Content-Type: multipart/mixed; name=a.exe", b"x", ("a.exe", "multipart/mixed")),  # no boundary: no parts
        ("Content-Type: application/pgp-signature; name=a.exe", PROGRAM, ("a.exe", "application/pgp-signature")),
        ("Content-Type: application/pkcs7-mime; name=a.exe", PROGRAM, ("a.exe", "application/pkcs7-mime")),
    ],
)
def test_what_is_not_sure_to_be_a_body_is_a_file(header: str, body: bytes, found: tuple[str, str]) -> None:
    assert [one[:2] for one in files_in(part(header, body))] == [found]


@pytest.mark.parametrize(
    ("encoding", "body", "content"),
    [
        ("base64", b"TVqQ\r\nAAM=\r\n", b"MZ\x90\x00\x03"),
        ("base64", b"TVqQ", b"MZ\x90"),
        ("base64", b"T V!q\r\nQA", b"MZ\x90"),
        ("BASE64", b"TVqQ", b"MZ\x90"),
        ("quoted-printable", b"MZ=90=\r\n=00", b"MZ\x90\x00"),
        ("8bit", b"MZ\x90", b"MZ\x90"),
        ("rot13", b"MZ", b"MZ"),
    ],
)
def test_a_content_is_decoded_as_mail_programs_do(encoding: str, body: bytes, content: bytes) -> None:
    header = f"Content-Type: application/x\r\nContent-Transfer-Encoding: {encoding}"
    (found,) = files_in(part(header, body))
    assert found.content.startswith(content)


def test_the_last_part_may_lack_its_end_and_a_boundary_be_the_beginning_of_another() -> None:
    cut = part("Content-Type: application/x; name=a", b"x").partition(b"\r\n--b--")[0]
    assert [one.filename for one in files_in(cut)] == ["a"]
    inner = MIMEMultipart(boundary="bb")
    inner.attach(MIMEApplication(PDF, name="a.pdf"))
    outer = MIMEMultipart(boundary="b")
    outer.attach(inner)
    outer.attach(MIMEApplication(PDF, name="b.pdf"))
    assert [one.filename for one in files_in(outer.as_bytes())] == ["a.pdf", "b.pdf"]


def test_signatures_and_encrypted_mail_are_no_files() -> None:
    signed = MIMEMultipart("signed")
    signed.attach(MIMEText("Hello"))
    signature = b"-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n"
    signed.attach(MIMEApplication(signature, "pgp-signature", name="signature.asc"))
    assert [*files_in(signed.as_bytes())] == []
    smime = MIMEMultipart("signed")
    smime.attach(MIMEApplication(b"\x30\x82\1\0", "pkcs7-signature", name="smime.p7s"))
    assert [*files_in(smime.as_bytes())] == []
    encrypted = MIMEMultipart("encrypted")
    encrypted.attach(MIMEApplication(b"Version: 1\n", "pgp-encrypted"))
    encrypted.attach(MIMEApplication(b"-----BEGIN PGP MESSAGE-----\n", "octet-stream", name="encrypted.asc"))
    assert [*files_in(encrypted.as_bytes())] == []
    encrypted.attach(MIMEApplication(PROGRAM, "octet-stream", name="a.exe"))
    assert [one.filename for one in files_in(encrypted.as_bytes())] == ["a.exe"]


def test_mail_of_very_many_parts_or_levels_is_refused() -> None:
    wide = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * (MOST_PARTS + 1)
    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(MOST_LEVELS + 2)
    )
    for mime in (wide, deep, b"Content-Type: message/rfc822\r\n\r\n" * 10_000):
        with pytest.raises(FileRefused, match="more than 1000 parts"):
            list(files_in(mime))


@pytest.mark.parametrize("kind", ["parameters", "marks"])
def test_mail_that_would_take_long_to_read_is_refused(kind: str) -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    parameters = (b"--b\r\nContent-Type: a/b;" + b"x=y;" * 15_000 + b"\r\n\r\n") * 20
    with pytest.raises(FileRefused):
        list(files_in(head + {"parameters": parameters, "marks": b"\n--bx" * 200_000}[kind]))
