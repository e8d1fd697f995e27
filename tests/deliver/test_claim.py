"""What a transaction knows of its message."""

import pytest

from mailbbgun.deliver.claim import Loaded


@pytest.mark.parametrize(
    ("mail_from", "sender", "author", "own"),
    [
        ("a@b.test", "a@b.test", "a@b.test", False),
        ("a@b.test", "Ann <a@b.test>", "a@b.test", False),
        ("a@b.test", "Ann <x@y.test> <a@b.test>", "a@b.test", False),
        ('"a<b"@b.test', 'Ann <"a<b"@b.test>', '"a<b"@b.test', False),
        ("bounces@b.test", "a@b.test", "a@b.test", True),
        ("bounces@b.test", "Ann <a@b.test>", "a@b.test", True),
        ("x@y.test", "Ann <x@y.test> <a@b.test>", "a@b.test", True),
        ("", "Ann <a@b.test>", "a@b.test", True),
    ],
)
def test_whose_mail_it_is_and_whether_it_names_who_gets_bounces(
    mail_from: str, sender: str, author: str, own: bool
) -> None:
    loaded = Loaded(b"", mail_from, False, False, sender, None)
    assert (loaded.from_address, loaded.own_mail_from) == (author, own)
