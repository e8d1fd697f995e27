"""Mail that comes in by SMTP: the clients that people use, against the program, from their login to the sink."""

import hashlib
import json
import os
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from uuid import uuid4

import pytest

from mailbbgun.settings.load import load
from tests.flow.service import until
from tests.flow.smtp_service import DOOR, SmtpService, private
from tests.servers import install
from tests.smtp.authority import Authority
from tests.waiting import PATIENCE

DATE = "Fri, 30 Jan 2026 13:00:00 +0100"
#: Lines that a client or the door could spoil: dots, empty lines, trailing spaces, a long line, "From ".
HARD = [b".", b"..", b".dot", b"", b"From me", b"spaces  ", b"tab\t", b"x" * 998, b"--", b".", b""]


@pytest.fixture(scope="module", params=[pytest.param("sqlite", marks=pytest.mark.long), "postgresql"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpService]:
    """API, worker, sink, catcher and SMTP door, on each database."""
    folder = tmp_path_factory.mktemp("door")
    environment = {"MAILBBGUN_VAR": str(folder / "var"), "MAILBBGUN_HOSTNAME": "mail.example.com"}
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(server.create_database())
    with SmtpService(load(environment), authority=Authority(folder), MAX_MESSAGE_SIZE=1_000_000) as service:
        service.start_catcher()
        service.start_worker()
        yield service


def fresh(name: str = "ann") -> str:
    """Return an address that no other test uses."""
    return f"{name}-{uuid4()}@example.com"


def written(to: str, *lines: bytes) -> bytes:
    """Return a message with everything that a message needs, so that the door has nothing to add but its trace."""
    head = [
        b"From: Shop <shop@example.com>",
        b"To: " + to.encode(),
        b"Subject: by SMTP",
        b"Date: " + DATE.encode(),
        b"Message-ID: <" + uuid4().hex.encode() + b"@shop.example.com>",
        b"MIME-Version: 1.0",
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Transfer-Encoding: 8bit",
        b"X-Odd:  two  spaces ",
    ]
    return b"\r\n".join([*head, b"", *(lines or HARD), b"Gr\xc3\xbc\xc3\x9fe", b""])


def run(argv: list[object], code: int = 0, given: bytes = b"", **environment: str) -> str:
    """Run a client to its end; return all that it printed."""
    done = subprocess.run(
        [str(one) for one in argv],
        input=given,
        capture_output=True,
        env=os.environ | environment,
        timeout=PATIENCE,
        check=False,
    )
    told = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == code, told
    return told


def arrived(door: SmtpService, to: str, given: bytes) -> None:
    """Check that a message was accepted once, and that what the sink took is what the client sent, below the trace."""
    message = door.sent_to(to)
    assert message
    door.ended(message["id"], "DELIVERED")
    kept = door.raw(message["id"])
    trace, found, rest = kept.partition(given)
    assert (found, rest) == (given, b"")
    assert [name.lower() for name in message_from_bytes(trace + b"\r\n").keys()] == ["received"]  # noqa: SIM118 - repeated headers
    took = [one for one in door.taken() if to in one["to"]]
    assert [one["sha"] for one in took] == [hashlib.sha256(kept.replace(b"\r\n.", b"\r\n..")).hexdigest()]


# -- the clients


def by_smtplib(door: SmtpService, to: str, given: bytes, folder: Path) -> None:
    with door.smtp() as client:
        assert client.sendmail("shop@example.com", [to], given, mail_options=["BODY=8BITMIME"]) == {}


def by_smtplib_with_login(door: SmtpService, to: str, given: bytes, folder: Path) -> None:
    with smtplib.SMTP("127.0.0.1", door.smtp_port, timeout=PATIENCE) as client:
        client.starttls(context=ssl.create_default_context(cafile=door.ca_file))
        client.ehlo()
        client.user, client.password = "anybody", door.smtp_key
        assert client.auth("LOGIN", client.auth_login)[0] == 235
        assert client.sendmail("shop@example.com", [to], given, mail_options=["BODY=8BITMIME"]) == {}


def by_curl(door: SmtpService, to: str, given: bytes, folder: Path) -> None:
    (folder / "mail").write_bytes(given)
    login = private(folder, "curlrc", f'user = "anybody:{door.smtp_key}"\n')
    where = ["--ssl-reqd", "--cacert", door.ca_file, f"smtp://127.0.0.1:{door.smtp_port}/client.example.com"]
    what = ["--mail-from", "shop@example.com", "--mail-rcpt", to, "--upload-file", folder / "mail"]
    run(["curl", "-sS", "-K", login, *where, *what])


def by_swaks(door: SmtpService, to: str, given: bytes, folder: Path) -> None:
    (folder / "mail").write_bytes(given.removesuffix(b"\r\n"))  # it ends the last line itself
    server = ["--server", f"127.0.0.1:{door.smtp_port}", "--tls", "--tls-ca-path", door.ca_file]
    login = ["--auth", "PLAIN", "--auth-user", "anybody", "--auth-password", door.smtp_key]
    what = ["--from", "shop@example.com", "--to", to, "--data", f"@{folder / 'mail'}"]
    told = run([install.swaks(), *server, *login, *what])
    assert "235 2.7.0" in told


def by_msmtp(door: SmtpService, to: str, given: bytes, folder: Path) -> None:
    settings = [
        "account default", f"host {DOOR}", f"port {door.smtp_port}", "tls on", "tls_starttls on",
        f"tls_trust_file {door.ca_file}", "auth plain", "user anybody", f"password {door.smtp_key}",
        "from shop@example.com", "domain client.example.com",
        "set_from_header off", "set_date_header off", "set_msgid_header off", "undisclosed_recipients off",
    ]  # fmt: skip
    file = private(folder, "msmtprc", "\n".join(settings) + "\n")
    # It takes the message with LF, as sendmail does, and sends CR LF.
    run([install.msmtp(), "-C", file, "--", to], given=given.replace(b"\r\n", b"\n"))


POOL = """
const { createTransport } = require(process.env.NODEMAILER);
const { port, key, ca, mails } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const transport = createTransport({
  pool: true, maxConnections: 3, maxMessages: 4, host: "127.0.0.1", port, requireTLS: true,
  tls: { ca: require("fs").readFileSync(ca), servername: "localhost" }, auth: { user: "anybody", pass: key },
});
Promise.all(mails.map((one) => transport.sendMail(one)))
  .then((all) => { console.log(JSON.stringify(all.map((one) => one.response))); transport.close(); })
  .catch((error) => { console.error(error); process.exit(1); });
"""


def pool(door: SmtpService, mails: list[dict[str, object]], code: int = 0) -> str:
    """Send mails by a pool of nodemailer; return what it printed."""
    given = json.dumps({"port": door.smtp_port, "key": door.smtp_key, "ca": door.ca_file, "mails": mails})
    return run([install.node(), "-e", POOL], code, given.encode(), NODEMAILER=str(install.nodemailer()))


def by_nodemailer(door: SmtpService, to: str, given: bytes, folder: Path) -> None:
    pool(door, [{"envelope": {"from": "shop@example.com", "to": [to]}, "raw": given.decode()}])


Client = Callable[[SmtpService, str, bytes, Path], None]
CLIENTS = [by_smtplib, by_smtplib_with_login, by_curl, by_swaks, by_msmtp, by_nodemailer]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda one: one.__name__)
def test_what_a_client_submits_leaves_as_the_very_bytes_below_the_trace(
    door: SmtpService, tmp_path: Path, client: Client
) -> None:
    to = fresh()
    given = written(to)
    client(door, to, given, tmp_path)
    arrived(door, to, given)


