"""No secret is in anything that the service writes or sends (row S32).

A whole run with failures, logged at DEBUG, gives it every secret there is.
"""

import base64
import json
import os
import resource
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, quote_plus

import pika
import pytest
from sqlalchemy.engine import make_url

from mailbbgun.database.crypto import new_key
from mailbbgun.queues.lanes import LANES
from mailbbgun.queues.topology import WORK
from mailbbgun.services import build
from mailbbgun.settings.load import load
from mailbbgun.tenants import keys as api_keys
from tests.flow.service import Service, until
from tests.servers import PostgreSQL, RabbitMQ, Redis, install
from tests.servers.mailserver import MailServer
from tests.smtp.peers import Dialogue, Peer
from tests.waiting import PATIENCE

ADDRESSES = ("account", "refused", "tried", "relay", "database", "queue", "redis", "changed")
PASSWORDS = {name: f"canary/{name}+7f3a é" for name in ADDRESSES}
#: Files in VAR that may hold secrets: the key file of the service, and the passwords of our test
#: server.
HIDDEN = ("encryption.key", "passwords.json")


def forms(secret: str) -> set[bytes]:
    """Return the forms in which a secret may be written: plain, quoted, escaped and in Base64.

    Base64 has three forms, by the position of the secret in its input.
    """
    octets = secret.encode()
    quoted = (quote(secret, safe=""), quote(secret), quote(secret, safe=" +"), quote_plus(secret))
    shown = (json.dumps(secret)[1:-1], ascii(secret)[1:-1], repr(octets)[2:-1], octets.hex())
    written = {octets, secret.encode("latin-1"), *(text.encode() for text in (*quoted, *shown))}
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + octets)
        written.add(encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4])
    return written


def test_every_form_of_a_secret_is_found() -> None:
    for name, secret in PASSWORDS.items():
        octets = secret.encode()
        shown = [
            secret,
            quote(secret, safe=""),
            json.dumps({"x": secret}),
            repr(octets),
            ascii(secret),
            quote_plus(secret),
        ]
        shown += [make_url("postgresql://u@h/d").set(password=secret).render_as_string(hide_password=False)]
        shown += [*(base64.b64encode(b"x" * n + octets + b"yz").decode() for n in range(4))]
        for text in shown:
            assert found({name: secret}, {"here": b"some " + text.encode() + b" more"}) == [(name, "here")], text


def found(secrets: Mapping[str, str], places: Mapping[str, bytes]) -> list[tuple[str, str]]:
    return [
        (name, place)
        for name, secret in secrets.items()
        for place, octets in places.items()
        if any(form in octets for form in forms(secret))
    ]


def echo(dialogue: Dialogue) -> None:
    """Refuse the login and repeat the command in the reply, as sent and decoded."""
    words = dialogue.command.split()
    dialogue.say(b"535 5.7.8 " + dialogue.command + b": " + base64.b64decode(words[2]).replace(b"\0", b" ") + b"\r\n")


