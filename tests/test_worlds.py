"""Which of the tests that exist in two worlds the quick run takes."""

import pytest

from tests import worlds


def named(embedded: bool) -> str:
    """Return a file that is taken through that world."""
    return next(name for number in range(99) if worlds.embedded(name := f"tests/test_{number}.py") is embedded)


@pytest.mark.parametrize("pair", [("embedded", "real"), ("sqlite", "postgresql")])
@pytest.mark.parametrize("form", ["[{}]", "[{}-1]", "[1-{}]", "[1-{}-real]"])
def test_a_story_of_two_worlds_is_told_in_that_of_its_file(pair: tuple[str, str], form: str) -> None:
    for embedded in (True, False):
        first, second = (f"{named(embedded)}::test_x{form.format(world)}" for world in pair)
        assert worlds.second([first, second]) == {second if embedded else first}


@pytest.mark.parametrize(
    "ids",
    [
        ["::test_x"],
        ["::test_x[1]", "::test_x[2]"],
        ["::test_x[sqlite]"],
        ["::test_x[postgresql]"],
        ["::test_x[sqlite-1]", "::test_x[postgresql-2]"],
        ["::test_x[sqlite_grants]", "::test_x[postgresql_grants]"],
        ["::test_x[sqlite]", "::test_y[postgresql]"],
    ],
)
def test_what_only_one_world_tells_stays(ids: list[str]) -> None:
    for embedded in (True, False):
        assert not worlds.second(named(embedded) + one for one in ids)


def test_files_go_through_both_worlds_by_halves(pytestconfig: pytest.Config) -> None:
    files = [str(path.relative_to(pytestconfig.rootpath)) for path in pytestconfig.rootpath.glob("tests/*/test_*.py")]
    share = sum(map(worlds.embedded, files)) / len(files)
    assert 0.4 < share < 0.6
