"""A certificate is read into text for people."""

import re
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.relays.certificate import MAX_NAMES, read
from tests.smtp.authority import Authority


def der(path: Path) -> bytes:
    pem = path.read_text()
    return ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE") :])


def test_subject_issuer_names_and_end_are_told(tmp_path: Path) -> None:
    found = read(der(Authority(tmp_path).issue("mail.test", "*.mail.test", "127.0.0.1")))
    assert found is not None
    assert (found.subject, found.issuer) == ("CN=mail.test", "CN=test authority")
    assert found.names == ("mail.test", "*.mail.test", "127.0.0.1")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", found.not_after)


def test_a_certificate_without_names_has_none(tmp_path: Path) -> None:
    found = read(der(Path(Authority(tmp_path).ca_file)))
    assert found is not None
    assert found.names == ()


def test_thousands_of_names_and_long_ones_are_cut(tmp_path: Path) -> None:
    found = read(
        der(
            Authority(tmp_path).issue(
                *(f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.{n}.test"[:300] for n in range(400))
            )
        )
    )
    assert found is None or (len(found.names) == MAX_NAMES and all(len(name) <= 255 for name in found.names))


@pytest.mark.parametrize("what", [b"", b"\x30\x00", b"not a certificate"])
def test_what_is_no_certificate_is_none(what: bytes) -> None:
    assert read(what) is None


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return der(Authority(tmp_path_factory.mktemp("ca")).issue("mail.test"))


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # odd, and read all the same
@given(place=st.integers(0, 10_000), octet=st.integers(0, 255))
def test_a_certificate_with_a_wrong_octet_never_raises(sound: bytes, place: int, octet: int) -> None:
    broken = bytearray(sound)
    broken[place % len(broken)] = octet
    read(bytes(broken))
