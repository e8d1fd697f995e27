"""Row S32: after a whole run, trouble included and logged at DEBUG, what the service was told in confidence is in nothing that it wrote or sent."""

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
HIDDEN = ("encryption.key", "passwords.json")  # in VAR: the one place of a key that no setting names, and ours


def forms(secret: str) -> set[bytes]:
    """Return a secret as it may be written: as it is, quoted, escaped, and in base64 at each of the three places where that may begin."""
    octets = secret.encode()
    quoted = (quote(secret, safe=""), quote(secret), quote(secret, safe=" +"), quote_plus(secret))
    shown = (json.dumps(secret)[1:-1], ascii(secret)[1:-1], repr(octets)[2:-1], octets.hex())
    written = {octets, secret.encode("latin-1"), *(text.encode() for text in (*quoted, *shown))}
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + octets)
        written.add(encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4])
    return written


def test_each_form_of_a_secret_is_found() -> None:
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
    """Refuse, and say what was said, as it was and decoded."""
    words = dialogue.command.split()
    dialogue.say(b"535 5.7.8 " + dialogue.command + b": " + base64.b64decode(words[2]).replace(b"\0", b" ") + b"\r\n")


@pytest.fixture
def confided(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A service that asks for keys, with a password for every server it knows, two encryption keys, and all it does logged."""
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


@pytest.mark.parametrize("confided", ["embedded", pytest.param("real", marks=pytest.mark.long)], indirect=True)
def test_nothing_that_was_written_or_sent_tells_a_secret(
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
        for path in service.var.rglob("*"):
            if path.is_file() and path.name not in HIDDEN:
                said[str(path.relative_to(service.var))] = path.read_bytes()
    tokens = {"admin": admin, "test": test, "revoked": revoked}
    parts = {f"key {name}": token.rpartition("_")[2] for name, token in tokens.items()}
    encryption = {
        f"encryption key {n}": key for n, key in enumerate(service.environment["MAILBBGUN_ENCRYPTION_KEYS"].split(","))
    }
    secrets = {**PASSWORDS, **parts, **encryption, "pepper": pepper}
    assert len(secrets) >= 12
    assert min(map(len, (said["api.out"], said["worker.out"]))) > 1000
    assert found(secrets, said) == []
    assert b"thread_died" not in said["worker.out"]
    assert b"Traceback" in said["api.out"]  # there was trouble, or this would prove little


def _use(service: Service, provider: MailServer, echoing: Peer, tokens: Mapping[str, str]) -> dict[str, bytes]:
    """Send, try, fail and look, by every door there is; return all answers but those that are asked for a secret."""
    said: dict[str, bytes] = {}
    service.http.headers["Authorization"] = f"Bearer {tokens['admin']}"

    def ask(method: str, path: str, **options: object) -> bytes:
        answer = service.http.request(method, f"{service.url}{path}", timeout=PATIENCE, **options)
        said[f"{method} {path} {len(said)}"] = answer.content + str(answer.headers).encode()
        return answer.content

    good = {
        "smtp_host": "127.0.0.1",
        "smtp_port": provider.port,
        "smtp_username": "user",
        "ca_certificate": Path(provider.ca_file).read_text(),
    }
    bad = {"smtp_host": "127.0.0.1", "smtp_port": echoing.port, "smtp_username": "user", "security_protocol": "NONE"}
    service.start_worker()
    relayed = service.post(to="relay@example.test")["id"]  # the sink offers no AUTH: refused
    until(lambda: "refused" in service.kinds(relayed), what="the relay's refusal")
    for path, named, given, password in (
        ("/smtp-accounts/test", {}, bad, "tried"),
        ("/smtp-accounts", {"setting_name": "refused", "priority": 1}, bad, "refused"),
        ("/smtp-accounts", {"setting_name": "good", "priority": 2, "max_per_second": 50}, good, "account"),
        ("/smtp-accounts", {"setting_name": "good", "smtp_tls": "what"}, good, "tried"),
    ):
        ask(
            "POST",
            path,
            json=named | given | {"smtp_password": PASSWORDS[password]},
            headers={"Idempotency-Key": f"{path} {len(said)}"},
        )
    accounts = {one["setting_name"]: one["id"] for one in json.loads(ask("GET", "/smtp-accounts"))["smtp_accounts"]}
    assert set(accounts) == {"refused", "good"}
    for identifier in accounts.values():
        ask("POST", f"/smtp-accounts/{identifier}/test", json={"to": "tried@example.test"})
        ask("GET", f"/smtp-accounts/{identifier}")
    revealed = service.http.get(f"{service.url}/smtp-accounts/{accounts['good']}/credentials", timeout=PATIENCE)
    assert revealed.json()["smtp_password"] == PASSWORDS["account"]
    sent = [service.post(to=f"u{n}@example.test")["id"] for n in range(5)]
    for identifier in (relayed, *sent):
        service.ended(identifier, "DELIVERED")
    assert provider.taken()
    ask("PATCH", f"/smtp-accounts/{accounts['refused']}", json={"smtp_password": PASSWORDS["changed"]})
    ask("PATCH", f"/smtp-accounts/{accounts['refused']}", json={"smtp_password": PASSWORDS["changed"], "smtp_port": 0})
    broken = json.dumps(bad | {"smtp_password": PASSWORDS["tried"]})[:-1]
    ask("POST", "/smtp-accounts/test", data=broken, headers={"Content-Type": "application/json"})
    service.run("bin/mailbbgun", "key", "revoke", tokens["revoked"].split("_")[1])
    until(
        lambda: (
            service.http.get(
                f"{service.url}/messages", headers={"Authorization": f"Bearer {tokens['revoked']}"}
            ).status_code
            == 401
        )
    )
    wrong = (
        {"Authorization": f"Bearer {tokens['revoked'][:-1]}x"},
        {"Authorization": f"Basic {base64.b64encode(tokens['test'].encode()).decode()}"},
    )
    for headers in (
        *wrong,
        {"Authorization": f"Bearer {tokens['test']}"},
        {"Authorization": f"Bearer {tokens['revoked']}"},
    ):
        ask("GET", "/messages", headers=headers)
        ask(
            "POST",
            "/messages",
            headers=headers,
            json={"to": "ann@example.test", "from": "a@example.test", "subject": "x", "text": "x"},
        )
    # What fails inside, with the password in its hands: a statement, and a row that cannot be.
    service.sql("ALTER TABLE audit RENAME TO away")
    ask("GET", f"/smtp-accounts/{accounts['good']}/credentials")
    service.sql("ALTER TABLE away RENAME TO audit")
    service.sql("UPDATE smtp_accounts SET recipient_domains = 'true'")
    assert b"internal_error" in ask("GET", "/smtp-accounts")
    until(lambda: "account_unusable" in (service.var / "worker.out").read_text(), what="a worker that has seen it")
    service.sql("UPDATE smtp_accounts SET recipient_domains = '[]'")
    for path in (
        "/smtp-accounts/health",
        "/messages",
        f"/messages/{relayed}/events",
        "/tenants",
        "/audit",
        "/ready",
        "/openapi.json",
    ):
        ask("GET", path)
    return said


def _break(postgresql: PostgreSQL, service: Service, admin: str) -> None:
    """Let the database be away for a while."""
    postgresql.stop()
    for path in ("/messages", "/smtp-accounts/default/credentials"):
        assert service.http.get(f"{service.url}{path}", timeout=PATIENCE).status_code == 503, admin[:4]
    postgresql.start()
    until(lambda: service.http.get(f"{service.url}/messages").status_code == 200, what="the database")


def _rotate(service: Service) -> bytes:
    """Put another encryption key first, re-encrypt, and go on with both; return what the commands printed."""
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
    """Have a queue of our own get every hint; return its name."""
    with closing(pika.BlockingConnection(pika.URLParameters(service.environment["MAILBBGUN_QUEUE_URL"]))) as connection:
        channel = connection.channel()
        channel.queue_declare("tap", durable=True)
        for lane in LANES:
            channel.queue_bind("tap", WORK, lane)
    return "tap"


def _kept_by_servers(service: Service, request: pytest.FixtureRequest, tap: str | None) -> dict[str, bytes]:
    """Return all that our servers have: a dump of the database, what went through the queue, their files and logs, all of Redis's keys."""
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
            # PostgreSQL's own files are in the dump, but for its log.
            if path.is_file() and not path.is_symlink() and "data" not in path.parts:
                kept[str(path)] = path.read_bytes()
    return kept
