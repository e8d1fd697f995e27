"""How often to do what costs about as much for one as for many: commits, claims, publishes."""

LONGEST = 0.1  # seconds


def rest_after(seconds: float, *, times: float = 3) -> float:
    """Return how long to rest after work that took ``seconds``, for more to come together: so many times as long.

    Who comes first after a rest is served at once. The busier the machine, the longer all takes, and the larger batches grow.
    """
    return min(LONGEST, times * seconds)
