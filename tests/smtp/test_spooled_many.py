"""Many large messages in files go out at once, in little memory and side by side."""

import base64
from pathlib import Path

from mailbbgun.drivers.loop import Loop
from mailbbgun.relays.client import SMTPConnection
from mailbbgun.smtp.endpoint import Endpoint
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Delivered
from mailbbgun.smtp.spooled import Raw, spool
from tests.smtp.drivers import awaited
from tests.smtp.peers import PATIENT
from tests.smtp.swallowing import Swallower

MANY, LINES = 20, 120_000
LINE = base64.b64encode(bytes(range(57))) + b"\r\n"


def resident() -> int:
    """Return the memory of this process in bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def test_many_large_messages_are_sent_side_by_side_in_little_memory(driver: Loop, tmp_path: Path) -> None:
    async def sends(raw: Raw) -> None:
        connection = await SMTPConnection.open(Endpoint("127.0.0.1", swallower.port, "none"), "client.test", PATIENT)
        outcomes = await connection.send(Envelope("a@a.test", ("b@b.test",), raw), awaited(lambda _: True), nothing)
        assert type(outcomes["b@b.test"]) is Delivered
        progress.append([one.octets for one in swallower.conversations])
        ended.append(len(raw))
        if raw is small:
            swallower.go_on()  # only now can a large one come to its end
        await connection.quit()

    small = b"Subject: small\r\n\r\nx\r\n"
    nothing, progress, ended = awaited(lambda *_: None), list[list[int]](), list[int]()
    with (
        spool([b"Subject: large\r\n\r\n", *[LINE * 100] * (LINES // 100)], tmp_path) as large,
        Swallower(pause_at=len(large) // 8) as swallower,
    ):
        before = most = resident()
        for _ in range(MANY):
            driver.start(sends(large))
        while not any(one.octets for one in swallower.conversations):
            driver.turn(1.0)
        driver.start(sends(small))
        while len(driver):
            driver.turn(1.0)
            most = max(most, resident())
    assert ended == [len(small), *[len(large)] * MANY]  # the small one overtook them all
    assert [one.octets for one in swallower.conversations].count(len(large) + 3) == MANY
    # They take turns: when the first is done, the slowest has come as far as that within a factor of two.
    assert min(octets for octets in progress[1] if octets > 100) > len(large) / 2
    assert most - before < 2 * len(large)
