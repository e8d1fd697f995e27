"""``bin/setup`` with the real pip: what it prints on a terminal, elsewhere, and when pip fails."""

import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pip
import pytest

from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
PACKAGES = [f"mbg-part-{number}" for number in range(1, 10)]


def wheel(folder: Path, name: str, needs: Sequence[str] = ()) -> None:
    """Make a package of one empty module that requires others."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {one}" for one in needs)]
    files = {
        f"{module}.py": "",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(path, text)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages. The first requires all others."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in PACKAGES:
        wheel(folder, name, PACKAGES[1:] if name == PACKAGES[0] else ())
    return folder


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose environment has pip and nothing else."""
    folder = tmp_path / "a clone"
    shutil.copytree(ROOT / "bin", folder / "bin")
    (folder / "requirements.txt").write_text(f"{PACKAGES[0]}==1.0\n")
    base = Path(sys._base_executable)  # type: ignore[attr-defined] # private: the Python outside the environment
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(base)
    (folder / ".venv" / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    libraries = folder / ".venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    libraries.mkdir(parents=True)
    (libraries / "pip").symlink_to(Path(str(pip.__file__)).parent)
    return folder


def environment(wheels: Path) -> dict[str, str]:
    """Return an environment in which pip finds these packages and uses no network."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAILBBGUN_", "PIP_"))}
    return clean | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull, "TERM": "xterm"}


def setup(clone: Path, wheels: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [clone / "bin" / "setup"],
        env=environment(wheels),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def on_a_terminal(clone: Path, wheels: Path) -> str:
    """Run a program with a terminal as standard error. Return what was written there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [clone / "bin" / "setup"], env=environment(wheels), stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        written = b""
        while piece := _read(ours):
            written += piece
        assert process.wait(PATIENCE) == 0
    os.close(ours)
    return written.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end was closed
        return b""


def test_an_installation_tells_in_a_few_lines_how_far_it_is_and_nothing_of_pips(clone: Path, wheels: Path) -> None:
    done = setup(clone, wheels)
    first, *between, last = done.stderr.splitlines()
    assert first == "fetching packages"
    assert last == f"installed {len(PACKAGES)} packages for requirements.txt"
    assert len(between) <= 6
    assert all(re.fullmatch(r"(installing [1-9] of 9: mbg-part-[1-9]|fetching .*)", line) for line in between)
    assert done.stdout == f"setup: {clone}/.venv/bin/python has what is needed\n"
    again = setup(clone, wheels)
    assert again.stderr == ""


def test_on_a_terminal_an_installation_is_one_line_that_is_written_over(clone: Path, wheels: Path) -> None:
    written = on_a_terminal(clone, wheels)
    assert written.count("\n") == 1
    assert written.endswith(f"\rinstalled {len(PACKAGES)} packages for requirements.txt\x1b[K\r\n")
    shown = [one.removesuffix("\x1b[K") for one in written.strip().split("\r")]
    assert "fetching packages" in shown


def test_what_pip_says_is_printed_whole_when_it_fails_and_nothing_counts_as_installed(
    clone: Path, wheels: Path
) -> None:
    (clone / "requirements.txt").write_text(f"{PACKAGES[1]}==1.0\nmbg-of-nobody==2.0\n")
    done = setup(clone, wheels, code=1)
    lines = done.stderr.splitlines()
    assert "pip failed to install requirements.txt, and said:" in lines
    assert any(line.startswith("Looking in links: ") for line in lines)
    assert "ERROR: No matching distribution found for mbg-of-nobody==2.0" in lines
    assert lines[-1] == f"setup: pip could not install {clone}/requirements.txt"
    assert (done.stdout, (clone / ".venv.lock").exists()) == ("", False)
    (clone / "requirements.txt").write_text(f"{PACKAGES[1]}==1.0\n")
    assert "installed 1 package for requirements.txt" in setup(clone, wheels).stderr


@pytest.mark.parametrize(("script", "code"), [("setup", 128 + signal.SIGINT), ("run", 0)])
def test_an_installation_that_is_interrupted_ends_without_a_traceback_and_leaves_no_lock(
    clone: Path, wheels: Path, script: str, code: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # pip connects and gets no answer
        asked = environment(wheels) | {"PIP_INDEX_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/simple"}
        del asked["PIP_NO_INDEX"], asked["PIP_FIND_LINKS"]
        with subprocess.Popen(
            [clone / "bin" / script], env=asked, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "fetching packages\n"
            connection, _ = silent.accept()
            with connection:
                os.killpg(process.pid, signal.SIGINT)
                assert process.wait(PATIENCE) == code
            said = process.stderr.read()
    assert said == "interrupted\n"
    assert not (clone / ".venv.lock").exists()
