"""The text of ``config.py.sample``, which ``python -m mailbbgun.settings.sample`` prints."""

import textwrap
from dataclasses import asdict, fields

from mailbbgun.settings.settings import Settings
from mailbbgun.settings.timeouts import SMTPTimeouts

WIDTH = 100  # characters of a line of prose


def sample() -> str:
    """Return the text of ``config.py.sample``: descriptions and defaults, as comments."""
    lines = [
        "# Settings of Mail BB Gun. Copy this file to config.py and change what you need. Settings that are",
        "# commented out show their defaults. {VAR} and {HOSTNAME} stand for the values of those settings.",
        "# An environment variable MAILBBGUN_<NAME> wins over the setting in config.py.",
        "# Made by: python -m mailbbgun.settings.sample > config.py.sample",
    ]
    for one in fields(Settings):
        default = asdict(one.default) if isinstance(one.default, SMTPTimeouts) else one.default
        lines += ["", *_comment(one.metadata["doc"]), f"# {one.name} = {default!r}"]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    """Return a text as lines of a comment. No word is broken: a URL must stay whole."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    print(sample(), end="")
