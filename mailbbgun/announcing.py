"""What ``bin/run`` prints once its parts listen: where they do, and what to try."""

import http.client
import shlex
import socket
import time
from collections.abc import Callable, Mapping

from mailbbgun.relays.url import read
from mailbbgun.settings.settings import Settings

#: What the ports of the SMTP door are for, by their settings.
_DOORS = {
    "SMTPD_PORT": "The SMTP door listens, to clients that log in with an API key,",
    "SMTPD_TLS_PORT": "The SMTP door listens by TLS",
    "MX_LISTEN_PORT": "Mail for local domains is taken",
}


def announce(show: Callable[[str], None], settings: Settings, catching: bool, open_ports: Mapping[str, int]) -> None:
    """Say where the parts listen, once they do. ``open_ports``: those of the SMTP door."""
    awaited = [(settings.SMTPD_HOST, port) for port in open_ports.values()]
    awaited += [(settings.CATCHER_HOST, settings.CATCHER_PORT)] if catching else []
    while not _healthy(settings) or not all(_listens(*one) for one in awaited):
        time.sleep(0.1)
    address = _reachable(settings.HOST, settings.PORT)
    caught = (
        f"is caught on {_reachable(settings.CATCHER_HOST, settings.CATCHER_PORT)} and kept in {settings.var / 'mail'}"
    )
    server = None if settings.all_caught or settings.direct_mx else read(settings.SMTP_URL)
    leaves = f"leaves through {server.host}:{server.port}" if server else "goes straight to each recipient's MX"
    body = '{"to": "you@example.com", "subject": "It works", "text": "Hello from Mail BB Gun"}'
    curl = ["curl", "-i", f"http://{address}/messages", "-H", "Content-Type: application/json", "-d", body]
    lines = [
        f"The API listens on http://{address} (documentation: http://{address}/docs)",
        *(f"{_DOORS[name]} on {_reachable(settings.SMTPD_HOST, port)}" for name, port in open_ports.items()),
        f"Mail {caught if settings.all_caught else leaves}",
        *([f"Mail of test keys {caught}"] if catching and not settings.all_caught else []),
        "Try:",
        f"\n{_with_key(shlex.join(curl)) if settings.AUTH_REQUIRED else shlex.join(curl)}\n",
        "Ctrl-C stops everything.",
    ]
    show("\n" + "\n".join(lines) + "\n")


def _with_key(curl: str) -> str:
    return f'KEY=$(bin/mailbbgun key create --admin --quiet)\n{curl} -H "Authorization: Bearer $KEY"'


def _healthy(settings: Settings) -> bool:
    connection = http.client.HTTPConnection(_connectable(settings.HOST), settings.PORT, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((_connectable(host), port), 2).close()
    except OSError:
        return False
    return True


def _connectable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)


def _reachable(host: str, port: int) -> str:
    shown = _connectable(host)
    return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
