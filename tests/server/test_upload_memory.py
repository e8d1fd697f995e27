"""Uploads and downloads take little memory of the API, however large they are and however many come at once."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.http.conftest import Door
from tests.server.test_slow_clients import answer, api, connect
from tests.waiting import PATIENCE

SIZE = 25_000_000
AT_ONCE = 20
FORM = {"Content-Type": "multipart/form-data; boundary=X"}
HEAD = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
END = b"\r\n--X--\r\n"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with api(tmp_path_factory.mktemp("large"), MAX_BODY_SIZE="1000000", API_THREADS="16") as opened:
        opened.services.blobs.prepare()
        yield opened


class Peak:
    """The most memory that the process which serves has used since :meth:`begin`."""

    def __init__(self, door: Door) -> None:
        found = subprocess.run(
            ["pgrep", "-P", str(door.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        self._process = Path("/proc") / found[0]
        self._before = 0

    def begin(self) -> None:
        (self._process / "clear_refs").write_text("5")  # proc(5): resets VmHWM
        self._before = self._peak()

    def grown(self) -> int:
        """Return by how many bytes."""
        return self._peak() - self._before

    def _peak(self) -> int:
        status = (self._process / "status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def upload(door: Door, seed: int, size: int = SIZE) -> str:
    """Upload a file that differs by its seed. Return its id."""
    content = (seed.to_bytes(8, "big") + b"\r\n--Y\n") * (size // 14)
    response = requests.post(f"{door.url}/attachments", data=HEAD + content + END, headers=FORM, timeout=PATIENCE)
    assert response.status_code == 201, response.text
    [made] = response.json()["attachments"]
    assert made["sha256"] == hashlib.sha256(content).hexdigest()
    return str(made["id"])


def download(door: Door, attachment: str) -> int:
    response = requests.get(f"{door.url}/attachments/{attachment}/content", timeout=PATIENCE)
    assert response.status_code == 200
    return len(response.content)


def test_one_large_upload_takes_at_most_16_mb(door: Door) -> None:
    peak = Peak(door)
    upload(door, 1, 100_000)
    peak.begin()
    upload(door, 2)
    assert peak.grown() < 16_000_000


def test_a_form_of_many_tiny_parts_or_a_huge_field_takes_at_most_16_mb(door: Door) -> None:
    peak = Peak(door)
    upload(door, 3, 100_000)
    peak.begin()
    field = b'--X\r\nContent-Disposition: form-data; name="text"\r\n\r\n'
    for body in ((field + b"x\r\n") * 100_000, HEAD * 100_000, field + b"x" * SIZE + END, HEAD[:-4] + b"x" * SIZE):
        for path in ("/attachments", "/messages"):
            response = requests.post(door.url + path, data=body, headers=FORM, timeout=PATIENCE)
            assert response.status_code in (400, 413), response.text
    assert peak.grown() < 16_000_000


def test_a_form_that_no_mail_could_carry_is_refused_before_the_body(door: Door) -> None:
    settings = door.services.settings
    most = settings.MAX_MESSAGE_SIZE * 3 // 4 + settings.MAX_BODY_SIZE
    head = b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=X\r\n"
    for length, expected in ((most + 1, 413), (most, None)):
        sent = head + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % length
        with connect(door, sent) as line, line.makefile("rb") as answers:
            if expected is None:
                assert answers.readline() == b"HTTP/1.1 100 Continue\r\n"
            else:
                status, _, told = answer(answers)
                assert (status, f"larger than {most} bytes" in told["error"]["message"]) == (expected, True)


@pytest.mark.long
def test_twenty_large_uploads_at_once_take_at_most_64_mb_and_so_do_downloads(door: Door) -> None:
    peak = Peak(door)
    upload(door, 4, 100_000)
    peak.begin()
    with ThreadPoolExecutor(AT_ONCE) as clients:
        made = list(clients.map(lambda seed: upload(door, 100 + seed), range(AT_ONCE)))
        assert peak.grown() < 64_000_000
        peak.begin()
        assert len(set(clients.map(lambda one: download(door, one), made))) == 1
    assert peak.grown() < 64_000_000
    assert os.listdir(door.var / "spool") == []
