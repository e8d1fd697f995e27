"""Files in a bucket, from a signed URL to the sink, while store and worker die."""

import hashlib
import os
from base64 import b64encode
from email import message_from_bytes, policy

import pytest
import requests

from mailbbgun.settings.settings import Settings
from tests.flow.service import Service
from tests.servers import RGW
from tests.waiting import PATIENCE, wait_until

CONTENT = os.urandom(7_000_000)  # more than one part of S3


@pytest.mark.long
def test_mail_with_files_waits_while_the_bucket_is_away_and_leaves_once_and_whole(embedded_settings: Settings) -> None:
    with (
        RGW(own=True) as rgw,  # of its own: after a kill it makes buckets slowly
        Service(embedded_settings, BLOBS_URL=rgw.url(), LEASE_SECONDS=4, SWEEP_SECONDS=1, RETRY_DELAYS=600) as service,
    ):
        digest = hashlib.md5(CONTENT).hexdigest()
        named = {"md5": digest, "size": len(CONTENT), "filename": "plan.bin"}
        upload = service.http.post(f"{service.url}/attachments/presign", json=named, timeout=PATIENCE).json()["upload"]
        requests.put(upload["url"], CONTENT, headers=upload["headers"], timeout=PATIENCE).raise_for_status()
        file = {"md5": digest, "filename": "Plan für Jürgen.bin"}
        sent = service.post(to="ann@example.test", attachments=[file])

        rgw.kill9()
        fresh = {"filename": "x.bin", "content": b64encode(os.urandom(1000)).decode()}
        message = {"to": "ann@example.test", "subject": "s", "text": "t", "attachments": [fresh]}
        refused = service.http.post(f"{service.url}/messages", json=message, timeout=PATIENCE)
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
        assert service.get("/messages?limit=0")["count"] == 1
        raw = f"{service.url}/messages/{sent['id']}/raw"
        assert service.http.get(raw, timeout=PATIENCE).status_code == 503

        service.start_worker()
        plain = service.post(to="ben@example.test")
        service.ended(plain["id"], "DELIVERED")
        wait_until(lambda: "waiting" in service.kinds(sent["id"]), "a wait")
        assert service.message(sent["id"])["status"] == "PENDING"
        service.kill("worker")

        rgw.start()
        service.age(1000)  # the next attempt is due
        service.start_worker()
        service.ended(sent["id"], "DELIVERED")
        assert service.copies() == {"ann@example.test": 1, "ben@example.test": 1}
        mime = service.http.get(raw, timeout=PATIENCE).content
        assert hashlib.sha256(mime).hexdigest() in {one["sha"] for one in service.taken()}
        [part] = [part for part in message_from_bytes(mime, policy=policy.default).walk() if part.get_filename()]
        assert part.get_filename() == "Plan für Jürgen.bin"
        assert part.get_payload(decode=True) == CONTENT
        assert "1 files, 1 rows: no faults" in service.run("bin/mailbbgun", "blobs", "check", "--deep")
