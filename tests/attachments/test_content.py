"""The header of a download is safe, whatever a file is called."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.attachments.content import disposition

HEADER = re.compile(r"attachment; filename=\"([ !#-$&-.0-\[\]-~]+)\"; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]*)")
PIECES = (
    "..",
    "/",
    "\\",
    '"',
    "'",
    "\r\n",
    "\0",
    "%",
    ";",
    "\u202e",
    "é",
    "名",
    "😀",
    "CON",
    " ",
    "a" * 100,
    "=?utf-8?b?",
    "\ud800",
)


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
def test_a_name_cannot_leave_its_parameter(name: str) -> None:
    found = HEADER.fullmatch(disposition(name))
    assert found
    assert unquote(found[2]) == name.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("name", ["", "\r\nX: y", '"; filename="evil', "\0", "名", "\ud800"])
def test_a_strange_name_is_no_other_header_and_no_other_parameter(name: str) -> None:
    assert HEADER.fullmatch(disposition(name))
