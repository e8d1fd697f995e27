"""Dovecot serves the Maildirs below MAILDIR_ROOT over IMAP, as docs/howto/mailboxes.rst configures it."""

import getpass
import imaplib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pytest

from mailbbgun.mailboxes.maildirs import folder_of, name_of, write
from mailbbgun.mailboxes.models import INBOX
from tests.flow.service import ROOT, Service, until
from tests.flow.smtp_service import SmtpService
from tests.mailboxes.test_local_delivery import MIME, receive
from tests.servers import install
from tests.servers.process import free_port
from tests.smtp.authority import Authority
from tests.smtp.peers import Peer

BOTH = ["ann@a.test", "bob@far.test"]
TEXT = "Grüße\r\n.\r\n"

#: What the manual does not say: the folders and the port of a Dovecot that is only the test's, without users.
PRIVATE = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
ssl = no
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}
}}
"""


def of_the_manual() -> str:
    """Return the line about where mail is from the manual."""
    page = (ROOT / "docs/howto/mailboxes.rst").read_text()
    found = re.search(r"^ +(mail_location = .+)$", page, re.MULTILINE)
    assert found
    return found[1]


@contextmanager
def dovecot(folder: Path, root: Path) -> Iterator[int]:
    """Run Dovecot; the value is its port."""
    port = free_port()
    user, group = ("nobody", "nogroup") if os.geteuid() == 0 else (getpass.getuser(), str(os.getgid()))
    where = of_the_manual().replace("/var/mail/mailbbgun", str(root))
    text = PRIVATE.format(folder=folder, user=user, group=group, port=port)
    (folder / "conf").write_text(f"{text}\n{where}\n")
    shutil.chown(folder, user)
    process = subprocess.Popen([install.dovecot(), "-F", "-c", folder / "conf"])
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def logged_in(port: int, user: str) -> imaplib.IMAP4 | None:
    try:
        client = imaplib.IMAP4("127.0.0.1", port)
    except OSError:  # it is still starting
        return None
    client.login(user, "secret")
    return client


def give_to_reader(root: Path) -> None:
    """Let Dovecot's user read what the worker, which is root in a test that is, has written."""
    if os.geteuid() == 0:
        for path in (root, *root.rglob("*")):
            shutil.chown(path, "nobody")


def test_mail_of_both_doors_is_in_the_inbox_over_imap(embedded_settings):
    with TemporaryDirectory() as folder:  # not tmp_path, which others may not enter
        root = Path(folder) / "mail"
        with Service(embedded_settings, MAILDIR_ROOT=root, LEASE_SECONDS=8) as service:
            service.http.post(f"{service.url}/domains", json={"name": "a.test", "local": True}).raise_for_status()
            service.http.post(f"{service.url}/mailboxes", json={"address": "ann@a.test"}).raise_for_status()
            service.start_worker()
            service.ended(service.post(to="Ann+news@a.test", subject="of the API", text="hi")["id"], "DELIVERED")
            service.ended(receive(service, "ann@a.test"), "DELIVERED")
            quarantined = b"X-MBG-Quarantine: DMARC fails.\r\n" + MIME
            service.ended(receive(service, "ann@a.test", mime=quarantined), "DELIVERED")
        give_to_reader(root)
        Path(folder).chmod(0o755)
        (home := Path(folder) / "dovecot").mkdir()
        with dovecot(home, root) as port:
            client = until(lambda: logged_in(port, "ann@a.test"), what="Dovecot")
            assert client.select("INBOX") == ("OK", [b"2"])
            subjects = [client.fetch(str(n), "(BODY[HEADER.FIELDS (SUBJECT)])")[1][0][1] for n in (1, 2)]
            assert b"Subject: of the API" in subjects[0]
            mail = client.fetch("1", "(RFC822)")[1][0][1]
            assert mail.startswith(b"Return-Path: <")
            assert b"Delivered-To: Ann+news@a.test\r\n" in mail
            client.store("1:2", "+FLAGS", r"\Seen")
            assert client.select("Quarantine") == ("OK", [b"1"])
            client.logout()
        assert len([*folder_of(root, "ann@a.test").glob("cur/*")]) == 2


