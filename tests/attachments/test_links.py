"""Where links to files in a bucket lead."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask.testing import FlaskClient

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.http.provided import provided
from mailbbgun.install import install
from mailbbgun.preflight import preflight
from mailbbgun.services import Services, build
from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings
from tests.conftest import application
from tests.http.conftest import ROOT
from tests.servers import RGW
from tests.servers.process import free_port
from tests.waiting import PATIENCE

CONTENT = b"Hello"


def presigned(client: FlaskClient) -> dict[str, Any]:
    body = {"md5": hashlib.md5(CONTENT).hexdigest(), "size": len(CONTENT), "filename": "hello.txt"}
    answer = client.post("/attachments/presign", json=body)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_links_begin_with_the_public_host_and_are_signed_for_the_buckets_own(
    embedded_settings: Settings, rgw: RGW
) -> None:
    public, own = "https://files.example.com", f"http://{rgw.endpoint}"
    with application(replace(embedded_settings, BLOBS_URL=rgw.url(), CDN_URL=public)) as app:
        client = app.test_client()
        made = presigned(client)
        assert made["upload"]["url"].startswith(f"{public}/")
        # What a proxy does that sends the bucket's own Host.
        requests.put(made["upload"]["url"].replace(public, own), CONTENT, timeout=PATIENCE).raise_for_status()
        link = client.get(f"/attachments/{made['id']}/content").headers["Location"]
        assert link.startswith(f"{public}/")
        assert requests.get(link.replace(public, own), timeout=PATIENCE).content == CONTENT


def test_without_links_the_api_takes_and_sends_files_of_a_bucket_itself(embedded_settings: Settings, rgw: RGW) -> None:
    with application(replace(embedded_settings, BLOBS_URL=f"{rgw.url()}?links=no")) as app:
        client = app.test_client()
        made = presigned(client)
        url = urlsplit(made["upload"]["url"])
        assert url.path.startswith("/attachments/uploads/")
        assert client.put(f"{url.path}?{url.query}", data=CONTENT).status_code == 204
        found = client.get(f"/attachments/{made['id']}/content")
        assert (found.status_code, found.data) == (200, CONTENT)
        with app.app_context():
            assert [one.size for one in provided(Services).blobs.keys("")] == [len(CONTENT)]


def test_a_public_host_that_is_no_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="CDN_URL: "):
        load({"MAILBBGUN_VAR": str(tmp_path), "MAILBBGUN_CDN_URL": "files.example.com"})


def test_the_api_starts_while_the_bucket_is_away_and_tells_the_log_why(
    embedded_settings: Settings, rgw: RGW, caplog: pytest.LogCaptureFixture
) -> None:
    made = build(embedded_settings)
    install(made)
    made.close()
    nobody = f"s3+http://k:s@127.0.0.1:{free_port()}/bucket"
    for where, why in (
        (nobody, "Connection refused"),
        (rgw.url().replace("testsecret", "wrong-secret"), "the access key may not do this"),
    ):
        caplog.clear()
        assert preflight(replace(embedded_settings, BLOBS_URL=where))
        [told] = [one for one in caplog.records if one.message == "blob_store_unavailable"]
        assert why in vars(told)["error"]
        assert "secret" not in vars(told)["error"]


def test_initdb_ends_with_one_line_if_the_bucket_cannot_be_made(embedded_settings: Settings, rgw: RGW) -> None:
    where = rgw.url().replace("testsecret", "wrong-secret")
    environment = {
        "PATH": os.environ["PATH"],
        "MAILBBGUN_VAR": embedded_settings.VAR,
        "MAILBBGUN_BLOBS_URL": where,
    }
    argv = [sys.executable, "initdb.py"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    bucket = where.rpartition("/")[2]
    told = f"the store of files is not available ({rgw.endpoint}/{bucket}: the access key may not do this)"
    assert told in done.stderr
