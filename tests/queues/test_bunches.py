"""Ids are cut into bunches and read from them."""

from uuid import UUID

import pytest

from mailbbgun.core.ids import new_id
from mailbbgun.queues.bunches import BUNCH, bodies_of, fetched, ids_of

ONE, TWO = UUID(int=1), UUID(int=2**128 - 1)
A, B = str(ONE).encode(), str(TWO).encode()


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (A, [ONE]),  # the only form before there were bunches
        (A + b"\n" + B, [ONE, TWO]),
        (B + b"\n" + A + b"\n" + A, [TWO, ONE, ONE]),
        (b"\n".join([A] * BUNCH), [ONE] * BUNCH),
        (b"\n".join([A] * (BUNCH + 1)), []),
        (b"", []),
        (b"\n", []),
        (A + b"\n", []),
        (b"\n" + A, []),
        (A + b"\n\n" + B, []),
        (A + b"\r\n" + B, []),
        (A + b" " + B, []),
        (A + B, []),
        (A + b"\n" + B.upper(), []),
        (A + b"\n{" + B + b"}", []),
        (A + b"\nurn:uuid:" + B, []),
        (A + b"\n" + B.replace(b"-", b""), []),
        (A + b"\n" + B[:-1], []),
        (A + b"\n" + B[:-1] + b"\n", []),
        (A + b"\n" + B[:-1] + b"g", []),
        (A + b"\n" + B[:-1] + "٣".encode(), []),  # a digit in another alphabet
        (A + b"\n" + b"\xff" * 36, []),
        (A + b"\0", []),
        (b"\n".join([A] * 100_000), []),
    ],
)
def test_a_body_is_ids_in_lines_or_junk_as_a_whole(body: bytes, ids: list[UUID]) -> None:
    assert ids_of(body) == ids


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (0, []),
        (1, [1]),
        (8, [8]),
        (9, [8, 1]),
        (16, [8, 8]),
        (17, [9, 8]),
        (31, [16, 15]),
        (40, [16, 16, 8]),
        (500, [16] * 31 + [4]),
    ],
)
def test_ids_are_cut_into_bunches_in_their_order_and_more_than_half_a_bunch_in_two(
    count: int, sizes: list[int]
) -> None:
    ids = [new_id() for _ in range(count)]
    bodies = bodies_of(ids)
    assert [len(ids_of(body)) for body in bodies] == sizes
    assert [one for body in bodies for one in ids_of(body)] == ids


@pytest.mark.parametrize(("prefetch", "bunches"), [(1, 8), (64, 8), (80, 10), (160, 20), (800, 100), (100_000, 2000)])
def test_what_is_fetched_is_counted_in_bunches(prefetch: int, bunches: int) -> None:
    assert fetched(prefetch) == bunches
