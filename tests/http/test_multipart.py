"""multipart/form-data, read part by part: what is a part, what is refused, and how much it costs."""

import io
import os
import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.core.errors import InvalidInput, MailBBGunError, TooLarge, UnsupportedMediaType
from mailbbgun.http.uploads.form import BEGINNING, UploadedForm
from mailbbgun.http.uploads.multipart import (
    BLOCK,
    LONGEST_FILENAME,
    LONGEST_HEADERS,
    MOST_FIELDS,
    FormLimits,
    FormParser,
    boundary_of,
)
from tests.waiting import cpu_of

LIMITS = FormLimits(files=3, file_size=1_000_000, fields_size=10_000)
TYPE = "multipart/form-data; boundary=X"
FILE = b'Content-Disposition: form-data; name="file"; filename='
FIELD = b'Content-Disposition: form-data; name="field"'
END = b"\r\n--X--\r\n"
NO_DISPOSITION = "Each part needs a header such as Content-Disposition: form-data; "


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"X") -> bytes:
    return (
        b"".join(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head, content) for head, content in parts)
        + b"--%b--\r\n" % boundary
    )


def read(body: bytes, content_type: str = TYPE, limits: FormLimits = LIMITS) -> list[tuple[str, str | None, bytes]]:
    parts = FormParser(io.BytesIO(body), content_type, limits)
    return [(part.name, part.filename, b"".join(parts.blocks())) for part in parts]


def refused(body: bytes, content_type: str = TYPE, limits: FormLimits = LIMITS) -> MailBBGunError:
    with pytest.raises(MailBBGunError) as found:
        read(body, content_type, limits)
    return found.value


