"""Names in the environment and in config.py: settings, ignored ones, and errors."""

from pathlib import Path

import pytest

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.settings.load import load
from tests.settings.test_load import configured


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MAILBBGUN_SERVICE_HOST", "10.0.0.1"),
        ("MAILBBGUN_SERVICE_PORT", "5000"),
        ("MAILBBGUN_SERVICE_PORT_HTTP", "5000"),
        ("MAILBBGUN_PORT", "tcp://10.0.0.1:5000"),
        ("MAILBBGUN_PORT", "tcp://[fd00::1]:5000"),
        ("MAILBBGUN_PORT_5000_TCP", "tcp://10.0.0.1:5000"),
        ("MAILBBGUN_PORT_5000_TCP_PROTO", "tcp"),
        ("MAILBBGUN_PORT_5000_TCP_PORT", "5000"),
        ("MAILBBGUN_PORT_5000_TCP_ADDR", "10.0.0.1"),
        ("MAILBBGUN_API_SERVICE_HOST", "10.0.0.1"),
        ("MAILBBGUN_API_SERVICE_PORT_HTTP_API", "5000"),
        ("MAILBBGUN_API_PORT", "tcp://10.0.0.1:5000"),
        ("MAILBBGUN_API_PORT_5000_TCP_ADDR", "10.0.0.1"),
        ("MAILBBGUN_CATCHER_PORT", "tcp://10.0.0.1:1025"),
        ("MAILBBGUN_MX_PORT", "udp://10.0.0.1:25"),
        ("MAILBBGUN_DNS_PORT_53_UDP", "udp://10.0.0.1:53"),
        ("MAILBBGUN_HOST_SERVICE_HOST", "10.0.0.1"),
        ("MAILBBGUN_API_1_NAME", "/web_1/mailbbgun_api_1"),
        ("MAILBBGUN_API_NAME", "/web/api"),
        ("MAILBBGUN_API_ENV_PYTHON_VERSION", "3.11"),
        ("MAILBBGUN_ENV_HOME", "/root"),
        ("MAILBBGUN_API_PORT_5000_TCP_START", "tcp://172.17.0.2:5000"),
    ],
)
def test_variables_that_kubernetes_and_docker_set_for_services_are_ignored(variable: str, value: str) -> None:
    assert load({variable: value}) == load({})


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("MAILBBGUN_SMTP_URI", "x", "unknown setting; did you mean MAILBBGUN_SMTP_URL?"),
        ("MAILBBGUN_smtp_url", "x", "unknown setting; did you mean MAILBBGUN_SMTP_URL?"),
        ("mailbbgun_smtp_url", "x", "unknown setting; did you mean MAILBBGUN_SMTP_URL?"),
        ("MAILBBGUN_API_PORT", "5001", "unknown setting; did you mean MAILBBGUN_"),
        ("MAILBBGUN_SERVICE", "x", "unknown setting"),
        ("MAILBBGUN_API_NAME", "mail", "unknown setting"),
        ("MAILBBGUN_QQQ", "x", "unknown setting; config.py.sample lists all settings"),
        ("MAILBBGUN_", "x", "unknown setting"),
    ],
)
def test_the_error_about_a_misspelt_variable_names_the_most_similar_one(variable: str, value: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({variable: value})
    assert str(caught.value).startswith(f"{variable}: {told}")


def test_a_port_that_is_neither_a_number_nor_set_by_docker_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="PORT: 'http' is not a number"):
        load({"MAILBBGUN_PORT": "http"})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("SMTP_URl = 'catcher:'", "SMTP_URl: unknown setting; did you mean SMTP_URL?"),
        ("smtp_url = 'catcher:'", "smtp_url: unknown setting; did you mean SMTP_URL?"),
        ("Smtp_Url = 'catcher:'", "Smtp_Url: unknown setting; did you mean SMTP_URL?"),
        ("SMTP_URLS = ['catcher:']", "SMTP_URLS: unknown setting; did you mean SMTP_URL?"),
        ("smtp_ur = 'catcher:'", "smtp_ur: unknown setting; did you mean SMTP_URL?"),
        ("port = 5001", "port: unknown setting; did you mean PORT?"),
        ("DB_PASSWORD = 'x'\nDATABASE_URL = f'postgresql://u:{DB_PASSWORD}@h/d'", "DB_PASSWORD: unknown setting"),
        ("SMTP_URL: 'smtp://host'", "SMTP_URL has no value: write SMTP_URL = …"),
        ("if True:\n    HOTS = '::1'", "HOTS: unknown setting; did you mean HOST?"),
        ("import sys; sys.exit(0)", ", line 1: SystemExit: 0"),
        ("\n\nPORT = 1 / 0", ", line 3: ZeroDivisionError"),
        ("PORT = (", "SyntaxError"),
        ("PORT = true", ", line 1: NameError"),
    ],
)
def test_a_mistake_in_config_py_is_an_error_that_names_it(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured(tmp_path, line)
    assert told in str(caught.value)
    assert str(tmp_path / "config.py") in str(caught.value)


def test_helpers_in_config_py_are_not_taken_for_settings(tmp_path: Path) -> None:
    text = """
import os
import urllib.parse as Parse
from pathlib import Path
from stat import S_IRUSR
from typing import TYPE_CHECKING

_SECRET = "p#w"
host = "db.example.com"
password = Parse.quote(_SECRET)
everything = [host, password]

def SMTP_Url_of(name):
    return f"smtp://{name}:2525?security=none"

class Relay:
    name = "relay"

for number in range(3):
    pass

PORT = 5000 + number
SMTP_URL = SMTP_Url_of(Relay.name)
DATABASE_URL = f"postgresql://robot:{password}@{host}/mail"
"""
    settings = configured(tmp_path, text)
    assert (settings.PORT, settings.SMTP_URL) == (5002, "smtp://relay:2525?security=none")
    assert settings.DATABASE_URL == "postgresql+psycopg2://robot:p%23w@db.example.com/mail"


def test_a_config_py_that_is_a_folder_is_an_error_and_a_missing_one_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    load({})
    (tmp_path / "config.py").mkdir()
    with pytest.raises(ConfigurationError, match=r"config.py: cannot be read: Is a directory"):
        load({})
    with pytest.raises(ConfigurationError, match="MAILBBGUN_CONFIG: there is no file"):
        load({"MAILBBGUN_CONFIG": str(tmp_path / "none.py")})
