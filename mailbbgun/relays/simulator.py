"""Magic recipients: addresses at ``simulator`` that bounce, are deferred, answer slowly or complain. Pure.

Users of test keys try with them how they handle mail that fails. Only test keys may write to them
(``accept/checks.py``), and that mail goes to the catcher alone, which behaves as this module says.
The local part up to a ``+`` decides, in any case: ``bounce+anything@simulator`` is as
``bounce@simulator``.
"""

import re

#: No mail domain of the public DNS has a single label.
DOMAIN = "simulator"
#: How long ``slow`` waits, in seconds, by default and at most. Any sender waits longer after the final dot
#: (RFC 5321 §4.5.3.2.6: 10 minutes).
SLOW_SECONDS = 10.0
MOST_SECONDS = 60.0
BOUNCE, DEFER, SLOW, COMPLAIN = "bounce", "defer", "slow", "complain"

_REFUSALS = {
    BOUNCE: "550 5.1.1 No such user: simulated",
    DEFER: "451 4.7.1 Come back later: simulated",
}
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def simulated(address: str) -> bool:
    """Say whether an address belongs to the simulator."""
    return address.rpartition("@")[2].lower() == DOMAIN


def refusal(address: str) -> str:
    """Return the reply to RCPT that refuses this recipient; empty: it is accepted."""
    return _REFUSALS.get(_behaviour(address), "")


def hesitation(address: str) -> float:
    """Return how many seconds the answer to the final dot takes. ``slow+2@simulator`` asks for 2."""
    if _behaviour(address) != SLOW:
        return 0.0
    wanted = address.rpartition("@")[0].partition("+")[2]
    return min(float(wanted), MOST_SECONDS) if _SECONDS.fullmatch(wanted) else SLOW_SECONDS


def complains(address: str) -> bool:
    """Say whether this recipient reports each delivered message as spam."""
    return _behaviour(address) == COMPLAIN


def _behaviour(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return local.partition("+")[0].lower() if domain.lower() == DOMAIN else ""
