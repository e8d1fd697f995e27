"""The targets of suppressions: an address or a domain, in the form that is stored. Pure."""

from mailbbgun.core import addresses


def of_address(text: str) -> str:
    """Return the target of an address: the same for every case of ASCII letters.

    Raises ``ValueError`` with a sentence that is safe to show.
    """
    return _ascii_lower(addresses.address(text.strip()))


def of_domain(text: str) -> str:
    """Return the target of a domain, with or without an @ before it: in A-labels and lower case.

    Raises ``ValueError`` with a sentence that is safe to show.
    """
    return addresses.domain(text.strip().removeprefix("@").removesuffix("."))


def is_domain(target: str) -> bool:
    """Return whether a target is a whole domain."""
    return "@" not in target


def concerning(address: str) -> tuple[str, str]:
    """Return the targets that suppress a recipient: its address and its domain.

    ``address`` is one as ``addresses.address`` returns it. A subdomain is another domain.
    """
    return _ascii_lower(address), address.rpartition("@")[2]


def _ascii_lower(text: str) -> str:
    # The letters that the database's index on recipients does not tell apart, and no others.
    return text.encode().lower().decode()
