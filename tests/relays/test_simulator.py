"""How each recipient of the simulator behaves, by table."""

import pytest

from mailbbgun.relays import simulator
from mailbbgun.smtp.outcome import Bounced, Deferred, Phase, classify
from mailbbgun.smtp.reply import Reply


@pytest.mark.parametrize(
    ("address", "code", "seconds", "complains"),
    [
        ("ann@simulator", "", 0, False),
        ("bounce@simulator", "550", 0, False),
        ("Bounce+Anything+more@Simulator", "550", 0, False),
        ("defer@simulator", "451", 0, False),
        ("defer+1@simulator", "451", 0, False),
        ("slow@simulator", "", 10, False),
        ("slow+2@simulator", "", 2, False),
        ("slow+0.5@simulator", "", 0.5, False),
        ("slow+0@simulator", "", 0, False),
        ("slow+61@simulator", "", 60, False),
        ("slow+999999999@simulator", "", 60, False),
        ("slow+9999999999@simulator", "", 10, False),
        ("slow+-1@simulator", "", 10, False),
        ("slow+nan@simulator", "", 10, False),
        ("slow+soon@simulator", "", 10, False),
        ("complain@simulator", "", 0, True),
        ("complain+1@simulator", "", 0, True),
        ("complaint@simulator", "", 0, False),
        ("bounce@simulator.test", "", 0, False),
        ("bounce@a.simulator", "", 0, False),
        ("complain@example.com", "", 0, False),
        ("simulator", "", 0, False),
        ("", "", 0, False),
    ],
)
def test_an_address_of_the_simulator_behaves_by_its_local_part(address, code, seconds, complains):
    shown = (simulator.refusal(address)[:3], simulator.hesitation(address), simulator.complains(address))
    assert shown == (code, seconds, complains)


def test_refusals_are_of_the_recipient_and_name_no_time_to_wait():
    for name, kind in (("bounce", Bounced), ("defer", Deferred)):
        code, enhanced, text = simulator.refusal(f"{name}@simulator").split(" ", 2)
        outcome = classify(Phase.RCPT, Reply(int(code), enhanced, text))
        assert isinstance(outcome, kind)
        assert getattr(outcome, "after", None) is None
