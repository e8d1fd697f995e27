"""Which entries concern an address: by table."""

import pytest

from mailbbgun.core import addresses
from mailbbgun.suppressions.targets import concerning, is_domain, of_address, of_domain


@pytest.mark.parametrize(
    ("entry", "recipient"),
    [
        ("ann@example.com", "ann@example.com"),
        (" Ann@Example.COM ", "ANN@example.com"),
        ("ann@BÜCHER.example", "ann@xn--bcher-kva.example"),
        ("jörg@example.com", "JöRG@example.com"),
        ('"ann"@example.com', "ann@example.com"),
    ],
)
def test_the_entry_of_an_address_concerns_each_spelling_of_it(entry, recipient):
    assert of_address(entry) in concerning(addresses.address(recipient))
    assert not is_domain(of_address(entry))


@pytest.mark.parametrize("entry", ["example.com", "@example.com", " EXAMPLE.com. ", "eXample.com"])
def test_the_entry_of_a_domain_concerns_all_its_addresses_and_no_subdomain(entry):
    assert is_domain(of_domain(entry))
    assert of_domain(entry) in concerning("Ann@example.com")
    assert of_domain(entry) not in concerning("ann@mail.example.com")
    assert of_domain(entry) not in concerning("ann@notexample.com")


@pytest.mark.parametrize("entry", ["", "ann", "ann@", "@", "a b@example.com", "ann@example.com\nbcc: x", "x" * 300])
def test_what_is_no_address_is_refused(entry):
    with pytest.raises(ValueError, match=r"\w"):
        of_address(entry)


@pytest.mark.parametrize("entry", ["", "ann@example.com", "exa mple.com", "-.com", "192.0.2.1", "x" * 300])
def test_what_is_no_domain_is_refused(entry):
    with pytest.raises(ValueError, match=r"\w"):
        of_domain(entry)
