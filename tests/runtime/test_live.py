"""A process whose settings change tells what has copies of them."""

import pytest

from mailbbgun.runtime.live import LiveSettings
from mailbbgun.settings.load import load


def test_a_follower_that_failed_is_told_again(tmp_path):
    live, told = LiveSettings(load({"MAILBBGUN_VAR": str(tmp_path)})), []

    def fails_once(changed):
        told.append(changed)
        if len(told) == 1:
            raise OSError("no more threads")

    live.then(fails_once)
    with pytest.raises(OSError, match="no more threads"):
        live.put({"MAX_RECIPIENTS": 7})
    assert live.used.MAX_RECIPIENTS == 7
    live.put({"MAX_RECIPIENTS": 7, "MAX_SUBJECT_SIZE": 500})
    live.put({"MAX_RECIPIENTS": 7, "MAX_SUBJECT_SIZE": 500})
    assert told == [{"MAX_RECIPIENTS"}, {"MAX_RECIPIENTS", "MAX_SUBJECT_SIZE"}]