def test_what_a_test_key_submits_is_caught_whole(door: SmtpService) -> None:
    to = fresh("caught")
    given = written(to)
    with door.smtp(door.smtp_key_of("test")) as client:
        client.sendmail("shop@example.com", [to], given, mail_options=["BODY=8BITMIME"])
    (mail,) = wait_for_mail(door, to)
    assert mail.endswith(given.replace(b"\r\n", b"\n"))
    assert not [one for one in door.taken() if to in one["to"]]


def wait_for_mail(door: SmtpService, to: str) -> list[bytes]:
    """Wait for the mails to an address in the catcher."""

    def caught() -> list[bytes]:
        mails = [file.read_bytes() for file in (door.var / "mail" / "new").iterdir()]
        return [mail for mail in mails if f"X-Envelope-To: {to}\n".encode() in mail]

    return until(caught, what="the mail in the catcher")


def test_a_pool_submits_many_mails_over_few_connections_and_each_arrives_once(door: SmtpService) -> None:
    people = [fresh(f"pool-{number}") for number in range(30)]
    mails: list[dict[str, object]] = [
        {"from": "shop@example.com", "to": to, "subject": "Über", "text": ".\n..\nhello"} for to in people
    ]
    replies = json.loads(pool(door, mails).splitlines()[-1])
    assert len(replies) == len(people)
    assert all(reply.startswith("250 2.0.0") for reply in replies)
    for to in people:
        message = door.sent_to(to)
        assert message
        door.ended(message["id"], "DELIVERED")
    copies = door.copies()
    assert [copies[to] for to in people] == [1] * len(people)


