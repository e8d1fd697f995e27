"""The 4 KB plain text that every system is measured with. ``shapes.py`` has other messages.

It imports nothing, so that light programs stay light.
"""

SIZE = 4096  # bytes of the body
DOMAIN = "example.test"
SENDER = f"bench@{DOMAIN}"
SUBJECT = "Your order has left our house"

_LINE = "The quick brown fox jumps over the lazy dog, and nobody knows why it is.\n"
TEXT = (_LINE * (SIZE // len(_LINE) + 1))[: SIZE - 1] + "\n"


def recipient(number: int) -> str:
    """Return the address of message ``number``. All addresses differ and have the same length."""
    return f"u{number:08d}@{DOMAIN}"
