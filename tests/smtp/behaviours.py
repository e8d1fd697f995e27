"""What a `Peer` may do at a phase instead of its normal answer."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable

from tests.smtp.peers import Dialogue, Gone


def reset(dialogue: Dialogue) -> None:
    """Close with RST a little later, so that the client's connect() has returned."""
    time.sleep(0.02)
    dialogue.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise Gone


def silent(dialogue: Dialogue) -> None:
    """Answer nothing and keep the connection open until the client gives up."""
    with contextlib.suppress(OSError):
        while dialogue.socket.recv(65536):
            pass
    raise Gone


def half_a_line(dialogue: Dialogue) -> None:
    dialogue.say(b"250 hal")
    silent(dialogue)


def drip(dialogue: Dialogue) -> None:
    """Send an octet each 20 ms, for ever."""
    with contextlib.suppress(OSError):
        dialogue.say(b"250-")
        while True:
            dialogue.say(b"a")
            time.sleep(0.02)
    raise Gone


def endless(dialogue: Dialogue) -> None:
    """Send continuation lines as fast as the client reads them."""
    block = (b"250-" + b"A" * 500 + b"\r\n") * 200
    with contextlib.suppress(OSError):
        while True:
            dialogue.say(block)
    raise Gone


def endless_line(dialogue: Dialogue) -> None:
    """Send a line that never ends, as fast as the client reads it."""
    with contextlib.suppress(OSError):
        dialogue.say(b"250 ")
        while True:
            dialogue.say(b"A" * 65536)
    raise Gone


def late(seconds: float, answer: bytes) -> Callable[[Dialogue], None]:
    """Send `answer` after `seconds`."""

    def behave(dialogue: Dialogue) -> None:
        time.sleep(seconds)
        dialogue.say(answer)

    return behave


def then_close(answer: bytes) -> Callable[[Dialogue], None]:
    """Send `answer`, then close the connection."""

    def behave(dialogue: Dialogue) -> None:
        dialogue.say(answer)
        raise Gone

    return behave


def only(mechanism: str, answer: bytes, hangs_up: bool = False) -> Callable[[Dialogue], None]:
    """At AUTH, send `answer` to every mechanism but one; with `hangs_up` close after it."""

    def behave(dialogue: Dialogue) -> None:
        if dialogue.command.split()[1] == mechanism.encode():
            dialogue.normal(dialogue)
        else:
            dialogue.say(answer)
            if hangs_up:
                raise Gone

    return behave


def in_turn(*behaviours: bytes | Callable[[Dialogue], None] | None) -> Callable[[Dialogue], None]:
    """Use the next behaviour at each call, the last one for ever; None is the normal answer."""
    left = list(behaviours)

    def behave(dialogue: Dialogue) -> None:
        chosen = left.pop(0) if len(left) > 1 else left[0]
        dialogue.do(chosen if chosen is not None else dialogue.normal)

    return behave
