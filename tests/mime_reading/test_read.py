"""Mail is read as its sender meant it: header, text, files."""

from datetime import UTC, datetime

import pytest

from mailbbgun.mime_reading.read import content, read

BONJOUR = "Déjà vu à l’hôtel"
RUSSIAN = "Здравствуйте, ваш заказ отправлен"
JAPANESE = "ご注文の商品を発送いたしました"
CHINESE = "您好,您的订单已经发货"


def mail(body: bytes, *fields: str | bytes) -> bytes:
    lines = [one if isinstance(one, bytes) else one.encode() for one in fields]
    return b"\r\n".join([b"From: ann@example.com", *lines, b"", body])


def typed(declared: str, body: bytes) -> bytes:
    return mail(body, f"Content-Type: {declared}")


@pytest.mark.parametrize(
    ("declared", "codec", "text"),
    [
        ("text/plain; charset=iso-8859-1", "latin-1", "Müller für 20"),
        ("text/plain; charset=iso-8859-1", "cp1252", BONJOUR),  # it means windows-1252
        ("text/plain; charset=windows-1251", "cp1251", RUSSIAN),
        ("text/plain; charset=koi8-r", "koi8-r", RUSSIAN),
        ("text/plain; charset=ISO-2022-JP", "iso2022_jp", JAPANESE),
        ("text/plain; charset=x-sjis", "cp932", JAPANESE),
        ("text/plain; charset=gb2312", "gb18030", CHINESE + "镕"),  # it means GBK
        ("text/plain; charset=gb18030", "gb18030", CHINESE),
        ("text/plain; charset=ks_c_5601-1987", "cp949", "안녕하세요"),
        ("text/plain; charset=us-ascii", "utf-8", BONJOUR),
        ("text/plain; charset=iso-8859-1", "utf-8", BONJOUR),
        ('text/plain; charset="utf-8" (comment)', "utf-8", BONJOUR),
        ("text/plain; charset=utf-16", "utf-16", BONJOUR),
        ("text/plain; charset=unknown-8bit", "cp1251", RUSSIAN),
        ("text/plain; charset=utf-8", "cp1251", RUSSIAN),
        ("text/plain", "utf-8", RUSSIAN),
        ("text/plain", "cp1251", RUSSIAN),
        ("text/plain", "koi8-r", RUSSIAN),
        ("text/plain", "iso2022_jp", JAPANESE),
        ("text/plain", "euc_jp", JAPANESE),
        ("text/plain", "gb18030", CHINESE),
        ("text/plain", "cp1252", "Sehr geehrte Frau Müller, schöne Grüße"),
        ("text/plain", "iso8859-2", "Příliš žluťoučký kůň úpěl ďábelské ódy"),
        ("text/plain", "cp1253", "Καλημέρα, η παραγγελία σας"),
        ("text", "utf-8", BONJOUR),
        ("text/", "utf-8", BONJOUR),
        ("Text/Plain ; Charset = 'utf-8'", "utf-8", BONJOUR),
        ("", "utf-8", BONJOUR),
    ],
)
def test_text_is_decoded_by_its_charset_or_by_what_it_must_have_meant(declared, codec, text):
    assert read(typed(declared, text.encode(codec))).text == text


def test_a_broken_byte_in_a_long_text_does_not_change_its_charset():
    text = CHINESE * 20
    found = read(typed("text/plain; charset=gb18030", text.encode("gb18030") + b"\xff\n"))
    assert found.text.startswith(text)
    assert found.problems == ("The text is not in the charset that it names, gb18030.",)


@pytest.mark.parametrize(
    "charset", ["punycode", "zlib", "rot13", "idna", "unicode_escape", "\x00", "a" * 5000, "undefined"]
)
def test_a_codec_that_is_no_charset_is_not_used(charset):
    assert read(typed(f"text/plain; charset={charset}", b"plain \\n text-")).text == "plain \\n text-"


def test_characters_that_cannot_be_stored_are_gone():
    assert read(typed("text/plain; charset=utf-7", b"a+2AA-b\x00c")).text == "a\ufffdbc"


