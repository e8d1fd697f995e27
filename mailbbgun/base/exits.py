"""How a program that cannot start ends: one line on standard error, and an exit code of sysexits.h."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mailbbgun.base.errors import ConfigurationError, MailBBGunError, Unavailable, explained


@contextmanager
def explained_exit(program: str) -> Iterator[None]:
    """On an error of ours print ``<program>: <sentence>`` and exit: 78 (EX_CONFIG) if something is set wrong, 1 if a server does not answer."""
    try:
        yield
    except MailBBGunError as error:
        print(f"{program}: {' '.join(explained(error).split())}", file=sys.stderr)
        wrong = isinstance(error, ConfigurationError) or (isinstance(error, Unavailable) and error.refused)
        raise SystemExit(os.EX_CONFIG if wrong else 1) from error
