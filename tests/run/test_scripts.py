"""``bin/`` and the programs at the top: from any folder, as any user, with any Python."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from mailbbgun import __version__
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
NOBODY = 65534
PROGRAMS = {
    "worker": ["worker.py"],
    "initdb": ["initdb.py"],
    "api": ["api.py"],
    "catcher": ["-m", "mailbbgun.catcher"],
    **{"smtpd": ["smtpd.py"], "run": ["-m", "mailbbgun.run"]},
    "mailbbgun": ["bin/mailbbgun"],
    "generate-keys": ["bin/generate-keys"],
    "requeue-pending": ["bin/requeue-pending"],
    "postgresql-create-user": ["bin/postgresql-create-user"],
}
SCRIPTS = {"bin/run": ["bin/run"], "setup": ["bin/setup"], "bin/bench": ["bin/bench"], "bin/chaos": ["bin/chaos"]}
# Each program starts several times. A few of every kind run every time, the others with --all.
EVERY = [*PROGRAMS, *SCRIPTS, "bin/test"]
SOME = [
    one if one in ("worker", "mailbbgun", "setup", "bin/run", "bin/test") else pytest.param(one, marks=pytest.mark.long)
    for one in EVERY
]

# Takes the place of a Python in .venv that has all libraries, so that only the scripts are tested.
STUB = '#!/bin/sh\n[ "$1" = -c ] && exit 0\nprintf "%s|" "$PWD" "$@"\n'


@pytest.fixture
def clone() -> Iterator[Path]:
    """The programs in a folder with an awkward name, for any user, with nothing left to install."""
    above = Path(tempfile.mkdtemp(prefix="mailbbgun-"))
    above.chmod(0o755)
    folder = above / "a 'clone' $x \"ü\" #1"
    shutil.copytree(ROOT / "bin", folder / "bin")
    shutil.copytree(ROOT / "mailbbgun", folder / "mailbbgun", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("api.py", "worker.py", "smtpd.py", "initdb.py"):
        shutil.copy(ROOT / name, folder)
    (folder / "requirements.txt").write_text("nothing==1.0\n")
    _program(folder / ".venv" / "bin" / "python", STUB)
    _stamp(folder)
    yield folder
    for path in (above, folder, folder / ".venv"):
        if path.exists():
            path.chmod(0o755)
    shutil.rmtree(above)


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _stamp(folder: Path) -> None:
    sums = subprocess.run(
        ["cksum"], input=(folder / "requirements.txt").read_text(), capture_output=True, text=True, check=True
    )
    (folder / ".venv" / ".installed-requirements.txt").write_text(sums.stdout)


def _run(*argv: object, cwd: object = "/", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program as a user who may not write the clone: as nobody, if we are root."""
    return _plain(*argv, cwd=cwd, user=NOBODY if os.geteuid() == 0 else None, **environment)