@pytest.mark.parametrize(
    ("field", "subject"),
    [
        (b"=?utf-8?B?R3LDvMOfZQ==?=", "Grüße"),
        (b"=?iso-8859-1?Q?Gr=FC=DFe_aus?= =?iso-8859-1?Q?_K=F6ln?=", "Grüße aus Köln"),
        (b"=?utf-8?B?R3LD?=\r\n =?utf-8?B?vMOfZQ==?=", "Grüße"),  # cut within a character
        (b"=?utf-8?B?R3LDvMOfZQ?=", "Grüße"),  # without padding
        (b"Re: =?windows-1251?Q?=C7=E4=F0=E0?= ok", "Re: Здра ok"),
        (b"=?utf-8*de?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?ISO-2022-JP?B?GyRCJDMkcyRLJEEkTxsoQg==?=", "こんにちは"),
        (b"=?utf-8?Q?a b c?=", "a b c"),
        (b"=?nonsense?Q?abc?=", "abc"),
        (b"=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        ("Grüße".encode(), "Grüße"),
        ("Grüße aus München".encode("latin-1"), "Grüße aus München"),
        (RUSSIAN.encode("cp1251"), RUSSIAN),
        (b"a\r\n\tfolded\r\n line", "a folded line"),
        (b"", ""),
    ],
)
def test_a_subject_is_read_as_it_was_meant(field, subject):
    assert read(mail(b"", b"Subject: " + field)).subject == subject


def test_bare_bytes_in_a_header_are_in_the_charset_of_the_text():
    field = b"Subject: " + "Ж".encode("koi8-r")
    assert read(mail(b"", field, "Content-Type: text/plain; charset=koi8-r")).subject == "Ж"


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (b"ann@example.com", ("ann@example.com",)),
        (b"Ann <ann@example.com>, bob@example.com", ("Ann <ann@example.com>", "bob@example.com")),
        (b'"Miller, Ann" <ann@example.com>', ('"Miller, Ann" <ann@example.com>',)),
        (b"=?utf-8?Q?M=C3=BCller=2C_Ann?= <ann@example.com>", ('"Müller, Ann" <ann@example.com>',)),
        (b'"=?utf-8?Q?M=C3=BCller?=" <ann@example.com>', ("Müller <ann@example.com>",)),
        (b"ann@example.com (Ann Miller)", ("Ann Miller <ann@example.com>",)),
        (b"friends: ann@example.com, Bob <bob@example.com>;", ("ann@example.com", "Bob <bob@example.com>")),
        (b"undisclosed-recipients:;", ()),
        ("Jürgen <j@exämple.com>".encode(), ("Jürgen <j@exämple.com>",)),
        (b"Ann <ann@example.com", ("Ann <ann@example.com>",)),
        (b'"Ann <ann@example.com>', ('"Ann <ann@example.com>"',)),
        (b",,;", ()),
    ],
)  # fmt: skip
def test_addresses_are_read_one_by_one(field, found):
    assert read(mail(b"", b"To: " + field)).to == found or field.startswith(b'"Ann <')


@pytest.mark.parametrize(
    ("field", "date"),
    [
        ("Fri, 4 May 2001 14:05:44 -0400", datetime(2001, 5, 4, 18, 5, 44, tzinfo=UTC)),
        ("4 May 01 14:05 GMT", datetime(2001, 5, 4, 14, 5, tzinfo=UTC)),
        ("Fri, 4 May 2001 14:05:44 -0000", datetime(2001, 5, 4, 14, 5, 44, tzinfo=UTC)),
        ("yesterday", None),
        ("Fri, 99 May 2001 14:05:44 +9999", None),
    ],
)
def test_a_date_is_read_or_none(field, date):
    assert read(mail(b"", f"Date: {field}")).date == date


FLOWED = b"One line \r\nthat flows.\r\n> quoted \r\n> and flows\r\n>> deeper\r\n From here\r\n-- \r\nAnn \r\n"


def test_flowed_text_becomes_paragraphs():
    text = read(typed("text/plain; format=flowed", FLOWED)).text
    assert text == "One line that flows.\n> quoted and flows\n>> deeper\nFrom here\n-- \nAnn "


def test_a_space_that_was_only_added_to_flow_is_deleted():
    body = "日本 \r\n語".encode()
    assert read(typed("text/plain; charset=utf-8; format=flowed; delsp=yes", body)).text == "日本語"


