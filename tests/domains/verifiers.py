"""Two verifiers of DKIM signatures that others wrote: dkimpy, and Perl's Mail::DKIM."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import dkim

from tests.servers import install
from tests.smtp.name_server import NameServer
from tests.waiting import PATIENCE

_PERL = Path(__file__).with_name("verify.pl")


def by_dkimpy(message: bytes, zone: Mapping[str, str]) -> dict[str, bool]:
    """Return, for each selector among the message's signatures, whether the signature is valid.

    ``zone`` has the TXT records by name.
    """
    verifier = dkim.DKIM(message)
    known = {f"{name}.".encode(): value.encode() for name, value in zone.items()}
    found = {}
    for place in range(sum(name.lower() == b"dkim-signature" for name, _ in verifier.headers)):
        try:
            valid = verifier.verify(place, dnsfunc=lambda name, timeout=5: known.get(name))
        except dkim.ValidationError:
            valid = False
        found[verifier.signature_fields[b"s"].decode()] = valid
    return found


def by_mail_dkim(message: bytes, zone: Mapping[str, str]) -> dict[str, str]:
    """Return what Perl says of each signature, by its selector: ``pass`` if it is valid.

    It does not know Ed25519.
    """
    install.mail_dkim()
    with NameServer({name: {"TXT": [quoted(value)]} for name, value in zone.items()}) as server:
        done = subprocess.run(
            ["perl", str(_PERL), str(server.port)], input=message, capture_output=True, timeout=PATIENCE, check=True
        )
    lines = [line.split(" ", 2) for line in done.stdout.decode().splitlines()]
    return {selector: detail for selector, _, detail in lines}


def quoted(value: str) -> str:
    """Return a TXT value as a zone file has it: in strings of at most 255 octets."""
    return " ".join(f'"{value[start : start + 255]}"' for start in range(0, len(value), 255))
