"""Settings and helpers of the tests that send through SMTP accounts."""

from tests.flow.service import Service

USERS = {"user": "secret"}
PAUSES = {"CIRCUIT_PAUSE_SECONDS": 1, "REFUSED_PAUSE_SECONDS": 1, "SWEEP_SECONDS": 1}
SETTINGS = {"ALLOW_PRIVATE_HOSTS": "127.0.0.0/8", "RETRY_DELAYS": "2,2,2,2", **PAUSES}


def by_server(service: Service, identifiers: list[str]) -> list[int]:
    """Return how many of these messages each server took."""
    wanted = set(identifiers)
    return [sum(message["id"][1:37] in wanted for message in server.taken()) for server in service.servers]


def send(service: Service, count: int, **more: object) -> list[str]:
    return [service.post(to=f"u{n}@example.test", **more)["id"] for n in range(count)]


def delivered(service: Service, identifiers: list[str], seconds: float = 30) -> None:
    for identifier in identifiers:
        service.ended(identifier, "DELIVERED", seconds)


def event(service: Service, identifier: str, kind: str) -> dict:
    return next(one["data"] for one in service.get(f"/messages/{identifier}/events")["events"] if one["kind"] == kind)