def submit(service: SmtpService) -> None:
    """Submit three mails in one session."""
    with service.smtp() as client:
        for subject, to in (("inside", BOTH[:1]), ("outside", BOTH[1:]), ("both", BOTH)):
            mail = f"From: eve@a.test\r\nTo: {', '.join(to)}\r\nSubject: {subject}\r\n\r\n{TEXT}".encode()
            assert client.sendmail("eve@a.test", to, mail, mail_options=["BODY=8BITMIME"]) == {}


def test_mail_submitted_by_smtp_is_read_over_imap_or_leaves_by_an_account(embedded_settings, tmp_path):
    with TemporaryDirectory() as folder, Peer(users={"robot": "secret"}, auth_required=True) as provider:
        root, authority = Path(folder) / "mail", Authority(tmp_path)
        where = {"smtp_host": "127.0.0.1", "smtp_port": provider.port, "security_protocol": "NONE"}
        account = {"setting_name": "provider", "smtp_username": "robot", "smtp_password": "secret"} | where
        with SmtpService(
            embedded_settings, authority=authority, ALLOW_PRIVATE_HOSTS="127.0.0.0/8", MAILDIR_ROOT=root
        ) as service:
            service.http.post(f"{service.url}/domains", json={"name": "a.test", "local": True}).raise_for_status()
            service.http.post(f"{service.url}/mailboxes", json={"address": "ann@a.test"}).raise_for_status()
            service.http.post(f"{service.url}/smtp-accounts", json=account).raise_for_status()
            service.start_worker()
            submit(service)
            until(lambda: service.count("DELIVERED") == 3, what="all mail")
            assert service.taken() == []
        assert [one.recipients for one in provider.messages] == [["bob@far.test"]] * 2
        assert all(one.raw.endswith(TEXT.replace("\r\n.", "\r\n..").encode()) for one in provider.messages)
        give_to_reader(root)
        Path(folder).chmod(0o755)
        (home := Path(folder) / "dovecot").mkdir()
        with dovecot(home, root) as port:
            client = until(lambda: logged_in(port, "ann@a.test"), what="Dovecot")
            assert client.select("INBOX") == ("OK", [b"2"])
            mails = [client.fetch(str(number), "(RFC822)")[1][0][1] for number in (1, 2)]
            client.logout()
    found = {message_from_bytes(mail)["Subject"]: mail for mail in mails}
    assert set(found) == {"inside", "both"}
    assert all(mail.endswith(b"\r\n\r\n" + TEXT.encode()) for mail in mails)
    assert all(b" with ESMTPSA" in mail.partition(b"\r\n\r\n")[0] for mail in mails)


@pytest.mark.parametrize("moved", [False, True])
def test_a_mail_that_is_written_again_is_there_once(tmp_path, moved):
    delivery = UUID("01a22600-0000-7000-8000-000000000001")
    folder = folder_of(tmp_path, "ann@a.test")
    write(tmp_path, "ann@a.test", INBOX, delivery, [b"a"], repeated=False)
    if moved:  # a reader has seen it
        (folder / "new" / name_of(delivery)).rename(folder / "cur" / f"{name_of(delivery)},S=1:2,S")
    write(tmp_path, "ann@a.test", INBOX, delivery, [b"a"], repeated=True)
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("local", ["../../etc", "..", ".hidden", "a/b", "x" * 300, '"a b"', "ü" * 60, "%2e%2e"])
def test_no_address_leads_out_of_its_domains_folder(tmp_path, local):
    folder = folder_of(tmp_path, f"{local}@a.test")
    assert folder.parent == tmp_path / "a.test"
    assert not folder.name.startswith(".")
    folder.mkdir(parents=True)


def test_different_addresses_have_different_folders(tmp_path):
    names = ["a", "%61", "a/", "a%2F", ".a", "%2Ea", "a+b", "a b"]
    assert len({folder_of(tmp_path, f"{one}@a.test") for one in names}) == len(names)