def _plain(
    *argv: object, cwd: object = "/", user: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAILBBGUN_")}
    return subprocess.run(
        [str(one) for one in argv],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


def _bare_python(folder: Path) -> Path:
    """Return a Python that has only the standard library."""
    python = folder / "bare" / "bin" / "python3"
    if not python.exists():
        base = Path(sys._base_executable)  # type: ignore[attr-defined] # private: the Python outside the environment
        python.parent.mkdir(parents=True)
        (folder / "bare" / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
        python.symlink_to(base)
    return python


def _read_only(folder: Path) -> None:
    if os.geteuid() != 0:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)


def test_on_read_only_code_with_nothing_to_install_it_runs_and_leaves_nothing(clone: Path) -> None:
    _read_only(clone)
    before = sorted(path.name for path in clone.iterdir())
    done = _run(clone / "bin" / "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{clone}|-m|mailbbgun.run|"
    assert sorted(path.name for path in clone.iterdir()) == before


def test_on_read_only_code_an_environment_that_another_tool_made_will_do(clone: Path) -> None:
    (clone / ".venv" / ".installed-requirements.txt").unlink()
    _read_only(clone)
    done = _run(clone / "bin" / "run")
    assert (done.returncode, done.stderr) == (0, "")


def test_on_read_only_code_with_something_to_install_it_says_so_in_one_line(clone: Path) -> None:
    (clone / "requirements.txt").write_text("other==2.0\n")
    _program(clone / ".venv" / "bin" / "python", "#!/bin/sh\n[ $# -lt 3 ] || exit 1\n")
    _read_only(clone)
    for script in ("run", "setup"):
        done = _run(clone / "bin" / script)
        told = (
            f"{script}: what it needs is not installed, and {clone} cannot be written: "
            f"as a user who may, type {clone}/bin/setup\n"
        )
        assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


def test_an_environment_of_another_user_is_named(clone: Path) -> None:
    (clone / "requirements.txt").write_text("other==2.0\n")
    if os.geteuid() == 0:
        os.chown(clone, NOBODY, NOBODY)
    else:
        (clone / ".venv").chmod(0o555)
    done = _run(clone / "bin" / "setup")
    told = (
        f"setup: requirements.txt changed, and {clone}/.venv belongs to another user: "
        f"as that user type {clone}/bin/setup\n"
    )
    assert (done.returncode, done.stderr) == (1, told)
    assert not (clone / ".venv.lock").exists()


def test_a_lock_that_cannot_be_made_is_told_with_its_reason(clone: Path, tmp_path: Path) -> None:
    (clone / "requirements.txt").write_text("other==2.0\n")
    _program(
        tmp_path / "mkdir", '#!/bin/sh\necho "mkdir: cannot create directory: No space left on device" >&2\nexit 1\n'
    )
    done = _plain(clone / "bin" / "setup", PATH=f"{tmp_path}:{os.environ['PATH']}")
    told = "setup: cannot install anything: mkdir: cannot create directory: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_it_works_from_anywhere_through_links_without_a_home_and_with_closed_streams(
    clone: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(clone / "bin" / "run")
    (tmp_path / "bin").mkdir()
    command = 'unset HOME; umask 077; CDPATH=/:/tmp; export CDPATH; "$0" <&-'
    for program, folder in ((link, "/"), ("./link", tmp_path), ("bin/run", clone), ("../bin/run", clone / "mailbbgun")):
        done = _plain("sh", "-c", command, program, cwd=folder)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{clone}|-m|mailbbgun.run|")


def test_setup_makes_nothing_twice_and_says_what_has_it_all(clone: Path) -> None:
    done = _plain(clone / "bin" / "setup")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"setup: {clone}/.venv/bin/python has what is needed\n",
        "",
    )


def test_a_python_that_is_too_old_is_told(clone: Path, tmp_path: Path) -> None:
    shutil.rmtree(clone / ".venv")
    _program(tmp_path / "python3", '#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2"\nexit 1\n')
    done = _plain(clone / "bin" / "run", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.returncode, done.stderr) == (1, "run: Python 3.11 or newer is needed; python3 is Python 3.9.2\n")
    assert not (clone / ".venv.lock").exists()


def test_what_is_pinned_is_looked_for_by_name_and_version(clone: Path) -> None:
    look = '. "$root/bin/setup"; echo "$python"'
    for pins, code in (
        ("click==0.0.1", 1),
        ("no-such-library==1.0", 1),
        (f"click=={version('click')}  # a comment\n# another\n", 0),
    ):
        (clone / "requirements.txt").write_text(pins)
        shutil.rmtree(clone / ".venv", ignore_errors=True)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = _plain("sh", "-c", look, "program", root=str(clone), install="no", PATH=path)
        said = (
            ("python3\n", "")
            if code == 0
            else ("", f"program: what it needs is not installed; type {clone}/bin/setup\n")
        )
        assert (done.returncode, done.stdout, done.stderr) == (code, *said)


@pytest.mark.parametrize("name", SOME[: len(PROGRAMS)])
def test_with_a_python_that_lacks_the_libraries_a_program_says_what_to_type(
    clone: Path, tmp_path: Path, name: str
) -> None:
    shutil.rmtree(clone / ".venv")
    bare = _bare_python(tmp_path)
    program = PROGRAMS[name]
    argv = [clone / program[0]] if program[0].startswith("bin/") else ["python3", *program]
    done = _plain(*argv, cwd=clone, PATH=f"{bare.parent}:{os.environ['PATH']}")
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith(f"{name}: ")
    assert line.endswith(f"; type {clone}/bin/setup")


def test_a_python_that_lacks_the_libraries_goes_on_as_the_one_that_has_them(clone: Path, tmp_path: Path) -> None:
    shutil.rmtree(clone / ".venv")
    (clone / ".venv").symlink_to(Path(sys.prefix))
    for program in (["worker.py"], ["-m", "mailbbgun.catcher"]):
        done = _plain(_bare_python(tmp_path), *program, "--help", cwd=clone)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: ")


@pytest.mark.parametrize("name", SOME)
def test_help_starts_nothing_and_what_is_unknown_is_one_line_and_exit_code_2(name: str, tmp_path: Path) -> None:
    program = (PROGRAMS | SCRIPTS).get(name, ["bin/test"])
    argv = [ROOT / program[0]] if program[0].startswith("bin/") else [sys.executable, *program]
    nothing = {"MAILBBGUN_VAR": str(tmp_path / "var"), "MAILBBGUN_PORT": "nonsense"}
    done = _plain(*argv, "--help", cwd=ROOT, **nothing)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.lower().startswith("usage: ")
    if name != "bin/test":  # its arguments are pytest's
        done = _plain(*argv, "--nonsense", cwd=ROOT, **nothing)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert done.stderr.startswith(f"{name}: ")
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("name", SOME)
def test_the_version_is_told_by_all_alike_and_nothing_is_started_or_installed(clone: Path, name: str) -> None:
    program = (PROGRAMS | SCRIPTS).get(name, ["bin/test"])
    if name in PROGRAMS:  # unlike the scripts, they need their libraries for this
        shutil.rmtree(clone / ".venv")
        (clone / ".venv").symlink_to(Path(sys.prefix))
    else:
        (clone / "requirements.txt").write_text("not-installed==1.0\n")
    argv = [clone / program[0]] if program[0].startswith("bin/") else [sys.executable, *program]
    before = sorted(path.name for path in clone.iterdir())
    done = _plain(*argv, "--version", cwd=clone, MAILBBGUN_PORT="nonsense", PYTHONDONTWRITEBYTECODE="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"Mail BB Gun, version {__version__}\n", "")
    assert sorted(path.name for path in clone.iterdir()) == before


def test_a_python_in_a_folder_that_is_closed_to_this_user_is_told_not_python3_or_setup(clone: Path) -> None:
    above = Path(tempfile.mkdtemp(prefix="mailbbgun-"))
    home, tools = above / "home of its owner", above / "tools"
    try:
        _program(home / "python", STUB)
        (clone / ".venv" / "bin" / "python").unlink()
        (clone / ".venv" / "bin" / "python").symlink_to(home / "python")
        tools.mkdir()
        for tool in ("sh", "dirname", "readlink", "cat", "cksum"):
            (tools / tool).symlink_to(str(shutil.which(tool)))
        above.chmod(0o755)
        home.chmod(0)
        _read_only(clone)
        for name in ("mailbbgun", "generate-keys", "requeue-pending", "run", "setup"):
            done = _run(clone / "bin" / name, PATH=str(tools))
            told = (
                f"as its owner type rm -r {clone}/.venv, then {clone}/bin/setup with a python3 that every user may run"
            )
            line = f"{name}: this user may not run {clone}/.venv/bin/python: {told}\n"
            assert (done.returncode, done.stdout, done.stderr) == (1, "", line)
    finally:
        home.chmod(0o755)
        shutil.rmtree(above)


def test_another_python_tells_that_the_one_with_the_libraries_is_closed_to_this_user(
    clone: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "python"
    theirs.write_text(STUB)  # not executable, not even for root
    (clone / ".venv" / "bin" / "python").unlink()
    (clone / ".venv" / "bin" / "python").symlink_to(theirs)
    user = pwd.getpwuid(os.geteuid()).pw_name
    for name, program in PROGRAMS.items():
        bare = _bare_python(tmp_path)
        argv = [clone / program[0]] if program[0].startswith("bin/") else ["python3", *program]
        done = _plain(*argv, cwd=clone, PATH=f"{bare.parent}:{os.environ['PATH']}")
        told = f"as its owner type rm -r {clone}/.venv, then {clone}/bin/setup with a python3 that every user may run"
        line = f"{name}: {theirs} is closed to this user ({user}), and so is what bin/setup installed; {told}\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_libraries_that_were_installed_for_their_owner_alone_are_told(clone: Path) -> None:
    library = clone / ".venv" / "lib" / "flask"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("")
    library.chmod(0)
    become = f"os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3); " if os.geteuid() == 0 else ""
    begin = (
        "import os, sys; from mailbbgun.environment import need; "
        f"sys.path = ['.venv/lib']; sys.prefix = '.venv'; {become}need('worker')"
    )
    done = _plain(sys.executable, "-c", begin, cwd=clone, _MAILBBGUN_STARTED_AGAIN="1")
    user = pwd.getpwuid(NOBODY if become else os.geteuid()).pw_name
    told = (
        f".venv/lib/flask is closed to this user ({user}), and so is what bin/setup installed; "
        f"as its owner type chmod -R a+rX {clone}/.venv"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"worker: {told}\n")
    library.chmod(0o755)


@pytest.mark.parametrize("name", ["worker", "core/ids.py", "migrations/versions"])
def test_code_of_ours_that_is_closed_to_this_user_is_told(clone: Path, name: str) -> None:
    (room := clone / "mailbbgun" / name).chmod(0)
    become = f"os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3); " if os.geteuid() == 0 else ""
    begin = f"import os; from mailbbgun.environment import need; {become}need('worker')"
    done = _plain(sys.executable, "-c", begin, cwd=clone)
    room.chmod(0o755)
    user = pwd.getpwuid(NOBODY if become else os.geteuid()).pw_name
    told = f"{room} is closed to this user ({user}); as its owner type chmod -R a+rX {clone}/mailbbgun"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"worker: {told}\n")


def test_rotation_of_logs_does_not_end_bin_run_before_it_has_begun(clone: Path) -> None:
    _program(clone / ".venv" / "bin" / "python", "#!/bin/sh\nexec grep SigIgn: /proc/self/status\n")
    ignored = int(_plain(clone / "bin" / "run").stdout.split()[-1], 16)
    assert ignored >> signal.SIGUSR1 - 1 & ignored >> signal.SIGUSR2 - 1 & 1