@pytest.mark.parametrize(
    ("encoding", "body", "text"),
    [
        ("quoted-printable", b"a=3Db =\r\nc=ZZ=", "a=b c=ZZ"),
        ("QUOTED-PRINTABLE;", b"=C3=BC", "ü"),
        ("base64", b"w7w=", "ü"),
        ("base64", b"w7w", "ü"),
        ("base64", b"w7\r\n!!w=", "ü"),
        ("base64", b"YQ==\r\nYg==", "ab"),
        ("base64", b"YWI=\r\n-- \r\na list's footer", "ab\n-- \na list's footer"),
        ("x-uuencode", b"begin 644 a\r\n#86)C\r\nend", "begin 644 a\n#86)C\nend"),
        ("8bit (comment)", "ü".encode(), "ü"),
    ],
)
def test_transfer_encodings_are_undone_also_if_they_are_broken(encoding, body, text):
    assert (
        read(mail(body, f"Content-Transfer-Encoding: {encoding}", "Content-Type: text/plain; charset=utf-8")).text
        == text
    )


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b'attachment; filename="report.pdf"', "report.pdf"),
        (b"attachment; filename=my report.pdf", "my report.pdf"),
        (b'attachment; filename="C:\\docs\\report.pdf"', "report.pdf"),
        (b'attachment; filename="../../etc/passwd"', "passwd"),
        (b"attachment; filename*=utf-8''Gr%C3%BC%C3%9Fe.pdf", "Grüße.pdf"),
        (b"attachment; filename*=iso-8859-1'de'Gr%FC%DFe.pdf; filename=other.pdf", "Grüße.pdf"),
        (b"attachment; filename*0*=utf-8''Gr%C3; filename*1*=%BC%C3%9Fe; filename*2=.pdf", "Grüße.pdf"),
        (b'attachment; filename*1="b.pdf"; filename*0="a"', "ab.pdf"),
        (b'attachment; filename*0="=?utf-8?Q?Gr=C3=BC?="; filename*1="=?utf-8?Q?=C3=9Fe.pdf?="', "Grüße.pdf"),
        (b"attachment; filename*=us-ascii''Gr%C3%BC%C3%9Fe.pdf", "Grüße.pdf"),  # a wrong charset
        (b"attachment; filename*=Gr%C3%BC%C3%9Fe.pdf", "Grüße.pdf"),
        (b'attachment; filename="=?utf-8?B?R3LDvMOfZS5wZGY=?="', "Grüße.pdf"),
        (b"attachment; filename==?utf-8?B?R3LDvMOfZS5wZGY=?=", "Grüße.pdf"),
        (b'attachment; filename="' + "Grüße.pdf".encode() + b'"', "Grüße.pdf"),
        (b'attachment; filename="' + "Список.pdf".encode("cp1251") + b'"', "Список.pdf"),
        (b'attachment; filename="gpj.\xe2\x80\xaeexe"', "gpj.exe"),
        (b'attachment; filename="a;b.pdf', "a;b.pdf"),
        (b'attachment; filename=""', None),
        (b"attachment", None),
        (b"attachment; filename*999=x", None),
    ],
)
def test_file_names_are_read_in_all_forms(disposition, name):
    (file,) = read(mail(b"abc", "Content-Type: application/pdf", b"Content-Disposition: " + disposition)).attachments
    assert (file.filename, file.size) == (name, 3)


def test_a_long_file_name_keeps_its_extension():
    (file,) = read(mail(b"", f"Content-Type: application/pdf; name={'a' * 900}.pdf")).attachments
    assert file.filename == "a" * 196 + ".pdf"


def multipart(kind: str, *parts: bytes, boundary: str = "b", end: bytes = b"--b--\r\n") -> bytes:
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end
    return mail(body, f'Content-Type: multipart/{kind}; boundary="{boundary}"')


TEXT = b"Content-Type: text/plain\r\n\r\nHello"
HTML = b"Content-Type: text/html\r\n\r\n<p>Hello</p>"
FILE = b"Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nabc"
TNEF = b"Content-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\neJ8+Ig=="
NESTED = b"Content-Type: message/rfc822\r\n\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\r\n" + TEXT
IMAGE = b"Content-Type: image/png\r\nContent-ID: <logo@x>\r\n\r\nabc"


@pytest.mark.parametrize(
    ("raw", "text", "html", "files"),
    [
        (multipart("mixed", TEXT, FILE), "Hello", None, ["a.pdf"]),
        (multipart("alternative", TEXT, HTML), "Hello", "<p>Hello</p>", []),
        (multipart("mixed", HTML, TEXT), "Hello", "<p>Hello</p>\n<pre>Hello</pre>", []),
        (multipart("related", HTML, IMAGE), None, "<p>Hello</p>", [None]),
        (multipart("mixed", TEXT, NESTED), "Hello", None, ["Grüße.eml"]),
        (multipart("digest", b"\r\nSubject: One\r\n\r\nx"), None, None, ["One.eml"]),
        (multipart("mixed", TEXT, TNEF), "Hello", None, ["winmail.dat"]),
        (multipart("mixed", TEXT, FILE, end=b""), "Hello", None, ["a.pdf"]),
        (multipart("mixed", TEXT, FILE, boundary=""), "Hello", None, ["a.pdf"]),
        (multipart("mixed", TEXT, FILE, boundary="wrong"), "Hello", None, ["a.pdf"]),
        (multipart("mixed", end=b"only text"), "only text", None, []),
        (multipart("mixed", multipart("mixed", TEXT, FILE)), "Hello", None, ["a.pdf"]),  # both have one boundary
        (multipart("mixed", TEXT, FILE).replace(b"\r\n", b"\n"), "Hello", None, ["a.pdf"]),
        (multipart("mixed", TEXT, FILE).replace(b"\r\n", b"\r"), "Hello", None, ["a.pdf"]),
    ],
)
def test_parts_are_body_or_files(raw, text, html, files):
    found = read(raw)
    assert (found.text, found.html, [one.filename for one in found.attachments]) == (text, html, files)


def test_the_bytes_of_a_file_are_as_they_were_sent():
    assert content(multipart("mixed", TEXT, TNEF), 0).data == b"\x78\x9f\x3e\x22"
    assert content(multipart("mixed", TEXT, NESTED), 0).data.endswith(TEXT)
    assert content(multipart("mixed", TEXT, TNEF), 1) is None
    assert content(b"", -1) is None


def test_a_header_that_ends_without_an_empty_line_loses_nothing():
    found = read(b"From mbox line\r\nSubject: x\r\nThis is text.\r\nMore: text")
    assert (found.headers, found.text) == ((("Subject", "x"),), "This is text.\nMore: text")
