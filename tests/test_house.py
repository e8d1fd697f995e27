"""Rules of the project that no other tool checks.

What is declared is used, what is used is documented, and no test depends on the speed of the
machine.
"""

import ast
import logging
import re
from collections import Counter
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from mailbbgun.accept.schema import NewMessage
from mailbbgun.app import create_app
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.queues.lanes import LANES, WEIGHTS
from mailbbgun.settings.sample import sample
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp_accounts.schemas import NewAccount

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "mailbbgun").rglob("*.py"))
EVERY = [*PACKAGE, *(path for folder in ("tests", "bench", "docs") for path in sorted((ROOT / folder).rglob("*.py")))]
MANUAL = ROOT / "docs"
# Files that may import inside functions: they load a client only if the settings name its server.
LATE_IMPORTS = {"services.py", "stores.py"}


@cache
def code_of(path: Path) -> str:
    return path.read_text()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(code_of(path))


def test_config_py_sample_is_made_from_the_settings():
    assert (ROOT / "config.py.sample").read_text() == sample()


@pytest.mark.parametrize("setting", [one.name for one in fields(Settings)])
def test_every_setting_has_a_description_and_is_read_somewhere(setting):
    description = next(one for one in fields(Settings) if one.name == setting).metadata["doc"]
    assert description.endswith(".")
    readers = [path for path in [*PACKAGE, ROOT / "gunicorn.conf.py"] if re.search(rf"\.{setting}\b", code_of(path))]
    assert readers, f"nothing reads {setting}"


# Names that logging itself gives to fields of a line.
RECORD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_field_of_a_log_line_has_a_name_that_logging_refuses(path):
    # For such a name logging raises KeyError, and the line is lost.
    calls = [one for one in ast.walk(tree_of(path)) if isinstance(one, ast.keyword) and one.arg == "extra"]
    names = [key for call in calls for part in ast.walk(call.value) if isinstance(part, ast.Dict) for key in part.keys]
    assert not [one.value for one in names if isinstance(one, ast.Constant) and one.value in RECORD]


# sphinx-build checks that every event kind and every reason is described (docs/_ext). bin/test runs
# it with warnings as errors.


@pytest.mark.parametrize("kind", list(Kind))
def test_every_event_kind_is_written_somewhere(kind):
    assert [path for path in PACKAGE if path.name != "kinds.py" and f"Kind.{kind.name}" in code_of(path)]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_used_somewhere(reason):
    assert [path for path in PACKAGE if path.name != "kinds.py" and f"Reason.{reason.name}" in code_of(path)]


def test_every_lane_has_a_weight():
    assert set(WEIGHTS) == set(LANES)


def test_every_route_is_in_the_openapi_document_from_which_the_manual_is_made(embedded_settings):
    app = create_app(embedded_settings)
    spec = app.test_client().get("/openapi.json").get_json()
    shown = {re.sub(r"\{\w+\}", "{id}", one): verbs for one, verbs in spec["paths"].items()}
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", "{id}", rule.rule)
        if not rule.endpoint.startswith(("api-docs.", "assets.")):
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                assert method.lower() in shown[path]


@pytest.mark.parametrize("field", sorted(NewAccount().fields))
def test_every_field_of_an_smtp_account_is_explained_in_the_manual(field):
    assert f"``{field}``" in (MANUAL / "reference" / "smtp-accounts.rst").read_text()


