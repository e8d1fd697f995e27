"""The sample for nginx: nginx accepts it, and behind it the service knows its clients and its own
name.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mailbbgun.install import first_admin_key
from mailbbgun.install import install as install_service
from mailbbgun.services import build
from mailbbgun.settings.load import load
from mailbbgun.tenants.keys import Minted
from tests.run.test_run import ROOT, SECONDS, Service, until
from tests.servers import install
from tests.servers.process import free_port

NAME = "mail.example.com"
MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/mailbbgun.conf;
}}
"""


def certificate(folder: Path) -> None:
    """Write a self-signed certificate and its key for the name in the sample."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]), datetime.now(UTC)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
    )
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "cert.key").write_bytes(key.private_bytes(*form))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[Service, str, Path]]:
    """An API with the settings that the page shows, an admin key, and the file of its output."""
    one, output = Service(tmp_path), tmp_path / "api"
    one.environment |= {
        "MAILBBGUN_AUTH_REQUIRED": "1",
        "MAILBBGUN_PROXIES": "1",
        "MAILBBGUN_PUBLIC_URL": f"https://{NAME}",
    }
    services = build(load({"MAILBBGUN_VAR": str(one.var)}))
    install_service(services)
    key = first_admin_key(services)
    services.close()
    assert isinstance(key, Minted)
    with output.open("wb") as file:
        api = subprocess.Popen(
            [ROOT / ".venv/bin/python", "api.py"], cwd=ROOT, env=one.environment, stdout=file, stderr=file
        )
    try:
        until(lambda: "Listening at" in output.read_text(), output.read_text)
        yield one, key.token, output
    finally:
        api.send_signal(signal.SIGTERM)
        api.wait(SECONDS)


@pytest.fixture
def proxy(service: tuple[Service, str, Path], tmp_path: Path) -> Iterator[int]:
    """The HTTPS port of an nginx with the sample, in which only ports and files are replaced."""
    folder, plain, tls = tmp_path / "nginx", free_port(), free_port()
    folder.mkdir()
    certificate(folder)
    sample = (ROOT / "docs" / "howto" / "nginx.conf").read_text()
    ours = {
        "127.0.0.1:5000": f"127.0.0.1:{service[0].port}",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ": f"listen 127.0.0.1:{tls} ",
        "/etc/ssl/mail.example.com": f"{folder}/cert",
    }
    for said, here in ours.items():
        assert said in sample
        sample = sample.replace(said, here)
    (folder / "mailbbgun.conf").write_text(sample)
    user = "user root;" if os.geteuid() == 0 else ""  # nginx's default user could not enter our folder
    (folder / "nginx.conf").write_text(user + MAIN.format(folder=folder))
    command = [str(install.nginx()), "-c", f"{folder}/nginx.conf", "-e", "stderr"]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
    nginx = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: (folder / "nginx.pid").exists(), lambda: checked.stderr)
        yield tls
    finally:
        nginx.send_signal(signal.SIGTERM)
        nginx.wait(SECONDS)


def test_behind_the_sample_the_service_knows_its_client_and_its_own_name(
    service: tuple[Service, str, Path], proxy: int, tmp_path: Path
) -> None:
    _, key, output = service
    body = tmp_path / "body"
    body.write_text(json.dumps({"to": "ann@example.com", "subject": "Hello", "text": "x" * 1_000_000}))

    def ask(key: str, *more: str) -> str:
        forged = [
            "-H",
            "X-Forwarded-For: 203.0.113.9",
            "-H",
            "X-Forwarded-Proto: gopher",
            "-H",
            f"Authorization: Bearer {key}",
        ]
        there = ["--connect-to", f"{NAME}:443:127.0.0.1:{proxy}", f"https://{NAME}/messages"]
        done = subprocess.run(
            ["curl", "-ski", "--retry", "10", "--retry-connrefused", *forged, *more, *there],
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS,
        )
        return done.stdout

    sent = ask(key, "-H", "Content-Type: application/json", "--data-binary", f"@{body}")
    assert re.match(r"HTTP/2 201\b", sent)
    assert re.search(rf"(?m)^location: https://{NAME}/messages/[-0-9a-f]{{36}}\s*$", sent)
    assert re.match(r"HTTP/2 401\b", ask("mbg_wrong"))
    until(lambda: "request_refused" in output.read_text(), output.read_text)
    assert "client=127.0.0.1" in output.read_text()
    assert "203.0.113.9" not in output.read_text()
