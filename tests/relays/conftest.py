"""What tests of relays share."""

from collections.abc import Iterator

import pytest

from mailbbgun.drivers.loop import Loop
from tests.smtp.authority import Authority
from tests.smtp.drivers import using


@pytest.fixture(autouse=True)
def driver(request: pytest.FixtureRequest) -> Iterator[Loop | None]:
    """The driver of the test: the loop, unless the test is marked `with_each_driver`."""
    with using(getattr(request, "param", "loop")) as loop:
        yield loop


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))
