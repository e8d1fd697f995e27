"""What routes want of a mail is done once, whenever a worker dies, and posted again if nobody knows."""

import signal
from collections import Counter

import pytest

from tests.conftest import MOSTLY_EMBEDDED
from tests.flow.service import until
from tests.inbound_routes.conftest import SETTINGS, MXService
from tests.inbound_routes.receiver import MailReceiver

#: The fault points round the local delivery, at which a worker is killed.
POINTS = ("claim.committed", "results.commit", "results.committed")


@MOSTLY_EMBEDDED
@pytest.mark.parametrize("points", [POINTS[1:2], pytest.param(POINTS, marks=pytest.mark.long)], ids=["some", "all"])
def test_a_worker_that_is_killed_at_any_point_forwards_each_mail_once(backend, points):
    given = SETTINGS | {"LEASE_SECONDS": 4, "RETRY_DELAYS": "1,1,1,1"}
    with MXService(backend, **given) as service, MailReceiver() as receiver:
        domain = service.domain("once.test", "ann")
        service.start_smtpd()
        actions = ({"forward": ["away@else.test"]}, {"post": {"url": receiver.url("once")}})
        service.route(*actions, match={"recipient": f"*@{domain}"})
        sent = []
        for point in points:
            service.start_worker(fault=f"{point}:1:kill")
            sent.append(service.receive(f"ann@{domain}", name=point))
            until(lambda: service.processes["worker"].poll() is not None, what=point)
            assert (service.processes["worker"].returncode, service.struck("worker", point)) == (-signal.SIGKILL, 1)
        service.start_worker()
        for one in sent:
            service.ends(one, "DELIVERED")
        assert len(service.mailed(f"ann@{domain}")) == len(sent)
        assert Counter(one["id"] for one in service.forwarded("away@else.test")) == dict.fromkeys(
            (f"<{point}@far.test>" for point in points), 1
        )
        # A post may come twice, with an id by which its receiver knows it.
        assert len({one.headers["webhook-id"] for one in receiver.got("once")}) == len(sent)