def test_an_attachment_and_many_recipients_arrive_and_bcc_stays_secret(door: SmtpService) -> None:
    people = [fresh(f"many-{number}") for number in range(50)]
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "shop@example.com", ", ".join(people[:3]), "Grüße"
    mail["Bcc"] = people[3]
    mail.set_content("Hello")
    data = bytes(range(256)) * 400
    mail.add_attachment(data, maintype="application", subtype="pdf", filename="Rechnung ü.pdf")
    given = mail.as_bytes(policy=policy.SMTP)
    with door.smtp() as client:
        assert client.sendmail("shop@example.com", people, given) == {}
    message = door.sent_to(people[0])
    assert message
    door.ended(message["id"], "DELIVERED")
    copies = door.copies()
    assert [copies[to] for to in people] == [1] * len(people)
    read = message_from_bytes(door.raw(message["id"]), policy=policy.default)
    assert read["Bcc"] is None
    assert read["Date"]
    assert read["Message-ID"]
    (attached,) = read.iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == ("Rechnung ü.pdf", data)


def test_internationalised_addresses_go_through_with_smtputf8(door: SmtpService) -> None:
    to = f"jörg-{uuid4()}@example.com"
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "shop@example.com", to, "Grüße"
    mail.set_content("Hallo")
    with door.smtp() as client:
        assert client.has_extn("smtputf8")
        client.send_message(mail)
    (found,) = [one for one in door.get("/messages?limit=100")["messages"] if to in one["to"]]
    assert found["subject"] == "Grüße"


# -- refusals


def refused(reply: tuple[int, bytes]) -> str:
    return f"{reply[0]} {reply[1].decode().split(' ')[0]}"


def test_a_wrong_password_is_535_and_mail_without_a_login_is_530(door: SmtpService) -> None:
    with smtplib.SMTP("127.0.0.1", door.smtp_port, timeout=PATIENCE) as client:
        client.starttls(context=ssl.create_default_context(cafile=door.ca_file))
        client.ehlo()
        assert refused(client.mail("shop@example.com")) == "530 5.7.0"
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            client.login("anybody", f"{door.smtp_key[:-3]}abc")
        assert refused((caught.value.smtp_code, bytes(caught.value.smtp_error))) == "535 5.7.8"


def test_a_key_without_the_scope_is_refused(door: SmtpService) -> None:
    with pytest.raises(smtplib.SMTPAuthenticationError) as caught, door.smtp(door.key("live")):
        pass
    assert caught.value.smtp_code == 535


def test_too_much_is_552_whether_it_was_announced_or_not(door: SmtpService) -> None:
    big = written(fresh(), *[b"x" * 900] * 1200)
    with door.smtp() as client:
        assert int(client.esmtp_features["size"]) < len(big)
        assert refused(client.mail("shop@example.com", [f"SIZE={len(big)}"])) == "552 5.3.4"
        assert client.mail("shop@example.com")[0] == 250
        assert client.rcpt(fresh())[0] == 250
        assert refused(client.data(big)) == "552 5.3.4"
        to = fresh("after")
        assert client.sendmail("shop@example.com", [to], written(to), mail_options=["BODY=8BITMIME"]) == {}


@pytest.mark.parametrize("address", ["nobody", "", "a@", "a@b@example.com", "a b@example.com", "ann@-x.example"])
def test_a_recipient_that_is_no_address_is_refused_and_the_others_get_their_mail(
    door: SmtpService, address: str
) -> None:
    to = fresh()
    with door.smtp() as client:
        assert client.mail("shop@example.com")[0] == 250
        code, text = client.docmd("RCPT", f"TO:<{address}>")
        assert code in (501, 550, 553), text
        assert text.decode().startswith("5.")
        assert client.rcpt(to)[0] == 250
        assert client.data(written(to, b"hello"))[0] == 250
    assert door.sent_to(to)


def test_a_sender_that_the_key_may_not_use_is_named(door: SmtpService) -> None:
    to = fresh()
    with door.smtp(door.smtp_key_of("live", senders=["other.example"])) as client:
        with pytest.raises((smtplib.SMTPDataError, smtplib.SMTPSenderRefused)) as caught:
            client.sendmail("shop@example.com", [to], written(to, b"hello"))
    assert refused((caught.value.smtp_code, bytes(caught.value.smtp_error))) == "550 5.7.1"
    assert b"shop@example.com" in bytes(caught.value.smtp_error)
    assert door.sent_to(to) is None
