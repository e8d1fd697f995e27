"""The house keeps its own rules: what is declared is used, what is used is documented."""

import ast
import logging
import re
from dataclasses import fields
from pathlib import Path

import pytest

from mailbbgun.app import create_app
from mailbbgun.base.settings import Settings, sample
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.queues.lanes import LANES, WEIGHTS
from mailbbgun.smtp_accounts.schemas import NewAccount

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "mailbbgun").rglob("*.py"))
README = (ROOT / "README.rst").read_text()
LATE_IMPORTS = {"services.py"}


def code_of(path: Path) -> str:
    return path.read_text()


def test_config_sample_is_what_the_settings_say():
    assert (ROOT / "config.py.sample").read_text() == sample()


@pytest.mark.parametrize("setting", [one.name for one in fields(Settings)])
def test_every_setting_has_a_sentence_and_is_read_somewhere(setting):
    sentence = next(one for one in fields(Settings) if one.name == setting).metadata["doc"]
    assert sentence.endswith(".")
    readers = [path for path in [*PACKAGE, ROOT / "gunicorn.conf.py"] if re.search(rf"\.{setting}\b", code_of(path))]
    assert readers, f"nothing reads {setting}"


RECORD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_field_of_a_log_line_has_a_name_that_logging_refuses(path):
    # It raises KeyError then: just where something went wrong that should be told.
    calls = [one for one in ast.walk(ast.parse(code_of(path))) if isinstance(one, ast.keyword) and one.arg == "extra"]
    names = [key for call in calls for part in ast.walk(call.value) if isinstance(part, ast.Dict) for key in part.keys]
    assert not [one.value for one in names if isinstance(one, ast.Constant) and one.value in RECORD]


@pytest.mark.parametrize("kind", list(Kind))
def test_every_event_kind_is_written_somewhere_and_explained_in_the_readme(kind):
    assert f"``{kind.value}``" in README
    writers = [path for path in PACKAGE if path.name != "kinds.py" and f"Kind.{kind.name}" in code_of(path)]
    assert writers


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_given_somewhere_and_explained_in_the_readme(reason):
    assert f"``{reason.value}``" in README
    assert [path for path in PACKAGE if path.name != "kinds.py" and f"Reason.{reason.name}" in code_of(path)]


def test_every_lane_has_a_weight():
    assert set(WEIGHTS) == set(LANES)


def test_every_resource_is_in_the_readme_and_in_the_openapi_document(embedded_settings):
    app = create_app(embedded_settings)
    spec = app.test_client().get("/openapi.json").get_json()
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", "{id}", rule.rule)
        if not rule.endpoint.startswith(("api-docs.", "assets.")):
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                assert f"``{method} {path}``" in README, f"{method} {path}"
                shown = {re.sub(r"\{\w+\}", "{id}", one): verbs for one, verbs in spec["paths"].items()}
                assert method.lower() in shown[path]


@pytest.mark.parametrize("field", sorted(NewAccount().fields))
def test_every_field_of_an_smtp_account_is_in_the_readme(field):
    assert f"``{field}``" in README


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_stand_at_the_top_except_in_the_composition_root(path):
    tree = ast.parse(code_of(path))
    inside = [
        node.lineno
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not inside or path.name in LATE_IMPORTS, inside


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is_and_no_function_is_longer_than_sixty_lines(path):
    tree = ast.parse(code_of(path))
    assert ast.get_docstring(tree)
    if "migrations" not in path.parts:
        long = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno > 60]
        assert not long


def test_the_top_level_programs_are_short():
    for name in ("api.py", "worker.py", "initdb.py"):
        assert len((ROOT / name).read_text().splitlines()) < 15, name


def test_hacking_is_short_and_names_every_room():
    hacking = (ROOT / "HACKING.rst").read_text()
    assert len(hacking.splitlines()) <= 220
    for path in (ROOT / "mailbbgun").iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert f"{path.name}/" in hacking, path.name


def test_no_file_names_a_machine_or_a_package_registry():
    words = ["py" + "pi.org", "npm" + "js.", "deb." + "debian.org", "/wo" + "rk/"]
    for path in [*ROOT.glob("*.*"), *(ROOT / "bin").iterdir(), *PACKAGE, *(ROOT / "deploy").rglob("*")]:
        if path.is_file() and path.name != ".git":  # which in a worktree is a file that names its place
            assert not [word for word in words if word in path.read_text()], path
