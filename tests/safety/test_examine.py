"""Files are judged by their names, their content and what their senders say of them."""

import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.core.errors import FileRefused
from mailbbgun.safety import formats
from mailbbgun.safety.examine import Examination, Rules, SafeFile
from mailbbgun.settings.settings import Settings
from tests.safety.samples import BAD, ELF, GIF, GOOD, JPEG, NOISE, PDF, PNG, PROGRAM, bomb, office, ole, zipped

DEFAULT = Rules.of(Settings())
EVERYTHING = Rules(None, macros=True, nested=True)


def judged(name: str, content: bytes, declared: str = "", rules: Rules = DEFAULT, size: int = 65_536) -> SafeFile:
    examination = Examination()
    for start in range(0, len(content), size):
        examination.look(content[start : start + size])
    return examination.judge(name, declared, rules)


def refusal(name: str, content: bytes, declared: str = "", rules: Rules = DEFAULT) -> str:
    with pytest.raises(FileRefused) as caught:
        judged(name, content, declared, rules)
    assert (caught.value.status, caught.value.code) == (422, "file_refused")
    return str(caught.value)


def test_a_file_of_each_allowed_type_is_a_sample_here() -> None:
    assert set(GOOD) == DEFAULT.extensions
    assert len(GOOD) >= 25


@pytest.mark.parametrize("extension", GOOD)
def test_a_file_that_is_what_it_says_is_accepted(extension: str) -> None:
    own = formats.type_of(extension)
    unknown = "application/x-something" if formats.by_extension(extension) else own
    for declared in ("", "application/octet-stream", unknown, own, own.upper()):
        found = judged(f"Some file.{extension.upper()}", GOOD[extension], declared)
        assert found.filename == f"Some file.{extension.upper()}"
        assert found.content_type.lower() == own
    assert judged(f"a.{extension}", GOOD[extension], size=1).content_type == own


TEXTS = {"txt", "log", "csv", "tsv", "md", "json", "xml", "eml", "asc"}
PLAIN = TEXTS - {"xml"} | {"bin"}  # their content says nothing
#: Extensions → what such files may hold besides: what programs write by that name, and other texts.
ALSO = {
    **{one: {"rtf"} for one in ("doc", "dot", "xls", "ppt")},
    **{one: {"html", "htm", "svg"} for one in ("xml", "md", "eml")},
    "bin": set(GOOD) - {"zip"},
}


@pytest.mark.parametrize("extension", GOOD)
def test_a_file_that_is_something_else_is_refused(extension: str) -> None:
    also = PLAIN | ALSO.get(extension, set())
    if extension in TEXTS | {"html", "htm", "ics", "vcf"}:
        also |= TEXTS | {"ics", "vcf"}
    expected = formats.by_extension(extension)
    for other, content in GOOD.items():
        if (expected and formats.by_extension(other) is expected) or other in also:
            assert judged(f"a.{extension}", content)
        else:
            assert f"'a.{extension}' is not what it seems" in refusal(f"a.{extension}", content)


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("extension", GOOD)
def test_no_program_or_archive_passes_under_another_name(extension: str, what: str) -> None:
    said = refusal(f"a.{extension}", BAD[what])
    assert f"but its content is: {what}" in said


@pytest.mark.parametrize("what", NOISE)
@pytest.mark.parametrize("extension", GOOD)
def test_content_that_says_nothing_is_no_reason_to_refuse(extension: str, what: str) -> None:
    if extension == "zip":
        assert "damaged" in refusal("a.zip", b"PK\x03\x04" + NOISE[what])
    assert judged(f"a.{extension}", NOISE[what]).content_type == formats.type_of(extension)


@pytest.mark.parametrize(
    "name", ["a.exe", "a.pdf.exe", "a.js", "a.docm", "a.7z", "a.pdf .exe", "invoice\u202efdp.scr", "a.EXE."]
)
def test_a_type_that_is_not_allowed_is_refused_and_the_answer_lists_the_others(name: str) -> None:
    said = refusal(name, PDF)
    assert "Accepted are: asc, avi, avif," in said
    assert "ALLOWED_FILE_TYPES" in said


def test_a_file_without_an_extension_goes_by_its_content() -> None:
    assert judged("scan", PDF) == SafeFile("scan", "application/pdf")
    assert judged("../README", b"hello\n") == SafeFile("README", "text/plain")
    assert "not accepted" in refusal("program", ELF)
    assert judged("noise", NOISE["zeros"]).content_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("name", "declared", "sent"),
    [
        ("a.csv", "application/vnd.ms-excel", "text/csv"),
        ("a.csv", "text/plain", "text/csv"),
        ("a.zip", "application/x-zip-compressed", "application/x-zip-compressed"),
        ("a.txt", "text/plain; charset=iso-8859-1", "text/plain; charset=iso-8859-1"),
        ("a.txt", "text/x-python", "text/plain"),
        ("a.csv", "text/plain; charset=iso-8859-1", "text/csv; charset=iso-8859-1"),
        ("a.txt", "text/html", "text/plain"),
        ("a.json", "text/plain; charset=x", "application/json"),
        ("a.pdf", "text/plain", "application/pdf"),
        ("a.jpg", "image/jpg", "image/jpg"),
    ],
)
def test_a_declared_type_that_goes_with_the_name_is_no_reason_to_refuse(name: str, declared: str, sent: str) -> None:
    assert judged(name, GOOD[name[2:]], declared).content_type == sent


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("a.pdf", "text/html"),
        ("a.pdf", "application/zip"),
        ("a.png", "image/jpeg"),
        ("a.txt", "application/pdf"),
        ("a.jpg", "text/html"),
        ("a.zip", "application/pdf"),
    ],
)
def test_a_declared_type_of_another_format_is_refused(name: str, declared: str) -> None:
    assert "its Content-Type says" in refusal(name, GOOD[name[2:]], declared)