@pytest.mark.parametrize("field", sorted(one.data_key or name for name, one in NewMessage().fields.items()))
def test_every_field_of_a_message_is_explained_in_the_manual(field):
    assert f"``{field}``" in (MANUAL / "reference" / "messages.rst").read_text()


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_at_the_top_except_where_a_client_is_chosen(path):
    tree = tree_of(path)
    inside = [
        node.lineno
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not inside or path.name in LATE_IMPORTS, inside


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_has_a_docstring_and_no_function_is_longer_than_forty_lines(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree)
    if "migrations" not in path.parts:
        long = [
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 40
        ]
        assert not long


def test_no_file_is_longer_than_350_lines_and_no_room_has_more_than_twelve():
    long = {str(path): lines for path in EVERY if (lines := len(code_of(path).splitlines())) > 350}
    rooms = Counter(path.parent for path in PACKAGE if path.name != "__init__.py" and "migrations" not in path.parts)
    assert (long, {str(room): files for room, files in rooms.items() if files > 12}) == ({}, {})


def test_no_two_classes_have_one_name():
    # Those that begin with _ are of one file.
    named = Counter(
        node.name
        for path in PACKAGE
        for node in ast.parse(code_of(path)).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name: times for name, times in named.items() if times > 1} == {}


def test_the_top_level_programs_are_short():
    for name in ("api.py", "worker.py", "initdb.py"):
        assert len((ROOT / name).read_text().splitlines()) < 15, name


@pytest.mark.parametrize(("page", "most"), [("README.rst", 120), ("CONTRIBUTING.rst", 130)])
def test_the_pages_at_the_top_are_short(page, most):
    assert len((ROOT / page).read_text().splitlines()) <= most


def test_the_manual_names_every_room():
    architecture = (MANUAL / "explanation" / "architecture.rst").read_text()
    for path in (ROOT / "mailbbgun").iterdir():
        if (path / "__init__.py").exists():
            assert f"``{path.name}/``" in architecture, path.name


def test_files_that_the_readme_links_to_exist():
    readme = (ROOT / "README.rst").read_text()
    for target in re.findall(r"<((?!https?:)[^<>\s]+)>`_", readme):
        assert (ROOT / target).is_file(), target


def test_no_file_names_a_machine_or_a_package_registry():
    words = ["py" + "pi.org", "npm" + "js.", "deb." + "debian.org", "/wo" + "rk/"]
    folders = [path for name in ("deploy", "docs") for path in (ROOT / name).rglob("*") if "_build" not in path.parts]
    for path in [*ROOT.glob("*.*"), *(ROOT / "bin").iterdir(), *PACKAGE, *folders]:
        # In a worktree, .git is a file that contains its path.
        if path.is_file() and path.name != ".git" and path.suffix != ".pyc":
            assert not [word for word in words if word in path.read_text()], path


# -- No test depends on a clock: it must pass on a slow machine, too.

TESTS = sorted([*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tests").rglob("conftest.py")])
CLOCKS = {"monotonic", "time", "perf_counter", "process_time", "monotonic_ns", "time_ns", "perf_counter_ns", "elapsed"}
# Test files that compare times all the same, and why their asserts hold on any machine.
JUSTIFIED = {
    "chaos/test_clocks.py": "two clocks are an hour apart, and waits may only be longer",
    "contract/test_permits.py": "a slow machine is only granted less in a time; midnight is right to minutes",
    "contract/test_queue.py": "a delay may only be longer",
    "worker/test_sparing.py": "at most as many turns as the measured time has room for",
    "flow/test_smarthost.py": "a pause may only be longer",
    "servers/test_mailserver.py": "a moment lies between two others of the same clock",
    "relays/test_probe.py": "the parts are not longer than the whole, by one clock",
    "limits/test_rate_limiter.py": "a slow machine is only granted less in a time",
}


def reads_a_clock(node):
    """Return whether an expression reads a clock, or the elapsed time of an answer."""
    calls = (one.func for one in ast.walk(node) if isinstance(one, ast.Call))
    named = {
        one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "")
        for one in calls
        if not is_time_of_datetime(one)
    }
    return bool(named & CLOCKS) or any(
        isinstance(one, ast.Attribute) and one.attr == "elapsed" for one in ast.walk(node)
    )


def is_time_of_datetime(function):
    """Return whether a function is the method ``time`` of a datetime, which reads no clock."""
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "time"
        and getattr(function.value, "id", "time") != "time"
    )


def assigned(node):
    """Return the targets of an assignment; none for any other node."""
    match node:
        case ast.Assign():
            return node.targets
        case ast.AugAssign() | ast.NamedExpr():
            return [node.target]
    return []


def names_in(node):
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def compared_with_a_clock(function):
    """Return the lines of asserts that depend on a clock, directly or through names."""
    timed: set[str] = set()  # names whose values depend on a clock
    for _ in range(3):  # names may depend on other names
        for node in ast.walk(function):
            targets = assigned(node)
            if targets and (reads_a_clock(node.value) or names_in(node.value) & timed):
                timed |= {name for target in targets for name in names_in(target)}
            match node:
                case ast.Call(func=ast.Attribute(attr="append", value=ast.Name(id=name)), args=[moment]) if (
                    reads_a_clock(moment)
                ):
                    timed.add(name)
    asserts = [node for node in ast.walk(function) if isinstance(node, ast.Assert)]
    return [
        node.lineno
        for node in asserts
        if any(isinstance(one, ast.Compare) for one in ast.walk(node.test))
        and (reads_a_clock(node.test) or names_in(node.test) & timed)
    ]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("began = time.monotonic(); act(); assert time.monotonic() - began < 5", True),
        ("began = perf_counter(); took = perf_counter() - began; assert took < 5", True),
        ("took = []; took.append(time.time() - began); worst = max(took); assert worst < 1", True),
        ("assert http.get(url).elapsed.total_seconds() < 1", True),
        ("assert cpu.of(1) > 0; now = time.time(); assert told(now)", False),
        ("assert moment.time() == midnight", False),
        ("wait_until(lambda: found)", False),
    ],
)
def test_asserts_that_depend_on_a_clock_are_found(body, found):
    assert bool(compared_with_a_clock(ast.parse(f"def test(): {body}").body[0])) is found


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_compares_with_a_clock_or_sleeps_or_is_skipped(path):
    tree = tree_of(path)
    name = str(path.relative_to(ROOT / "tests"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert name in JUSTIFIED or not [line for function in functions for line in compared_with_a_clock(function)], (
        "tests/waiting.py has better ways"
    )
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert "time.sleep" not in calls, (
        "wait for a condition (wait_until of tests/waiting.py), or use pause if there is none"
    )
    assert not calls & {"pytest.skip", "pytest.importorskip", "pytest.xfail"}
    marks = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not marks & {"pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}
