"""Which From messages get, and may have, by the accounts of a tenant."""

from tests.flow.service import until
from tests.smtp_accounts.conftest import HELLO


def test_from_defaults_to_the_default_account_and_must_fit_an_account(tenant):
    assert tenant.post(HELLO | {"from": "who@ever.example"}).status_code == 201

    def sender() -> str | None:
        sent = tenant.post(HELLO)
        return (
            tenant.locked.ask("GET", f"/messages/{sent.json()['id']}", tenant.key).json()["from"] if sent.ok else None
        )

    first = tenant.account(from_email="Shop@example.com", from_name='The "Shop" \\ <x>')
    second = tenant.account(from_email="news.example.com")

    def seen() -> bool:
        """Return whether every process knows both accounts: several requests in a row."""
        own, foreign = ({"from": address} for address in ("Any <any@news.example.com>", "who@ever.example"))
        return all(tenant.post(HELLO | own).ok and not tenant.post(HELLO | foreign).ok for _ in range(10))

    until(seen)
    assert sender() == 'The "Shop" \\ <x> <Shop@example.com>'
    for address, status in {
        "shop@example.com": 201,
        "Any <any@news.example.com>": 201,
        "who@ever.example": 400,
        "a@x.news.example.com": 400,
    }.items():
        assert tenant.post(HELLO | {"from": address}).status_code == status
    refused = tenant.post(HELLO | {"from": "who@ever.example"}).json()["error"]
    assert refused["fields"] == {"from": ["No SMTP account of yours sends as who@ever.example."]}
    tenant.ask("PATCH", f"/{second['id']}", json={"from_email": None})
    until(lambda: all(tenant.post(HELLO | {"from": "who@ever.example"}).ok for _ in range(10)))
    tenant.ask("PATCH", f"/{second['id']}", json={"is_default": True})
    until(lambda: (sender() or "").endswith("noreply@mail.example.com>"))
    for account in (first, second):
        tenant.ask("DELETE", f"/{account['id']}")
    assert tenant.post(HELLO | {"from": "who@ever.example"}).status_code == 201
