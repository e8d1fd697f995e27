"""Settings from file and environment: accepted values, and the error about any other."""

from dataclasses import fields
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import text as sql

from mailbbgun import startup
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.database.db import Database
from mailbbgun.services import build
from mailbbgun.settings.load import load
from mailbbgun.settings.sample import sample
from mailbbgun.settings.settings import Settings
from mailbbgun.settings.timeouts import SMTPTimeouts

ROOT = Path(__file__).resolve().parents[2]


def configured(folder: Path, text: str, **environment: str) -> Settings:
    """Return the settings of a ``config.py`` with this text."""
    file = folder / "config.py"
    file.write_text(text)
    return load({"MAILBBGUN_CONFIG": str(file)} | environment)


def test_the_sample_with_every_setting_uncommented_is_the_default(tmp_path: Path) -> None:
    lines = [line.removeprefix("# ") if " = " in line else line for line in sample().splitlines()]
    assert configured(tmp_path, "\n".join(lines)) == load({})


def test_phases_that_are_not_named_keep_their_limit(tmp_path: Path) -> None:
    wanted = SMTPTimeouts(connect=3.5, dot=600.0)
    assert wanted == load({"MAILBBGUN_SMTP_TIMEOUTS": "connect=3.5, dot=600,"}).SMTP_TIMEOUTS
    file = "SMTP_TIMEOUTS = {'connect': 3.5, 'dot': 600}"
    assert wanted == configured(tmp_path, file).SMTP_TIMEOUTS
    assert SMTPTimeouts() == configured(tmp_path, file, MAILBBGUN_SMTP_TIMEOUTS="").SMTP_TIMEOUTS


def test_a_relative_var_is_in_the_projects_folder_whatever_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load({})
    assert (f"{ROOT}/var", f"sqlite:///{ROOT}/var/mailbbgun.db") == (settings.VAR, settings.DATABASE_URL)
    assert load({"MAILBBGUN_VAR": "some/state"}).var == ROOT / "some" / "state"
    assert load({"MAILBBGUN_VAR": str(tmp_path)}).var == tmp_path
    with pytest.raises(ConfigurationError, match="VAR: must name a folder"):
        load({"MAILBBGUN_VAR": ""})


def test_a_relative_path_in_any_setting_is_in_the_projects_folder_whatever_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"MAILBBGUN_DATABASE_URL": "sqlite:///data/a%20b.db", "MAILBBGUN_SMTP_CA_FILE": "ca.pem"}
    settings = load(given)
    assert f"sqlite:///{quote(str(ROOT))}/data/a%20b.db" == settings.DATABASE_URL
    assert str(ROOT / "ca.pem") == settings.SMTP_CA_FILE
    assert load({"MAILBBGUN_SMTP_CA_FILE": ""}).SMTP_CA_FILE == ""


@pytest.mark.parametrize("path", ["~/mail", "~", "~mailbbgun/mail", "$HOME/mail", "${HOME}/mail"])
def test_a_path_that_only_a_shell_expands_is_refused_in_every_setting(path: str, tmp_path: Path) -> None:
    start = path.partition("/")[0]
    for name, value in (("VAR", path), ("SMTP_CA_FILE", path), ("DATABASE_URL", f"sqlite:///{path}")):
        told = f"{name}: {path!r} begins with {start}, which only a shell expands: write the whole path, from / on"
        for refused in (
            partial(load, {f"MAILBBGUN_{name}": value}),
            partial(configured, tmp_path, f"{name} = {value!r}"),
        ):
            with pytest.raises(ConfigurationError) as caught:
                refused()
            assert str(caught.value) == told
    with pytest.raises(
        ConfigurationError,
        match=r"there is no file .*; only a shell expands ~ and \$, and not within quotes: write the whole path",
    ):
        load({"MAILBBGUN_CONFIG": f"/somewhere/{path}"})


def test_tildes_and_dollars_elsewhere_in_a_path_are_ordinary_characters(tmp_path: Path) -> None:
    for folder in ("a~", "~", "$HOME"):
        assert load({"MAILBBGUN_VAR": str(tmp_path / folder)}).var == tmp_path / folder
    assert load({"MAILBBGUN_VAR": "./~"}).var == ROOT / "~"


