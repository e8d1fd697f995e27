"""Settings: what is taken from file and environment, and what stops the start, with the line it says."""

from pathlib import Path

import pytest

from mailbbgun.base.errors import ConfigurationError
from mailbbgun.base.settings import Settings, load, sample
from mailbbgun.base.timeouts import SMTPTimeouts

ROOT = Path(__file__).resolve().parents[2]


def configured(folder: Path, text: str, **environment: str) -> Settings:
    file = folder / "config.py"
    file.write_text(text)
    return load({"MAILBBGUN_CONFIG": str(file)} | environment)


def test_the_sample_with_every_setting_uncommented_is_the_default(tmp_path: Path) -> None:
    lines = [line.removeprefix("# ") if " = " in line else line for line in sample().splitlines()]
    assert configured(tmp_path, "\n".join(lines)) == load({})


def test_phases_not_named_keep_their_limit(tmp_path: Path) -> None:
    wanted = SMTPTimeouts(connect=3.5, dot=600.0)
    assert wanted == load({"MAILBBGUN_SMTP_TIMEOUTS": "connect=3.5, dot=600,"}).SMTP_TIMEOUTS
    file = "SMTP_TIMEOUTS = {'connect': 3.5, 'dot': 600}"
    assert wanted == configured(tmp_path, file).SMTP_TIMEOUTS
    assert SMTPTimeouts() == configured(tmp_path, file, MAILBBGUN_SMTP_TIMEOUTS="").SMTP_TIMEOUTS


def test_a_relative_var_is_in_the_projects_folder_wherever_we_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load({})
    assert (f"{ROOT}/var", f"sqlite:///{ROOT}/var/mailbbgun.db") == (settings.VAR, settings.DATABASE_URL)
    assert load({"MAILBBGUN_VAR": "some/state"}).var == ROOT / "some" / "state"
    assert load({"MAILBBGUN_VAR": str(tmp_path)}).var == tmp_path
    with pytest.raises(ConfigurationError, match="VAR: must name a folder"):
        load({"MAILBBGUN_VAR": ""})


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
def test_a_limit_that_cannot_be_is_told_with_its_phase(tmp_path: Path, value: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured(tmp_path, f"SMTP_TIMEOUTS = {value}")
    assert str(caught.value) == f"SMTP_TIMEOUTS: {told}"


def test_hosts_that_are_no_networks_and_no_names_are_told(tmp_path: Path) -> None:
    wanted = ("10.0.0.0/8", "relay.internal", "::1")
    assert wanted == load({"MAILBBGUN_ALLOW_PRIVATE_HOSTS": "10.0.0.0/8, relay.internal,::1"}).ALLOW_PRIVATE_HOSTS
    assert wanted == configured(tmp_path, f"ALLOW_PRIVATE_HOSTS = {wanted}").ALLOW_PRIVATE_HOSTS
    assert load({"MAILBBGUN_ALLOW_PRIVATE_HOSTS": "*"}).ALLOW_PRIVATE_HOSTS == ("*",)
    with pytest.raises(ConfigurationError) as caught:
        load({"MAILBBGUN_ALLOW_PRIVATE_HOSTS": "relay.internal,10.0.0.1/8"})
    assert str(caught.value) == "ALLOW_PRIVATE_HOSTS: '10.0.0.1/8' is no network (10.0.0.0/8), address, host name or *"
