"""The file of the encryption key: the error if it cannot be read."""

import os
from pathlib import Path

import pytest

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.database.crypto import Vault, new_key
from mailbbgun.settings.load import load

NOBODY = 65534


def test_a_key_that_belongs_to_another_user_is_not_called_missing(tmp_path: Path) -> None:
    settings = load({"MAILBBGUN_VAR": str(tmp_path)})
    (tmp_path / "encryption.key").write_text(new_key())
    (tmp_path / "encryption.key").chmod(0)
    root = os.geteuid() == 0  # root may read every file
    if root:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(ConfigurationError) as caught:
            _ = Vault(settings).size
    finally:
        if root:
            os.seteuid(0)
    why = f"ENCRYPTION_KEYS: is not set, and {tmp_path}/encryption.key cannot be read (Permission denied)"
    assert str(caught.value) == f"{why}: the user who runs this must own {tmp_path} and all that is in it"


def test_the_error_about_a_missing_key_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _ = Vault(load({"MAILBBGUN_VAR": str(tmp_path)})).size
    why = f"ENCRYPTION_KEYS: is not set, and {tmp_path}/encryption.key cannot be read (No such file or directory)"
    assert str(caught.value) == f"{why}: put the file back; on a new installation python initdb.py makes one"
