"""Open files for tests with many connections."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def many_files() -> Iterator[int]:
    """Raise the limit of open files to what this process may have; yields that."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = min(most, 65_536) if most != resource.RLIM_INFINITY else 65_536
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, allowed), most))
    try:
        yield max(before, allowed)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
