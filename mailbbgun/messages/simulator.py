"""Magic recipients: addresses of the domain ``simulator``, by which users of test keys try what they do about mail that fares badly. Pure.

Only test keys may write to it (``accept/checks.py``) and their mail goes to the catcher alone, which refuses and hesitates as it is said here.
What counts is the local part up to a ``+``, in any case: ``bounce+anything@simulator`` behaves as ``bounce@simulator``.
"""

import re

DOMAIN = "simulator"  # no domain of the public DNS has one label
SLOW_SECONDS = 10.0
MOST_SECONDS = 60.0  # less than any sender's patience after the dot (RFC 5321 §4.5.3.2.6: 10 minutes)
BOUNCE, DEFER, SLOW, COMPLAIN = "bounce", "defer", "slow", "complain"

_REFUSALS = {
    BOUNCE: "550 5.1.1 No such user: simulated",
    DEFER: "451 4.7.1 Come back later: simulated",
}
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def simulated(address: str) -> bool:
    """Say whether an address is of the simulator's domain."""
    return address.rpartition("@")[2].lower() == DOMAIN


def refusal(address: str) -> str:
    """Return the reply to RCPT that refuses this recipient; empty: it is taken."""
    return _REFUSALS.get(_behaviour(address), "")


def hesitation(address: str) -> float:
    """Return after how many seconds the final dot is answered; ``slow+2@simulator`` names them itself."""
    if _behaviour(address) != SLOW:
        return 0.0
    wanted = address.rpartition("@")[0].partition("+")[2]
    return min(float(wanted), MOST_SECONDS) if _SECONDS.fullmatch(wanted) else SLOW_SECONDS


def complains(address: str) -> bool:
    """Say whether this recipient calls spam what was delivered to it."""
    return _behaviour(address) == COMPLAIN


def _behaviour(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return local.partition("+")[0].lower() if domain.lower() == DOMAIN else ""