@pytest.fixture
def confided(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A service that requires keys, logs at DEBUG, and has a password for every server it uses."""
    if request.param == "embedded":
        yield _service(tmp_path)
        return
    postgresql, rabbitmq, redis = (
        request.getfixturevalue(f"breakable_{name}") for name in ("postgresql", "rabbitmq", "redis")
    )
    name, vhost = postgresql.create_database(), rabbitmq.vhost()
    rabbitmq.ctl("add_user", "robot", PASSWORDS["queue"])
    rabbitmq.ctl("set_permissions", "-p", vhost, "robot", ".*", ".*", ".*")
    with redis.client() as client:
        client.acl_setuser(
            "robot",
            enabled=True,
            passwords=[f"+{PASSWORDS['redis']}"],
            categories=["+@all"],
            keys=["*"],
            channels=["*"],
        )
    urls = {
        "DATABASE_URL": make_url(postgresql.url(name))
        .set(password=PASSWORDS["database"])
        .render_as_string(hide_password=False),
        "QUEUE_URL": f"amqp://robot:{quote(PASSWORDS['queue'], safe='')}@127.0.0.1:{rabbitmq.port}/{vhost}",
        "REDIS_URL": f"redis://robot:{quote(PASSWORDS['redis'], safe='')}@127.0.0.1:{redis.port}/0",
    }
    yield _service(tmp_path, **urls)
    rabbitmq.ctl("delete_user", "robot")
    rabbitmq.release(vhost)
    postgresql.drop_database(name)


def _service(folder: Path, **urls: str) -> Service:
    settings = {
        "VAR": str(folder / "var"),
        "LOG_LEVEL": "DEBUG",
        "AUTH_REQUIRED": "true",
        "ENCRYPTION_KEYS": new_key(),
        **urls,
    }
    own = {
        "ALLOW_PRIVATE_HOSTS": "127.0.0.0/8",
        "SWEEP_SECONDS": 1,
        "REFUSED_PAUSE_SECONDS": 1,
        "CIRCUIT_PAUSE_SECONDS": 1,
    }
    service = Service(load({f"MAILBBGUN_{name}": value for name, value in settings.items()}), **own)
    service.environment["MAILBBGUN_SMTP_URL"] = (
        f"smtp://robot:{quote(PASSWORDS['relay'], safe='')}@127.0.0.1:{service.sink_port}?security=none"
    )
    return service


@pytest.mark.long
@pytest.mark.parametrize("confided", ["embedded", "real"], indirect=True)
def test_no_secret_is_in_anything_that_was_written_or_sent(
    confided: Service, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    service, real = confided, request.node.callspec.params["confided"] == "real"
    users = {"user": PASSWORDS["account"]}
    with (
        closing(MailServer(tmp_path, users)) as provider,
        Peer(users={"user": "another"}, at={"auth": echo}, mechanisms="PLAIN") as echoing,
        service,
    ):
        provider.start()
        lines = ["--admin", "--quiet"], ["--quiet", "--kind", "test"], ["--quiet", "--scope", "messages:write"]
        admin, test, revoked = (service.run("bin/mailbbgun", "key", "create", *options).strip() for options in lines)
        tap = _tap(service) if real else None
        said = _use(service, provider, echoing, {"admin": admin, "test": test, "revoked": revoked})
        if real:
            _break(request.getfixturevalue("breakable_postgresql"), service, admin)
        said["commands"] = _rotate(service)
        for name, process in service.processes.items():
            if name != "sink":
                assert resource.prlimit(process.pid, resource.RLIMIT_CORE) == (0, 0)
                said[f"command line of {name}"] = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        pepper = _pepper(service)
        service.stop("worker")
        service.stop("api")
        if real:
            said |= _kept_by_servers(service, request, tap)
        files = (path for path in service.var.rglob("*") if path.is_file() and path.name not in HIDDEN)
        said |= {str(path.relative_to(service.var)): path.read_bytes() for path in files}
    tokens = {"admin": admin, "test": test, "revoked": revoked}
    parts = {f"key {name}": token.rpartition("_")[2] for name, token in tokens.items()}
    used = service.environment["MAILBBGUN_ENCRYPTION_KEYS"].split(",")
    encryption = {f"encryption key {number}": key for number, key in enumerate(used)}
    secrets = {**PASSWORDS, **parts, **encryption, "pepper": pepper}
    assert len(secrets) >= 12
    assert min(map(len, (said["api.out"], said["worker.out"]))) > 1000
    assert found(secrets, said) == []
    assert b"thread_died" not in said["worker.out"]
    assert b"Traceback" in said["api.out"]  # there were failures; without them the test would prove little


class Answers:
    """Makes requests with the admin key and keeps all answers."""

    def __init__(self, service: Service, admin: str) -> None:
        self._service = service
        self.said: dict[str, bytes] = {}
        service.http.headers["Authorization"] = f"Bearer {admin}"

    def ask(self, method: str, path: str, **options: object) -> bytes:
        answer = self._service.http.request(method, f"{self._service.url}{path}", timeout=PATIENCE, **options)
        self.said[f"{method} {path} {len(self.said)}"] = answer.content + str(answer.headers).encode()
        return answer.content


def _use(service: Service, provider: MailServer, echoing: Peer, tokens: Mapping[str, str]) -> dict[str, bytes]:
    """Send, test, fail and read through every door; return all answers."""
    answers = Answers(service, tokens["admin"])
    bad = {"smtp_host": "127.0.0.1", "smtp_port": echoing.port, "smtp_username": "user", "security_protocol": "NONE"}
    service.start_worker()
    relayed = service.post(to="relay@example.test")["id"]  # refused, since the sink offers no AUTH
    until(lambda: "refused" in service.kinds(relayed), what="the relay's refusal")
    accounts = _add_accounts(service, answers, provider, bad)
    sent = [service.post(to=f"u{n}@example.test")["id"] for n in range(5)]
    for identifier in (relayed, *sent):
        service.ended(identifier, "DELIVERED")
    assert provider.taken()
    changed = {"smtp_password": PASSWORDS["changed"]}
    answers.ask("PATCH", f"/smtp-accounts/{accounts['refused']}", json=changed)
    answers.ask("PATCH", f"/smtp-accounts/{accounts['refused']}", json=changed | {"smtp_port": 0})
    broken = json.dumps(bad | {"smtp_password": PASSWORDS["tried"]})[:-1]
    answers.ask("POST", "/smtp-accounts/test", data=broken, headers={"Content-Type": "application/json"})
    _use_wrong_keys(service, answers, tokens)
    _fail_inside(service, answers, accounts["good"])
    events = f"/messages/{relayed}/events"
    for path in ("/smtp-accounts/health", "/messages", events, "/tenants", "/audit", "/ready", "/openapi.json"):
        answers.ask("GET", path)
    return answers.said


def _add_accounts(
    service: Service, answers: Answers, provider: MailServer, bad: Mapping[str, object]
) -> dict[str, str]:
    """Add, test, show and reveal accounts; return their ids by name."""
    good = {"smtp_host": "127.0.0.1", "smtp_port": provider.port, "smtp_username": "user"}
    good["ca_certificate"] = Path(provider.ca_file).read_text()
    for path, named, given, password in (
        ("/smtp-accounts/test", {}, bad, "tried"),
        ("/smtp-accounts", {"setting_name": "refused", "priority": 1}, bad, "refused"),
        ("/smtp-accounts", {"setting_name": "good", "priority": 2, "max_per_second": 50}, good, "account"),
        ("/smtp-accounts", {"setting_name": "good", "smtp_tls": "what"}, good, "tried"),
    ):
        body = named | given | {"smtp_password": PASSWORDS[password]}
        answers.ask("POST", path, json=body, headers={"Idempotency-Key": f"{path} {len(answers.said)}"})
    listed = json.loads(answers.ask("GET", "/smtp-accounts"))["smtp_accounts"]
    accounts = {one["setting_name"]: one["id"] for one in listed}
    assert set(accounts) == {"refused", "good"}
    for identifier in accounts.values():
        answers.ask("POST", f"/smtp-accounts/{identifier}/test", json={"to": "tried@example.test"})
        answers.ask("GET", f"/smtp-accounts/{identifier}")
    revealed = service.http.get(f"{service.url}/smtp-accounts/{accounts['good']}/credentials", timeout=PATIENCE)
    assert revealed.json()["smtp_password"] == PASSWORDS["account"]
    return accounts


def _use_wrong_keys(service: Service, answers: Answers, tokens: Mapping[str, str]) -> None:
    """Make requests with a revoked key, a mistyped one, and a test key in two forms."""
    service.run("bin/mailbbgun", "key", "revoke", tokens["revoked"].split("_")[1])
    revoked = {"Authorization": f"Bearer {tokens['revoked']}"}
    until(lambda: service.http.get(f"{service.url}/messages", headers=revoked).status_code == 401)
    message = {"to": "ann@example.test", "from": "a@example.test", "subject": "x", "text": "x"}
    for headers in (
        {"Authorization": f"Bearer {tokens['revoked'][:-1]}x"},
        {"Authorization": f"Basic {base64.b64encode(tokens['test'].encode()).decode()}"},
        {"Authorization": f"Bearer {tokens['test']}"},
        revoked,
    ):
        answers.ask("GET", "/messages", headers=headers)
        answers.ask("POST", "/messages", headers=headers, json=message)


def _fail_inside(service: Service, answers: Answers, account: str) -> None:
    """Let a statement fail while the password is in memory, and make a row of accounts invalid."""
    service.sql("ALTER TABLE audit RENAME TO away")
    answers.ask("GET", f"/smtp-accounts/{account}/credentials")
    service.sql("ALTER TABLE away RENAME TO audit")
    service.sql("UPDATE smtp_accounts SET recipient_domains = 'true'")
    assert b"internal_error" in answers.ask("GET", "/smtp-accounts")
    until(lambda: "account_unusable" in (service.var / "worker.out").read_text(), what="a worker that has read it")
    service.sql("UPDATE smtp_accounts SET recipient_domains = '[]'")


def _break(postgresql: PostgreSQL, service: Service, admin: str) -> None:
    """Stop the database for a while."""
    postgresql.stop()
    for path in ("/messages", "/smtp-accounts/default/credentials"):
        assert service.http.get(f"{service.url}{path}", timeout=PATIENCE).status_code == 503, admin[:4]
    postgresql.start()
    until(lambda: service.http.get(f"{service.url}/messages").status_code == 200, what="the database")


def _rotate(service: Service) -> bytes:
    """Add a new encryption key, re-encrypt with it and go on; return the output of the commands."""
    service.stop("worker")
    service.stop("api")
    service.environment["MAILBBGUN_ENCRYPTION_KEYS"] = f"{new_key()},{service.environment['MAILBBGUN_ENCRYPTION_KEYS']}"
    service.start_api()
    service.start_worker()
    commands = ("encryption", "rotate"), ("account", "list"), ("key", "list")
    printed = "".join(service.run("bin/mailbbgun", *command) for command in commands)
    service.ended(service.post(to="after@example.test")["id"], "DELIVERED")
    return printed.encode()


def _pepper(service: Service) -> str:
    services = build(load(service.environment))
    with services.db.write() as session:
        pepper = api_keys.pepper(session, services.vault)
    services.close()
    return pepper


def _tap(service: Service) -> str:
    """Bind a queue of the test to every lane, so that it gets all hints; return its name."""
    with closing(pika.BlockingConnection(pika.URLParameters(service.environment["MAILBBGUN_QUEUE_URL"]))) as connection:
        channel = connection.channel()
        channel.queue_declare("tap", durable=True)
        for lane in LANES:
            channel.queue_bind("tap", WORK, lane)
    return "tap"


def _kept_by_servers(service: Service, request: pytest.FixtureRequest, tap: str | None) -> dict[str, bytes]:
    """Return all that the servers keep: database dump, hints, files, logs and Redis keys."""
    postgresql: PostgreSQL = request.getfixturevalue("breakable_postgresql")
    rabbitmq: RabbitMQ = request.getfixturevalue("breakable_rabbitmq")
    redis: Redis = request.getfixturevalue("breakable_redis")
    kept = {}
    url = (
        make_url(service.environment["MAILBBGUN_DATABASE_URL"])
        .set(drivername="postgresql", password=None)
        .render_as_string()
    )
    dump = [f"{install.postgresql()}/pg_dump", url]
    kept["pg_dump"] = subprocess.run(dump, capture_output=True, check=True, env={"PATH": os.environ["PATH"]}).stdout
    assert b"COPY public.smtp_accounts" in kept["pg_dump"]
    with closing(pika.BlockingConnection(pika.URLParameters(service.environment["MAILBBGUN_QUEUE_URL"]))) as connection:
        channel, hints = connection.channel(), []
        while (message := channel.basic_get(tap, auto_ack=True))[0]:
            hints.append(repr(message).encode() + message[2])
    assert len(hints) >= 3
    kept["hints"] = b"\n".join(hints)
    with redis.client() as client:
        kept["redis"] = b"\n".join(key + (client.dump(key) or b"") for key in client.scan_iter())
    assert b"mailbbgun" in kept["redis"]
    for server in (postgresql, rabbitmq):
        for path in server.folder.rglob("*"):
            # The dump has the content of PostgreSQL's data files.
            if path.is_file() and not path.is_symlink() and "data" not in path.parts:
                kept[str(path)] = path.read_bytes()
    return kept
