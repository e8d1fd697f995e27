"""Statistics and exports belong to a tenant, and for a test key to its test mail."""

import threading

import pytest

from mailbbgun.core.ids import new_id
from mailbbgun.statistics.follow import Follower
from tests.tenants.conftest import HELLO, Locked
from tests.waiting import wait_until


@pytest.mark.parametrize("locked", ["sqlite", "postgresql"], indirect=True)
def test_figures_and_exports_show_the_mail_of_a_tenant_and_to_test_keys_only_test_mail(locked: Locked) -> None:
    ours, theirs = locked.tenant("ours"), locked.tenant("theirs")
    live, test, other = (
        locked.key(tenant, kind=kind)["key"] for tenant, kind in ((ours, "live"), (ours, "test"), (theirs, "live"))
    )
    for key, tag in ((live, "livemail"), (live, "livemail"), (test, "testmail"), (other, "othermail")):
        sent = locked.ask("POST", "/messages", key, json=HELLO | {"tags": [tag], "subject": tag})
        assert sent.status_code == 201

    follower = Follower(locked.services.db, locked.services.settings, new_id())

    def accepted(key: str, query: str = "") -> list[tuple[str, int]]:
        follower.run(threading.Event())
        found = locked.ask("GET", f"/statistics?group_by=tag{query}", key).json()
        return [(one["name"], one["accepted"]) for one in found["groups"]]

    wait_until(lambda: accepted(other), "the end of the log")
    assert (accepted(live), accepted(live, "&test=true")) == ([("livemail", 2)], [("testmail", 1)])
    for query in ("", "&test=false", "&test=true"):
        assert accepted(test, query) == [("testmail", 1)]
    assert accepted(other) == [("othermail", 1)]
    assert locked.ask("GET", "/statistics", test).json()["queue"]["pending"] == 1
    for path in ("/exports/messages?format=csv", "/exports/events", "/exports/statistics?group_by=tag"):
        seen = {key: locked.ask("GET", path, key).text for key in (live, test, other)}
        words = {key: {word for word in ("livemail", "testmail", "othermail") if word in seen[key]} for key in seen}
        assert (words[test], words[other]) == ({"testmail"}, {"othermail"}), path
        assert "livemail" in words[live] <= {"livemail", "testmail"}, path
