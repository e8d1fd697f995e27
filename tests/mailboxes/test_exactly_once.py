"""A mail is in its mailbox exactly once, whenever a worker dies."""

import signal
from pathlib import Path

import pytest

from mailbbgun.mailboxes.maildirs import folder_of
from mailbbgun.mailboxes.store import LARGE
from tests.conftest import MOSTLY_EMBEDDED
from tests.flow.service import Service, until

#: The fault points round a delivery that leaves by no server.
POINTS = ("claim.commit", "claim.committed", "claim.acked", "results.commit", "results.committed")


@MOSTLY_EMBEDDED
@pytest.mark.parametrize("points", [POINTS[3:], pytest.param(POINTS, marks=pytest.mark.long)], ids=["some", "all"])
def test_a_worker_that_is_killed_at_any_point_leaves_each_mail_once(backend, points):
    root = backend.var / "maildirs"
    with Service(backend, LEASE_SECONDS=4, SWEEP_SECONDS=1, RETRY_DELAYS="1,1,1,1", MAILDIR_ROOT=root) as service:
        service.http.post(f"{service.url}/domains", json={"name": "a.test", "local": True}).raise_for_status()
        service.http.post(f"{service.url}/mailboxes", json={"address": "ann@a.test"}).raise_for_status()
        sent = []
        for point in points:
            service.start_worker(fault=f"{point}:1:kill")
            sent += [
                service.post(to=["Ann+1@a.test", "ann+2@a.test"], text=text)["id"] for text in ("small", "x" * LARGE)
            ]
            until(lambda: service.processes["worker"].poll() is not None, what=point)
            assert (service.processes["worker"].returncode, service.struck("worker", point)) == (-signal.SIGKILL, 1)
        service.start_worker()
        for one in sent:
            service.ended(one, "DELIVERED")
        times = "SELECT count(*) FROM mailbox_messages GROUP BY delivery_id"
        assert [row[0] for row in service.sql(times)] == [1] * 2 * len(sent)
        files = [path.name for path in (folder_of(Path(root), "ann@a.test") / "new").iterdir()]
        assert len(files) == 2 * len(sent)
        assert service.taken() == []
