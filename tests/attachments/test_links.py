"""Where links to files in a bucket lead."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask.testing import FlaskClient

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.http.provided import provided
from mailbbgun.services import Services
from mailbbgun.settings.load import load
from mailbbgun.settings.settings import Settings
from tests.conftest import application
from tests.servers import RGW
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
