"""The commands of README and manual, pasted into a shell.

Only the port and ``var`` are the test's.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from docs._ext.commands import HOW, ROOT, Block, blocks, pages
from mailbbgun.install import install
from mailbbgun.services import build
from mailbbgun.settings.load import CONFIG_VARIABLE, load
from tests.run.test_run import SECONDS, Service, until
from tests.servers import install as tools

BLOCKS = [block for page in pages() for block in blocks(page)]
RUN = ("run", "run until", "run beside")
#: The PostgreSQL database in the pages. It is replaced by one of the test's own.
DATABASE = "postgresql://mailbbgun:secret@localhost/mailbbgun"


def name(block: Block) -> str:
    return f"{block.page}:{block.line}"


class Reader:
    """Somebody who reads a page and pastes its commands, in a copy of the project's folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.service = Service(folder)
        self.service.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.here = folder / "here"
        self.here.mkdir()
        for path in ROOT.iterdir():
            if path.name not in ("var", "config.py", ".env", ".git"):
                (self.here / path.name).symlink_to(path)
        (self.here / "var").symlink_to(self.service.var)
        self.beside: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        self.other: dict[str, str] = {}  # what a page says → what replaces it here
        self.variables = folder / "variables"
        self.turn_the_page()

    def turn_the_page(self) -> None:
        """Open a new terminal, without the variables of the page before."""
        self.variables.write_text("")

    def do(self, block: Block) -> None:
        """Do what a block says.

        Raises AssertionError with its output unless it does what the page says.
        """
        if "swaks " in block.text:
            tools.swaks()
        block = replace(block, text=self._here(block.text), told=self._here(block.told))
        if block.how == "run beside":
            self._start(block)
            return
        shown = ""

        def works() -> bool:
            nonlocal shown
            done = subprocess.run(
                self._argv(block),
                cwd=self.here,
                env=self.service.environment,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            shown = f"{name(block)}: exit code {done.returncode}\n{block.text}\n{done.stdout}\n{done.stderr}"
            return done.returncode == 0 and block.told in done.stdout + done.stderr

        if block.how == "run until":
            until(works, lambda: shown)
        else:
            assert works(), shown

    def leave(self) -> None:
        """Stop what runs beside with Ctrl-C; it must end well."""
        for _, process, output in reversed(self.beside):
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS) == 0, output.read_text()
        self.beside.clear()
        assert self.service.alive() == {}

    def kill(self) -> None:
        """Kill everything that is left."""
        for _, process, _ in self.beside:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _start(self, block: Block) -> None:
        if any(block.text == running for running, _, _ in self.beside):
            return
        output = self.here.parent / f"output-{len(self.beside)}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {block.text}"],
                cwd=self.here,
                env=self.service.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.beside.append((block.text, process, output))
        until(lambda: block.told in output.read_text() or process.poll() is not None, output.read_text)
        assert process.poll() is None, output.read_text()

    def _here(self, text: str) -> str:
        text = text.replace("127.0.0.1:5000", f"127.0.0.1:{self.service.port}")
        text = re.sub(r"\b2525\b", str(self.service.smtp_port), text)
        for said, ours in self.other.items():
            text = text.replace(said, ours)
        return text

    def _argv(self, block: Block) -> list[str]:
        match block.language:
            case "python":
                return ["bash", "-c", f'set -a; . {self.variables}; exec {sys.executable} -c "$0"', block.text]
            case "javascript":
                return [str(tools.node()), "--input-type=module", "-e", block.text]
        # Variables persist, as in a terminal.
        return ["bash", "-c", f"set -eua\n. {self.variables}\n{block.text}\nexport -p >{self.variables}"]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A reader with a clone of the project and nothing running."""
    one = Reader(tmp_path / "reader")
    try:
        yield one
        one.leave()
    finally:
        one.kill()


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader for whom the service already runs, and who reads one page after the other."""
    one = Reader(tmp_path_factory.mktemp("reader") / "user")
    try:
        one.do(
            Block(
                "before the page", 0, "sh", "run beside", "Ctrl-C stops everything", ".venv/bin/python -m mailbbgun.run"
            )
        )
        yield one
        one.leave()
    finally:
        one.kill()


@pytest.mark.parametrize("block", BLOCKS, ids=name)
def test_every_block_of_commands_says_how_it_is_run_or_why_not(block: Block) -> None:
    assert block.how in HOW, f"{name(block)} begins with none of the comments of docs/_ext/commands.py"
    assert block.told or block.how not in ("run until", "run beside", "not run"), name(block)


def test_the_manual_has_no_block_of_commands_in_a_form_that_is_not_looked_at() -> None:
    for page in pages():
        found = re.findall(r"^ *\.\. (?:code-block|code|highlight|sourcecode):: *(\w*)", page.read_text(), re.MULTILINE)
        assert not set(found) & {"bash", "shell", "console", "py", "js", "shell-session"}, page


def steps(page: str) -> list[Block]:
    return [block for block in BLOCKS if block.page == page and block.how in RUN]


def starts_it(page: str) -> bool:
    return any(block.how == "run beside" for block in steps(page))


PAGES = sorted({block.page for block in BLOCKS if block.how in RUN})
#: Pages read one after the other, while the service keeps running.
FIRST = ("README.rst", "docs/tutorial.rst")


def test_the_commands_of_readme_and_tutorial_do_what_they_say(reader: Reader) -> None:
    for page in FIRST:
        reader.turn_the_page()
        for block in steps(page):
            reader.do(block)


@pytest.mark.parametrize("page", [page for page in PAGES if starts_it(page) and page not in FIRST])
def test_the_commands_of_a_page_that_starts_the_service_do_what_it_says(page: str, reader: Reader) -> None:
    for block in steps(page):
        reader.do(block)


def every_time(page: str) -> bool:
    """Return whether a page for a running service is tried every time.

    What the other pages type, tests of the doors type too.
    """
    return page == "docs/howto/test-keys.rst"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if every_time(page) else pytest.mark.long, id=page)
        for page in PAGES
        if not starts_it(page)
    ],
)
def test_the_commands_of_a_page_for_a_running_service_do_what_it_says(
    page: str, user: Reader, request: pytest.FixtureRequest
) -> None:
    if any(DATABASE in block.text for block in steps(page)):
        server = request.getfixturevalue("postgresql")
        database = server.create_database()
        server.create_database(f"{database}_restored")
        url = server.url(database)
        services = build(load({"MAILBBGUN_VAR": str(user.service.var), "MAILBBGUN_DATABASE_URL": url}))
        install(services)
        services.close()
        user.other[DATABASE] = url.replace("+psycopg2", "")
    user.turn_the_page()
    for block in steps(page):
        user.do(block)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.how == "settings"], ids=name)
def test_settings_that_the_manual_shows_can_be_loaded(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text(block.text)
    load({CONFIG_VARIABLE: str(file)})
