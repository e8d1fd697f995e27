"""How often to do what costs about as much for one as for many: commits, claims, publishes."""

SHARE = 4  # of the time, one part may go into it
LONGEST = 0.1  # seconds


def rest_after(seconds: float) -> float:
    """Return how long to rest after work that took ``seconds``, for more to come together.

    Who comes first after a rest is served at once. The busier the machine, the longer all takes, and the larger batches grow.
    """
    return min(LONGEST, (SHARE - 1) * seconds)
