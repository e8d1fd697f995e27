"""Our own host name: given by the setting, or made from the machine's name."""

import socket
import threading

import pytest

from mailbbgun.accept.address_lists import check_default_sender
from mailbbgun.core.errors import ConfigurationError
from mailbbgun.settings import hostname
from mailbbgun.settings.load import load, unusable_machine_name


@pytest.mark.parametrize(
    ("machine", "ours"),
    [
        ("mail.example.com", "mail.example.com"),
        ("localhost", "localhost"),
        ("localhost.localdomain", "localhost.localdomain"),
        ("my_host", "my-host"),
        ("my_host.example.com", "my-host.example.com"),
        ("10.0.0.5", hostname.FALLBACK),
        ("::1", hostname.FALLBACK),
        ("[10.0.0.5]", hostname.FALLBACK),
        ("host.5", hostname.FALLBACK),
        ("", hostname.FALLBACK),
        ("...", hostname.FALLBACK),
        ("_", hostname.FALLBACK),
        ("a" * 70, "a" * 63),
        ("a." * 150 + "b", hostname.FALLBACK),
        ("mail.example.com.", "mail.example.com"),
        (" mail host ", "mail-host"),
        ("müller-pc", "xn--mller-pc-65a"),
        ("host\nname", "host-name"),
        ("-x-.y", "x.y"),
        ("xn--zz--", hostname.FALLBACK),
    ],
)
def test_a_machine_of_any_name_can_start_and_its_invalid_name_is_known(
    monkeypatch: pytest.MonkeyPatch, machine: str, ours: str
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda name="": machine)
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    settings = load({})
    assert ours == settings.HOSTNAME
    check_default_sender(settings)
    assert settings.DEFAULT_FROM.endswith(f"@{ours}>")
    assert unusable_machine_name(settings) == ("" if machine == ours else repr(machine))


def test_a_resolver_that_hangs_does_not_keep_a_program_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getfqdn", lambda name="": answer.wait() and "never")
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(hostname, "LOOKUP_SECONDS", 0.05)
    assert load({}).HOSTNAME == "here"
    answer.set()


@pytest.mark.parametrize(
    "given",
    ["my_host", "10.0.0.5", "[10.0.0.5]", "a" * 70, "mail.example.com.", " mail", "müller.example", "-x", "a..b"],
)
def test_an_invalid_name_in_the_setting_is_an_error(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^HOSTNAME: ") as caught:
        load({"MAILBBGUN_HOSTNAME": given})
    assert repr(given) in str(caught.value)
