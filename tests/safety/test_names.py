"""Names of files cannot mislead a person, a shell or a file system."""

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.safety.names import MAX_NAME, NAMELESS, extension, safe_name

GOOD = [
    "report.pdf",
    'Prüfung (Q1)\'s "final".pdf',
    "請求書 2026年11月.pdf",
    "👩‍👩‍👧 family 🎉.jpg",
    "नमस्ते‌.txt",
    "تقرير.pdf",
    ".gitignore",
    "a.tar.gz",
    "50% off; now & then, $5 = #1.txt",
    "no extension",
    "长" * 200 + ".pdf",
    "console.log",
    "common.txt",
    "nul1.txt",
]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_stays_as_it_is(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("", NAMELESS),
        (".", NAMELESS),
        ("..", NAMELESS),
        ("../..", NAMELESS),
        (" ", NAMELESS),
        ("\0", NAMELESS),
        ("/", NAMELESS),
        ("\u202e", NAMELESS),
        ("../../etc/passwd", "passwd"),
        ("C:\\fakepath\\photo.jpg", "photo.jpg"),
        ("C:photo.jpg", "C_photo.jpg"),
        ("..\\..\\windows\\system32\\cmd.exe", "cmd.exe"),
        ("folder/", "folder"),
        ("a/b\\c/d.txt", "d.txt"),
        ("a\0.pdf", "a.pdf"),
        ("a.pdf\0.exe", "a.pdf.exe"),
        ("a\r\nBcc: x@y.test\r\n.txt", "a Bcc_ x@y.test .txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("\u2066a\u2069.pdf", "a.pdf"),
        ("\ufeffa.pdf", "a.pdf"),
        ("a\u200b.pdf", "a.pdf"),
        ("a\u00ad.pdf", "a.pdf"),
        ("a\ud800.pdf", "a.pdf"),
        ("a\ue000\uffff.pdf", "a.pdf"),
        ("a.pdf                    .exe", "a.pdf .exe"),
        ("a.pdf\u3164\u2800\u3000\u2003.exe", "a.pdf .exe"),
        ("a.txt.", "a.txt"),
        ("a.txt. . .", "a.txt"),
        ("  a.txt  ", "a.txt"),
        ("a.txt:evil.exe", "a.txt_evil.exe"),
        ("a.txt::$DATA", "a.txt__$DATA"),
        ("<a>|?*.txt", "_a____.txt"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("Nul.tar.gz", "_Nul.tar.gz"),
        ("aux .txt", "_aux .txt"),
        ("COM1", "_COM1"),
        ("lpt\u00b9.txt", "_lpt\u00b9.txt"),
        ("CONIN$", "_CONIN$"),
        ("a\u0308.txt", "ä.txt"),
        ("x" * 4096 + ".pdf", "x" * 251 + ".pdf"),
        ("x" * 300, "x" * 255),
        ("a." + "x" * 300, "a." + "x" * 253),
        ("😀" * 200 + ".pdf", "😀" * 125 + ".pdf"),
    ],
)
def test_a_nasty_name_loses_what_makes_it_so(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize(
    ("name", "found"),
    [("a.PDF", "pdf"), ("a.tar.gz", "gz"), ("a", ""), (".gitignore", ""), ("a.", ""), ("a.pdf .exe", "exe")],
)
def test_an_extension_is_what_follows_the_last_dot(name: str, found: str) -> None:
    assert extension(name) == found


NASTY = [
    "../", "..\\", "/", "\\", "C:", "\0", "\r\n", "\t", "\u202e", "\u2066", "\u200f", "\u200d", "\ufeff", "\ud83d",
    "CON", "nul.", "COM1.", ".", "..", " ", "\u3164", "\u00a0", '"', "'", ";", "%00", "%2f", "$(id)", "`id`", "|",
    "<b>", "*?", ".pdf", ".exe", "x" * 300, "長" * 300, "😀" * 150, "e\u0301", "\u0301" * 50, "=?utf-8?q?a?=",
    "filename*=", "~", "-rf", "ﬁ", "\u2028",
]  # fmt: skip


def is_safe(name: str) -> bool:
    return (
        bool(name)
        and not set(name) & set("/\\\0<>:|?*")
        and name == name.strip(" ") == name.rstrip(" .")
        and "  " not in name
        and len(name.encode("utf-16-le")) <= 2 * MAX_NAME
        and all(unicodedata.category(c) not in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp") for c in name)
        and all(c in "\u200c\u200d" for c in name if unicodedata.category(c) == "Cf")
        and name.partition(".")[0].strip().upper() not in ("CON", "NUL", "COM1", "AUX", "PRN")
        and safe_name(name) == name
    )


def test_thousands_of_nasty_names_become_safe_ones() -> None:
    names = ["".join(parts) for count in (1, 2, 3) for parts in itertools.product(NASTY, repeat=count)]
    chosen = names[:2000] + names[2000::37]
    assert len(chosen) > 4000
    assert [name for name in chosen if not is_safe(safe_name(name))] == []


@given(st.text(st.characters()) | st.lists(st.sampled_from(NASTY) | st.text()).map("".join))
def test_any_text_becomes_a_safe_name(name: str) -> None:
    assert is_safe(safe_name(name))
