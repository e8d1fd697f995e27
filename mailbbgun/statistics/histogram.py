"""A histogram of times with fixed buckets, whose sizes grow by a constant factor. Pure.

Histograms of the same buckets can be added, so percentiles of any span of time can be told. The
middle of a bucket is at most 9 % off from any time in it.
"""

import math
from collections.abc import Mapping

#: Seconds at the end of the first bucket.
FIRST = 0.001
#: Buckets for each doubling of the time: each ends at 1.19 times the end of the one before.
PER_DOUBLING = 4
#: The number of the last bucket, which has all times beyond 49 days, too.
LAST = 128


def bucket_of(seconds: float) -> int:
    """Return the number of the bucket of a time. A negative time is in the first one."""
    if seconds <= FIRST:
        return 0
    return min(math.ceil(PER_DOUBLING * math.log2(seconds / FIRST)), LAST)


def quantile(times: Mapping[int, int], part: float) -> float | None:
    """Return the time in seconds that ``part`` (0…1) of the times do not exceed, within 9 %.

    ``times`` has the number of times in each bucket. None if there are none.
    """
    total = sum(times.values())
    if not total:
        return None
    rank, seen = max(math.ceil(part * total), 1), 0
    for bucket in sorted(times):
        seen += times[bucket]
        if seen >= rank:
            return _middle(bucket)
    raise AssertionError("a rank beyond all times")


def _middle(bucket: int) -> float:
    """Return the geometric middle of a bucket, with three digits."""
    seconds = FIRST * 2 ** ((bucket - 0.5) / PER_DOUBLING) if bucket else FIRST / 2
    return float(f"{seconds:.3g}")
