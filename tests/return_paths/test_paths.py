"""Return paths on each database: made by one process, read by another, until they are too old."""

from uuid import uuid4

import pytest
from sqlalchemy import select

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.settings.load import load
from mailbbgun.tenants.models import Secret
from tests.return_paths.conftest import DOMAIN

DAY = 20_786


def test_a_return_path_is_read_by_another_process_in_any_case_of_letters(paths_on):
    delivery = uuid4()
    address = paths_on(DAY).address(delivery)
    assert address.endswith(f"@{DOMAIN}")
    assert {paths_on(DAY).delivery_of(one) for one in (address, address.upper(), address.title())} == {delivery}


def test_a_return_path_works_until_it_is_too_old(paths_on):
    delivery = uuid4()
    address = paths_on(DAY).address(delivery)
    found = [paths_on(DAY + days).delivery_of(address) for days in (-2, -1, 0, 1, 35, 36, 400)]
    assert found == [None, delivery, delivery, delivery, delivery, None, None]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "b+@bounces.example.com",
        f"b+{'a' * 48}@bounces.example.com",
        f"b+{'é' * 48}@bounces.example.com",
        "fbl@bounces.example.com",
        "postmaster@bounces.example.com",
        '"b+"@bounces.example.com',
    ],
)
def test_no_other_address_names_a_delivery(paths_on, address):
    assert paths_on(DAY).delivery_of(address) is None


def test_a_return_path_at_another_domain_or_of_another_installation_is_none_of_ours(paths_on):
    ours = paths_on(DAY)
    address = ours.address(uuid4())
    assert ours.delivery_of(address.replace(DOMAIN, "example.net")) is None
    with ours._database.write() as session:
        session.execute(Secret.__table__.delete().where(Secret.name.like("return_path.%")))
    assert paths_on(DAY).delivery_of(address) is None


def test_each_period_has_a_key_of_its_own_and_keys_that_nothing_needs_are_deleted(paths_on):
    def names():
        with paths._database.read() as session:
            return sorted(session.scalars(select(Secret.name).where(Secret.name.like("return_path.%"))))

    paths = paths_on(32 * 100)
    before = paths.address(uuid4())
    paths_on(32 * 100 + 31)
    assert names().count("return_path.100") == 1
    later = paths_on(32 * 101)
    assert later.delivery_of(before) is not None
    assert {"return_path.100", "return_path.101"} <= set(names())
    paths_on(32 * 103)
    assert "return_path.100" not in names()
    assert "return_path.101" in names()


def test_a_return_path_in_the_text_of_a_report_is_found(paths_on):
    ours, delivery = paths_on(DAY), uuid4()
    address = ours.address(delivery)
    forged = f"b+{'a' * 48}@{DOMAIN}"
    for text in (f"Return-Path: <{address}>", f"Original-Mail-From: {address.upper()}\r\n", f"{forged} {address}"):
        assert ours.mentioned(text.encode()) == delivery
    for text in ("", f"x{address}", f"{address}.evil.example", " ".join([forged] * 5 + [address])):
        assert ours.mentioned(text.encode()) is None


@pytest.mark.parametrize(
    ("domain", "why"),
    [("a_b.example", "not a host name"), ("127.0.0.1", "IP address"), (f"{'a.' * 101}b", "200 are the most")],
)
def test_a_domain_that_cannot_be_one_is_refused_at_the_start(tmp_path, domain, why):
    with pytest.raises(ConfigurationError, match=why):
        load({"MAILBBGUN_VAR": str(tmp_path), "MAILBBGUN_RETURN_PATH_DOMAIN": domain})
