"""The limits of one process, and settings of gunicorn that it refuses."""

import resource
from typing import Any

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]  # it has no types

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.server.client_limits import OTHER_FILES, Stage, check_gunicorn, limits_of, permit_files
from mailbbgun.settings.load import load


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"certfile": "x", "keyfile": "x"}, "speaks no TLS; put a proxy"),
        ({"http2_cleartext": "upgrade"}, "speaks no HTTP/2; put a proxy"),
        ({"http_protocols": "h1,h2"}, "speaks no HTTP/2; put a proxy"),
        ({"proxy_protocol": "auto"}, "set PROXIES=1"),
        ({"protocol": "uwsgi"}, "let the proxy speak HTTP"),
    ],
)
def test_what_this_server_does_not_do_is_refused_with_what_to_do(given: dict[str, Any], why: str) -> None:
    cfg = Config()
    check_gunicorn(cfg)
    for name, value in given.items():
        cfg.set(name, value)
    with pytest.raises(ConfigurationError, match=why):
        check_gunicorn(cfg)


def test_limits_are_those_of_the_settings() -> None:
    settings = load(
        {"MAILBBGUN_API_STALL_SECONDS": "7", "MAILBBGUN_API_BUFFER_SIZE": "0", "MAILBBGUN_MAX_BODY_SIZE": "5000"}
    )
    limits = limits_of(settings, 33.0)
    assert (limits.seconds[Stage.IDLE], limits.seconds[Stage.BODY], limits.pace) == (33.0, 7.0, 7 * 4096)
    assert (limits.buffers, limits.connections_per_address) == (10_000, 6144)
    assert limits_of(load({"MAILBBGUN_PROXIES": "1"}), 1).connections_per_address is None


def test_a_process_opens_as_many_files_as_it_may_and_says_for_how_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        assert permit_files(600) == 600
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600 + OTHER_FILES
        assert permit_files(10**9) == hard - OTHER_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