class Dripping(io.BytesIO):
    """A body that comes in pieces of a few bytes."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 1, random.Random(self.tell()).randrange(1, 9)))


@pytest.mark.parametrize(
    "content", [b"", b"hi", b"\r\n", b"--", b"\r\n--Y", b"\r\n--", b"a\r\n\r\nb", os.urandom(3 * BLOCK)]
)
def test_a_file_keeps_its_bytes_whatever_they_are(content):
    assert read(form((FILE + b'"a.bin"', content), (FILE + b'"b.bin"', b"end"))) == [
        ("file", "a.bin", content),
        ("file", "b.bin", b"end"),
    ]


@pytest.mark.parametrize("content", [b"", b"hi\r\n", b"\r\n--XY\r", b"x" * 50])
def test_a_form_that_drips_is_read_alike(content):
    body = form((FIELD, b"1"), (FILE + b'"a.bin"', content))
    parts = FormParser(Dripping(body), TYPE, LIMITS)
    assert [(part.name, b"".join(parts.blocks())) for part in parts] == [("field", b"1"), ("file", content)]


def test_what_is_left_unread_of_a_part_is_skipped():
    parts = FormParser(io.BytesIO(form((FILE + b'"a"', b"x" * 3 * BLOCK), (FIELD, b"1"))), TYPE, LIMITS)
    assert [part.name for part in parts] == ["file", "field"]


def test_what_stands_before_and_behind_the_parts_is_ignored():
    assert read(b"This is a form.\r\n" + form((FIELD, b"1")) + b"and so on\r\n--X\r\n") == [("field", None, b"1")]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b'"a.txt"', "a.txt"),
        (b"a.txt", "a.txt"),
        (b'"a \\"b\\".txt"', 'a "b".txt'),
        (b'"a %22b%22.txt"', 'a "b".txt'),  # as browsers and curl write it
        (b'"a;b=c.txt"', "a;b=c.txt"),
        ('"Prüfung.pdf"'.encode(), "Prüfung.pdf"),
        ('"請求書.pdf"'.encode(), "請求書.pdf"),
        ('"🎉.gif"'.encode(), "🎉.gif"),
        (b"\"plain.pdf\"; filename*=utf-8''Pr%C3%BCfung.pdf", "Prüfung.pdf"),  # RFC 6266 §4.3, RFC 8187
        (b'"x"; size=3', "x"),
    ],
)
def test_a_files_name_is_what_its_sender_meant(header, name):
    assert read(form((FILE + header, b""))) == [("file", name, b"")]


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (b"filename*=utf-8''Pr%C3%BCfung.pdf", "Prüfung.pdf"),
        (b"filename*=utf-8''Pr%C3%BCfung.pdf; filename=\"plain.pdf\"", "Prüfung.pdf"),
        (b"filename*0*=utf-8''Pr%C3%BC; filename*1=\"fung.pdf\"", "Prüfung.pdf"),  # RFC 2231 §4.1
        (b"filename*=iso-8859-1''Pr%FCfung.pdf", "Prüfung.pdf"),
    ],
)
def test_an_extended_name_is_read_and_wins_over_a_plain_one(parameters, name):
    header = b'Content-Disposition: form-data; name="file"; ' + parameters
    assert read(form((header, b""))) == [("file", name, b"")]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "The body ends before its last boundary, --X--"),
        (form((FIELD, b"1"))[:-6], "The body ends before its last boundary, --X--"),
        (form((FILE + b'"a"', b"1"))[:-20], "The body ends before its last boundary, --X--"),
        (b"--X\r\nContent-Disp", "The body ends before its last boundary, --X--"),
        (b"x" * 70_000, "The body does not begin with the boundary --X of its Content-Type."),
        (form((FIELD, b"1"), boundary=b"Y") * 2000, "The body does not begin with the boundary --X"),
        (form((b"Content-Type: text/plain", b"1")), NO_DISPOSITION),
        (form((b"Content-Disposition: form-data", b"1")), NO_DISPOSITION),
        (form((b'Content-Disposition: attachment; name="a"; filename="b"', b"1")), NO_DISPOSITION),
        (form((FILE + b'"Pr\xfcfung.pdf"', b"1")), "A part's headers are not UTF-8."),
        (
            form((FILE + b'"a"\r\nContent-Type: multipart/mixed; boundary=Y', form((FIELD, b""), boundary=b"Y"))),
            '`file` is "multipart/mixed" in itself; send each file as a part of its own',
        ),
        (form((FILE + b'"a"\r\nContent-Type: text', b"1")), '`file` has a Content-Type that is none: "text"'),
        (
            form((FILE + b'"a"\r\nContent-Transfer-Encoding: base64', b"MQ==")),
            '`file` has the Content-Transfer-Encoding "base64"; send its bytes as they are',
        ),
    ],
)
def test_a_malformed_form_is_400_and_says_what_would_be_right(body, says):
    error = refused(body)
    assert (error.status, error.code, error.message[: len(says)]) == (400, "malformed_form", says)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (form(*[(FIELD, b"1")] * 100_000), f"The form has more than {MOST_FIELDS} fields, the limit."),
        (form(*[(FILE + b'"a"', b"1")] * 100_000), "More than 3 files in one request, the limit"),
        (form((FIELD, b"x" * 10_001)), "The form's fields have more than 10000 bytes, the limit (MAX_BODY_SIZE)."),
        (form(*[(FIELD, b"x" * 100)] * 101), "The form's fields have more than 10000 bytes"),
        (form((FILE + b'"a.bin"', b"x" * 1_000_001)), 'The file "a.bin" is larger than 1000000 bytes, the limit'),
        (form((FIELD + b"\r\nX: " + b"y" * LONGEST_HEADERS, b"")), "The headers of a part have more than 8190"),
        (form((FIELD + b"\r\nX: " + b"y" * 200_000, b"")), "The headers of a part have more than 8190"),
        (form((FIELD + b"\r\nX: y" * 20_000, b"")), "The headers of a part have more than 8190"),
        (form((FILE + b'"%b"' % (b"a" * (LONGEST_FILENAME + 1)), b"")), "The file name "),
        (form((b'Content-Disposition: form-data; name="%b"' % (b"a" * 101), b"")), "The name "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_form_beyond_a_limit_is_413_with_the_limit(body, says):
    error = refused(body)
    assert isinstance(error, TooLarge)
    assert error.message.startswith(says)


def test_a_file_of_the_limit_is_taken():
    assert len(read(form((FILE + b'"a"', b"x" * LIMITS.file_size)))[0][2]) == LIMITS.file_size


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        ("multipart/form-data", "Content-Type names no boundary"),
        ("multipart/form-data; boundary=" + "x" * 71, "Content-Type must name a boundary of 1 to 70 characters"),
        ('multipart/form-data; boundary="a "', "Content-Type must name a boundary"),
        ('multipart/form-data; boundary="ä"', "Content-Type must name a boundary"),
        ('multipart/form-data; boundary="a@b"', "Content-Type must name a boundary"),
    ],
)
def test_a_boundary_that_is_none_is_400(content_type, says):
    with pytest.raises(InvalidInput) as found:
        boundary_of(content_type)
    assert found.value.message.startswith(says)


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/json", "multipart/mixed; boundary=X"])
def test_a_body_that_is_no_form_is_415(content_type):
    with pytest.raises(UnsupportedMediaType, match=r"curl does with -F"):
        boundary_of(content_type)


@pytest.mark.parametrize(
    "content",
    [b"\r\n" * 490_000, b"\r" * 980_000, b"\r\n-" * 320_000, b"\r\n--" * 240_000, b"--X" * 320_000],
    ids=["line ends", "bare returns", "near boundaries", "nearer boundaries", "boundaries inside lines"],
)
def test_hostile_content_costs_about_as_much_as_random_content(content):
    random_body, hostile = (
        form((FILE + b'"a"', one)) for one in (random.Random(1).randbytes(1_000_000), b"x" + content)
    )
    usual = min(cpu_of(lambda: read(random_body)) for _ in range(3))
    assert min(cpu_of(lambda: read(hostile)) for _ in range(3)) < 20 * usual


def uploaded(body: bytes) -> UploadedForm:
    return UploadedForm(
        {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "CONTENT_LENGTH": str(len(body))}, TYPE, LIMITS
    )


def test_the_files_of_a_form_are_known_before_their_contents_are_read():
    big = random.Random(2).randbytes(300_000)
    found = uploaded(form((FIELD, b"1"), (FILE + b'"a"', big), (FIELD, "ü".encode()), (FILE + b'"b"', b"")))
    assert found.fields == [("field", "1"), ("field", "ü")]
    assert [(file.filename, file.size, file.beginning) for file in found.files] == [
        ("a", len(big), big[:BEGINNING]),
        ("b", 0, b""),
    ]
    for _ in range(2):
        assert [b"".join(content) for content in found.contents()] == [big, b""]


def test_a_file_that_nobody_chose_in_a_browser_is_left_out():
    found = uploaded(form((FILE + b'""', b""), (FILE + b'""', b"unnamed"), (FILE + b'"a"', b"named")))
    assert [(file.filename, file.size) for file in found.files] == [("", 7), ("a", 5)]
    assert [b"".join(content) for content in found.contents()] == [b"unnamed", b"named"]


def test_a_field_that_is_not_utf_8_is_named():
    with pytest.raises(InvalidInput, match=r"^`field` is not UTF-8: byte 3 begins no character"):
        uploaded(form((FIELD, b"ab\xff")))


PIECES = [
    b"--X", b"--", b"\r\n", b"\n", b"\r", b'"', b";", b"\\", b"\0", b"\xff", b"=", b"''", b": ", b"%22", FILE, FIELD,
    b"filename*0*=utf-8''%ff", b"filename*1=", b"filename*=utf-16''%00a", b"name*0=a; name*2=b", b"Content-Type: a/b",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=9), max_size=12), st.integers(0, 12))
def test_any_bytes_are_a_form_or_get_an_error_of_ours(pieces, at):
    whole = [b"--X\r\n", FILE, b'"a"', b"\r\n\r\n", b"content", b"\r\n--X\r\n", FIELD, b"\r\n\r\n1", END]
    with suppress(MailBBGunError):
        found = uploaded(b"".join(whole[:at] + pieces + whole[at:]))
        assert [len(b"".join(content)) for content in found.contents()] == [file.size for file in found.files]


def test_the_end_of_a_form_is_checked_before_any_content_is_read():
    with pytest.raises(TooLarge):
        uploaded(form((FILE + b'"a"', b"good"), (FILE + b'"b"', b"x" * 1_000_001)))