def test_everything_may_be_allowed_but_nothing_passes_as_something_else() -> None:
    assert judged("setup.exe", PROGRAM, rules=EVERYTHING).content_type.endswith("portable-executable")
    assert judged("part.step", b"ISO-10303-21;\n", rules=EVERYTHING).content_type == "application/octet-stream"
    assert judged("part.bin", bytes(range(256)), "model/x", rules=EVERYTHING).content_type == "model/x"
    assert "not what it seems" in refusal("a.pdf", PROGRAM, rules=EVERYTHING)
    assert "not what it seems" in refusal("part.step", ELF, rules=EVERYTHING)


# -- macros, archives, and files that are two at once

MACROS = {
    "a.docm": office("word", **{"word/vbaProject.bin": b"x"}),
    "a.xlsm": office("xl", **{"xl/macrosheets/sheet1.xml": b"<x/>"}),
    "a.doc": ole("_VBA_PROJECT"),
    "a.xls": ole("_VBA_PROJECT_CUR"),
    "a.odt": zipped({"mimetype": b"x", "content.xml": b"<x/>", "Basic/script-lc.xml": b"<x/>"}),
}


@pytest.mark.parametrize("name", MACROS)
def test_a_document_with_macros_is_refused_unless_they_are_allowed(name: str) -> None:
    all_types = Rules(None, macros=False, nested=False)
    assert "has macros" in refusal(name, MACROS[name], rules=all_types)
    assert judged(name, MACROS[name], rules=EVERYTHING).filename == name
    with pytest.raises(FileRefused, match="has macros"):
        judged(name, MACROS[name], rules=all_types, size=7)


def test_macros_do_not_hide_in_a_document_that_says_it_has_none() -> None:
    for rules in (DEFAULT, EVERYTHING):
        assert "its content is: Office document with macros" in refusal("a.docx", MACROS["a.docm"], rules=rules)


def test_an_encrypted_document_is_accepted() -> None:
    assert judged("a.xlsx", ole("EncryptedPackage"))
    assert "not what it seems" in refusal("a.pdf", ole("EncryptedPackage"))


NESTED = [
    "inner.zip",
    "lib/inner.7z",
    "a/b/setup.exe",
    "x.JS",
    "invoice.pdf.exe",
    "evil.exe.",
    "r\u202etxt.scr",
    "a.jar",
    "a.iso",
]


@pytest.mark.parametrize("inner", NESTED)
def test_an_archive_with_archives_or_programs_is_refused_unless_that_is_allowed(inner: str) -> None:
    archive = zipped({"readme.txt": b"x", inner: b"x"})
    assert "archives may hold no archives or programs" in refusal("a.zip", archive)
    assert judged("a.zip", archive, rules=EVERYTHING)


def test_a_bomb_is_refused_by_what_it_says_of_itself() -> None:
    assert "unpacks to a hundred times its size" in refusal("a.zip", bomb())
    assert judged("a.zip", bomb(claimed=1000))


def test_a_list_of_files_that_is_too_long_or_damaged_is_refused() -> None:
    many = zipped({f"{number:0100}.txt": b"" for number in range(6000)})
    assert "too long to be read" in refusal("a.zip", many)
    damaged = bytearray(zipped({"a.txt": b"x", "b.exe": b"x"}))
    damaged[damaged.rfind(b"PK\x01\x02") : damaged.rfind(b"PK\x01\x02") + 4] = b"XXXX"
    assert "damaged" in refusal("a.zip", bytes(damaged))
    assert "damaged" in refusal("a.zip", GOOD["zip"][:-5])


@pytest.mark.parametrize(
    ("name", "content", "second"),
    [
        ("a.gif", GIF + zipped({"a.class": b"x"}), "ZIP archive"),
        ("a.pdf", PDF + zipped({"a.txt": b"x"}), "ZIP archive"),
        ("a.jpg", JPEG + zipped({"a.txt": b"x"}) , "ZIP archive"),
        ("a.txt", b"hello\n" + zipped({"a.txt": b"x"}), "ZIP archive"),
        ("a.zip", zipped({"good.txt": b"x"}) + zipped({"evil.txt": b"x"}), "ZIP archive"),
        ("a.gif", b"GIF89a=1;alert(1);/*<script>*/" + bytes(30), "script or document"),
        ("a.jpg", JPEG + b"<?php system($_GET[0]) ?>", "script or document"),
        ("a.png", PNG + b"%PDF-1.7", "script or document"),
    ],
)  # fmt: skip
def test_a_file_that_is_two_at_once_is_refused(name: str, content: bytes, second: str) -> None:
    for rules in (DEFAULT, EVERYTHING):
        assert f"and {second}." in refusal(name, content, rules=rules)


# -- bounds


def test_a_file_of_any_size_takes_half_a_megabyte() -> None:
    def blocks() -> Iterator[bytes]:
        for _ in range(2000):
            yield bytes(65_536)

    examination = Examination()
    tracemalloc.start()
    try:
        assert sum(map(len, examination.watch(blocks()))) == examination.size == 2000 * 65_536
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


MARKS = [
    b"PK\x03\x04",
    b"PK\x01\x02",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"\0" * 46,
    b"\xff" * 20,
    b"<!---->" * 900,
]


@given(
    st.lists(st.sampled_from([*MARKS, *GOOD.values()]) | st.binary(max_size=200), max_size=8).map(b"".join),
    st.sampled_from([*GOOD]),
)
def test_any_content_is_accepted_or_refused(content: bytes, extension: str) -> None:
    for rules in (DEFAULT, EVERYTHING):
        with suppress(FileRefused):
            assert judged(f"a.{extension}", content, rules=rules).content_type
