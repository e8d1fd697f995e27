"""Progress of an installation, computed from pip's output."""

import importlib.util
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest

from mailbbgun.environment import MODULES

ROOT = Path(__file__).parents[2]

FILE = Path(__file__).parents[2] / "bin" / "install_requirements.py"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    specification = importlib.util.spec_from_file_location("install_requirements", FILE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


FETCHED = [
    "Looking in indexes: x\n",
    "Collecting click==8.5.1 (from -r requirements.txt (line 1))\n",
    "  Downloading click-8.5.1\n",
]
DEPENDENCIES = [*FETCHED, "Collecting Mako\n", "  Using cached mako\n"]
INSTALLING = [*DEPENDENCIES, "Installing collected packages: click, Mako, alembic, sqlalchemy\n"]


@pytest.mark.parametrize(
    ("said", "installed", "text"),
    [
        ([], 0, "fetching packages"),
        (FETCHED, 0, "fetching click, package 1"),
        (DEPENDENCIES, 0, "fetching Mako, package 2"),
        ([*DEPENDENCIES, "Collecting Mako\n"], 0, "fetching Mako, package 2"),
        (
            [*FETCHED, "WARNING: Retrying (Retry(total=4, …\n"],
            0,
            "no answer from where packages come from; trying again",
        ),
        (INSTALLING, 0, "installing 1 of 4: click"),
        (INSTALLING, 2, "installing 3 of 4: alembic"),
        (INSTALLING, 4, "installing 4 of 4: sqlalchemy"),
        ([*INSTALLING, "Successfully installed …\n"], 9, "installing 4 of 4: sqlalchemy"),
    ],
)
def test_progress_names_the_package_at_work_and_how_many_there_are(
    program: ModuleType, said: list[str], installed: int, text: str
) -> None:
    assert program.progress(said, installed).text == text


def test_elsewhere_than_on_a_terminal_many_packages_are_told_in_four_lines(program: ModuleType) -> None:
    said = ["Installing collected packages: " + ", ".join(f"package{number}" for number in range(44))]
    parts = [program.progress(said, number).part for number in range(45)]
    assert [parts.index(one) for one in dict.fromkeys(parts)] == [0, 11, 22, 33]


def test_the_modules_that_are_looked_for_are_those_that_are_installed() -> None:
    pins = [
        line.partition("==")[0].lower() for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line
    ]
    names = packages_distributions()
    looked_for = {names[module][0].lower() for module in MODULES}
    assert looked_for == set(pins) - {"drf-spectacular-sidecar"}  # not imported: files only