PHASES = "connect, banner, ehlo, tls, auth, mail, rcpt, data, body, dot, rset, quit"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("{'dots': 1}", f"unknown phase 'dots'; there are {PHASES}"),
        ("{'min_rate': 1}", f"unknown phase 'min_rate'; there are {PHASES}"),
        ("'30'", f"unknown phase '30'; there are {PHASES}"),
        ("{1: 1}", f"unknown phase 1; there are {PHASES}"),
        ("30", "30 does not map phases to seconds"),
        ("None", "None does not map phases to seconds"),
        ("'dot'", "dot: '' is not a number"),
        ("'dot=soon'", "dot: 'soon' is not a number"),
        ("{'dot': None}", "dot: None is not a number"),
        ("{'dot': True}", "dot: True is not a number"),
        ("{'dot': float('nan')}", "dot: nan is not a number"),
        ("'dot=1,tls=inf'", "tls: inf is more than 1800"),
        ("'tls=0.09'", "tls: 0.09 is less than 0.1"),
        ("{'dot': 1800.5}", "dot: 1800.5 is more than 1800"),
        ("{'dot': 10**400}", f"dot: 1{'0' * 99}… is not a number"),
    ],
)
def test_the_error_about_an_invalid_timeout_names_its_phase(tmp_path: Path, value: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured(tmp_path, f"SMTP_TIMEOUTS = {value}")
    assert str(caught.value) == f"SMTP_TIMEOUTS: {told}"


def test_the_error_about_an_invalid_private_host_names_it(tmp_path: Path) -> None:
    wanted = ("10.0.0.0/8", "relay.internal", "::1")
    assert wanted == load({"MAILBBGUN_ALLOW_PRIVATE_HOSTS": "10.0.0.0/8, relay.internal,::1"}).ALLOW_PRIVATE_HOSTS
    assert wanted == configured(tmp_path, f"ALLOW_PRIVATE_HOSTS = {wanted}").ALLOW_PRIVATE_HOSTS
    assert load({"MAILBBGUN_ALLOW_PRIVATE_HOSTS": "*"}).ALLOW_PRIVATE_HOSTS == ("*",)
    with pytest.raises(ConfigurationError) as caught:
        load({"MAILBBGUN_ALLOW_PRIVATE_HOSTS": "relay.internal,10.0.0.1/8"})
    assert str(caught.value) == "ALLOW_PRIVATE_HOSTS: '10.0.0.1/8' is no network (10.0.0.0/8), address, host name or *"


NASTY = [
    None,
    True,
    3.7,
    -1,
    -0.0,
    10**5000,
    "",
    " ",
    "x" * 300,
    "a\nb",
    "\x00",
    "\udcff",
    b"x",
    [],
    [None],
    {},
    {"hunter2": 1},
    ("hunter2",),
]
NASTY.append(object())
SECRET = ("DATABASE_URL", "QUEUE_URL", "SMTP_URL", "REDIS_URL", "ENCRYPTION_KEYS")


@pytest.mark.parametrize("name", [one.name for one in fields(Settings)])
def test_any_value_in_config_py_is_accepted_or_is_an_error_of_one_line_that_names_the_setting(
    name: str, tmp_path: Path
) -> None:
    for place in range(len(NASTY)):
        text = f"from tests.settings import test_load as tests\n{name} = tests.NASTY[{place}]"
        try:
            settings = configured(tmp_path, text)
            startup.check(settings)
        except ConfigurationError as error:
            said = str(error)
            assert said.startswith((f"{name}: ", "DEFAULT_FROM: ")), said
            assert said.isprintable()
            assert len(said) < 500
            assert name not in SECRET or "hunter2" not in said


@pytest.mark.parametrize("name", [one.name for one in fields(Settings)])
def test_any_value_in_the_environment_is_accepted_or_is_an_error_of_one_line_that_names_the_setting(name: str) -> None:
    for value in ("", " ", "x y", "-1", "9" * 5000, "3.7", "\udcff", "'", "{", "a\nb", "\\"):
        try:
            startup.check(load({f"MAILBBGUN_{name}": value}))
        except ConfigurationError as error:
            said = str(error)
            assert said.startswith((f"{name}: ", "DEFAULT_FROM: ")), said
            assert said.isprintable()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PORT", "3.7", "PORT: '3.7' is not a whole number"),
        ("PORT", "0", "PORT: 0 is less than 1"),
        ("PORT", "70000", "PORT: 70000 is more than 65535"),
        ("HOST", "", "HOST: '' is no IP address and no host name"),
        (
            "HOST",
            "127.0.0.1:5000",
            "HOST: '127.0.0.1:5000' is no IP address and no host name; the port is a setting of its own",
        ),
        ("HOST", "http://here", "HOST: 'http://here' is no IP address and no host name"),
        ("HOST", "256.0.0.1", "HOST: '256.0.0.1' is no IP address and no host name"),
        ("CATCHER_HOST", "[::1]", "CATCHER_HOST: '[::1]' is no IP address and no host name"),
        ("DNS_SERVERS", "ns.example.com", "DNS_SERVERS: "),
        ("DNS_SERVERS", "127.0.0.1:70000", "DNS_SERVERS: "),
        ("DEFAULT_FROM", "nobody", "DEFAULT_FROM: 'nobody': "),
        ("ENCRYPTION_KEYS", "hunter2", "ENCRYPTION_KEYS: each must be 32 bytes in URL-safe base64"),
        (
            "SMTP_CA_FILE",
            "/nowhere/ca.pem",
            "SMTP_CA_FILE: '/nowhere/ca.pem' cannot be read: No such file or directory",
        ),
        ("SMTP_CA_FILE", "/", "SMTP_CA_FILE: '/' cannot be read: Is a directory"),
        ("SMTP_CA_FILE", "/etc/hostname", "SMTP_CA_FILE: '/etc/hostname' holds no certificate"),
        ("RETRY_DELAYS", "", "RETRY_DELAYS: at least one delay is needed"),
        ("AUTH_REQUIRED", "perhaps", "AUTH_REQUIRED: 'perhaps' is not true or false"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL: 'LOUD' is not one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_the_error_about_an_invalid_value_says_what_would_be_right(name: str, value: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        startup.check(load({f"MAILBBGUN_{name}": value}))
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    "folder",
    ["a%20b", "a?b#c", "a b", "ü{x}", "100%", "a+b&c=d;e", "quote'\"", "a:b@c", "back\\slash"],
)
def test_any_name_of_the_folder_var_leads_to_the_database_in_it(folder: str, tmp_path: Path) -> None:
    settings = load({"MAILBBGUN_VAR": str(tmp_path / folder)})
    assert settings.var == tmp_path / folder
    settings.var.mkdir()
    database = Database(settings.DATABASE_URL)
    with database.write() as session:
        session.execute(sql("CREATE TABLE found (here INTEGER)"))
    database.close()
    assert (tmp_path / folder / "mailbbgun.db").exists()
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_the_host_name_is_filled_in_in_var_and_var_cannot_name_itself(tmp_path: Path) -> None:
    given = {"MAILBBGUN_HOSTNAME": "mail.example.com", "MAILBBGUN_VAR": f"{tmp_path}/{{HOSTNAME}}/x"}
    settings = load(given)
    assert settings.var == tmp_path / "mail.example.com" / "x"
    assert f"sqlite:///{tmp_path}/mail.example.com/x/mailbbgun.db" == settings.DATABASE_URL
    with pytest.raises(ConfigurationError, match=r"^VAR: .* names itself"):
        load({"MAILBBGUN_VAR": "/srv/{VAR}"})


def test_a_config_py_that_is_a_link_to_nothing_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.py").symlink_to("gone.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^config\.py: is a link to gone\.py, which does not exist"):
        load({})


@pytest.mark.parametrize(
    ("name", "url", "told"),
    [
        ("DATABASE_URL", "sqlite:////srv/x.db?mode=ro", "has the option 'mode'"),
        ("DATABASE_URL", "sqlite:////srv/x.db?timeout=abc", "has the option 'timeout'"),
        ("DATABASE_URL", "sqlite:////srv/x.db?factory=3&mode=ro", "has the option 'factory'"),
        ("QUEUE_URL", "amqp://u:p@h/v?heartbeat=abc", "the option 'heartbeat': cannot have that value"),
        ("QUEUE_URL", "amqp://u:p@h/v?colour=red", "there is no option 'colour'"),
        ("QUEUE_URL", "amqps://u:p@h/v?ssl_options={'ca_certs':'/nowhere'}", "the option 'ssl_options': No such file"),
    ],
)
def test_an_option_of_a_url_that_would_be_ignored_is_named(name: str, url: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(load({f"MAILBBGUN_{name}": url, "MAILBBGUN_VAR": str(tmp_path)}))
    assert str(caught.value).startswith(f"{name}: {told}")


def test_names_in_braces_are_filled_in_and_other_braces_stay(tmp_path: Path) -> None:
    settings = load(
        {
            "MAILBBGUN_VAR": str(tmp_path),
            "MAILBBGUN_HOSTNAME": "mail.example.com",
            "MAILBBGUN_DEFAULT_FROM": "{x} <a@{HOSTNAME}>",
        }
    )
    assert settings.DEFAULT_FROM == "{x} <a@mail.example.com>"
    assert load({"MAILBBGUN_SMTP_URL": "smtp://u:{p}%7B@h"}).SMTP_URL == "smtp://u:{p}%7B@h"
