"""How an Idempotency-Key is stored: nobody can choose one that collides with another tenant's."""

import hashlib
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.idempotency import stored

SHOP, MILL = new_id(), new_id()
_tenants = st.sampled_from([DEFAULT_TENANT, SHOP, MILL]) | st.integers(0, 2**128 - 1).map(
    lambda number: UUID(int=number, version=None)
).map(lambda some: UUID(int=some.int & ~(0xF << 76) | 7 << 76))
_printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=80).filter(
    lambda text: text == text.strip()
)
_hashes = st.binary(max_size=40).map(lambda some: hashlib.sha256(some).hexdigest())
# What a tenant could choose to collide with another: a key, a hash of one, or another's key as it
# is stored.
_stored_ones = st.builds(lambda tenant, key, test: stored(tenant, key, test=test), _tenants, _printable, st.booleans())
_keys = _printable | _hashes | _stored_ones
_owners = st.tuples(_tenants, st.booleans(), _keys)


@settings(max_examples=1000, deadline=None)
@given(_owners, _owners)
def test_two_keys_are_stored_alike_only_if_tenant_kind_and_key_are_the_same(
    one: tuple[UUID, bool, str], other: tuple[UUID, bool, str]
) -> None:
    (tenant, test, key), (its, kind, text) = one, other
    assert (stored(tenant, key, test=test) == stored(its, text, test=kind)) == (one == other)


@settings(max_examples=300, deadline=None)
@given(_tenants, st.booleans(), _keys)
def test_a_key_of_the_tenant_default_is_never_stored_like_the_key_of_another(
    tenant: UUID, test: bool, key: str
) -> None:
    taken = stored(tenant, key, test=test)
    if (tenant, test) != (DEFAULT_TENANT, False):
        assert stored(DEFAULT_TENANT, taken, test=False) != taken


def test_keys_for_live_data_are_stored_as_older_versions_do() -> None:
    assert stored(DEFAULT_TENANT, "order 1", test=False) == "order 1"
    assert stored(SHOP, "order 1", test=False) == hashlib.sha256(SHOP.bytes + b"order 1").hexdigest()
