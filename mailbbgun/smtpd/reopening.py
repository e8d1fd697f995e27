"""Serves until told to stop, and meanwhile opens the door anew when it is asked to.

The new door takes the old one's listening sockets, so clients never find the port shut. The old door's clients
have as long for their message as ever; then everything of it is closed.
"""

import asyncio
import contextlib
import logging
import math
import os
from dataclasses import dataclass, field

from mailbbgun.core import logs
from mailbbgun.core.errors import DatabaseUnavailable, MailBBGunError, explained
from mailbbgun.core.process import on_stop, rare_collections
from mailbbgun.preflight import preflight
from mailbbgun.settings.ports import check_ports
from mailbbgun.settings.settings import Settings
from mailbbgun.smtpd.listening import check_certificate, check_some_port
from mailbbgun.smtpd.program import Program
from mailbbgun.startup import load_checked

#: Doors whose last clients are still sending, at most. Meanwhile the door does not restart.
MOST_CLOSING = 4
#: Seconds after which the door tries again to open anew, if a port was taken or the database was away.
AGAIN_SECONDS = 5.0

log = logging.getLogger("mailbbgun.smtpd")


@dataclass(slots=True)
class RestartRequest:
    """What was asked for since the last opening. Other threads set it."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    stop: bool = False
    restart: bool = False
    #: Whether ``config.py`` is read anew for it.
    anew: bool = False


class Reopening:
    """The life of one process of the door."""

    def __init__(self, given: Settings, processes: int, *, found: bool) -> None:
        """As :class:`Program`."""
        self._processes, self._wanted = processes, RestartRequest()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._program = self._made(given, found=found)
        self._closing: set[asyncio.Task[None]] = set()
        self._old: list[Program] = []
        self._failed = ""  # why it could not open anew and tries again; "": it need not

    async def serve(self) -> None:
        """Listen until told to stop. Then messages that are being received have SHUTDOWN_GRACE to end.

        Raises ``OSError`` if it cannot listen, :class:`ConfigurationError` about the certificate.
        """
        self._loop = asyncio.get_running_loop()
        on_stop(self._stop)
        await self._program.door.start()
        self._program.begin()
        rare_collections()
        log.info("smtpd_started", extra={"smtpd_pid": os.getpid(), **self._shown()})
        while not self._wanted.stop:
            await self._told()
            if self._wanted.restart and not self._wanted.stop and await self._few_are_closing():
                await self._reopen()
        grace = self._program.settings.SHUTDOWN_GRACE
        for one in self._old:
            one.door.hurry(grace)
        await self._program.door.close(grace)
        if self._closing:
            await asyncio.wait(self._closing)
        log.info("smtpd_stopped", extra={"smtpd_pid": os.getpid()})

    def close(self) -> None:
        """Publish the hints that are waiting, and close every connection."""
        self._program.close()

    # Called by other threads.

    def _stop(self) -> None:
        self._wanted.stop = True
        self._wake()

    def _restart(self) -> None:
        self._wanted.anew = self._wanted.restart = True
        self._wake()

    def _changed(self) -> None:
        self._wanted.restart = True
        self._wake()

    def _wake(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped
                self._loop.call_soon_threadsafe(self._wanted.woken.set)

    # In the loop.

    async def _told(self) -> None:
        """Wait until something is asked for, or for the time to try again."""
        try:
            async with asyncio.timeout(AGAIN_SECONDS if self._failed else None):
                await self._wanted.woken.wait()
            self._failed = ""  # who asks is told, also if it is the same again
        except TimeoutError:
            self._wanted.restart = True
        self._wanted.woken.clear()

    async def _few_are_closing(self) -> bool:
        """Wait until few old doors are left. Return False if we were told to stop meanwhile."""
        while len(self._closing) >= MOST_CLOSING and not self._wanted.stop:
            told = asyncio.create_task(self._wanted.woken.wait())
            await asyncio.wait([*self._closing, told], return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            self._wanted.woken.clear()
        return not self._wanted.stop

    async def _reopen(self) -> None:
        """Open another door, and close the present one. If that is not possible, go on with the present one."""
        anew, self._wanted.anew, self._wanted.restart = self._wanted.anew, False, False
        old, new = self._program, None
        try:
            new = await asyncio.to_thread(self._prepared, None if anew else old.given)
            await new.door.start(old.door.sockets())
        except (MailBBGunError, OSError) as error:
            self._not_reopened(error, anew=anew)
            if new is not None:
                await asyncio.to_thread(new.close)
            return
        self._program, self._failed = new, ""
        logs.set_level(new.settings.LOG_LEVEL)
        old.leave()
        new.begin()
        self._old.append(old)
        task = asyncio.create_task(self._close_old(old))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        log.info("smtpd_restarted", extra={"smtpd_pid": os.getpid(), **self._shown()})

    def _not_reopened(self, error: Exception, *, anew: bool) -> None:
        """Tell why, once. What may end by itself is tried again; a wrong file or certificate waits for who mends it."""
        why = explained(error) if isinstance(error, MailBBGunError) else str(error)
        if why != self._failed:
            log.error("smtpd_not_restarted", extra={"why": why, "meanwhile": "the door goes on as it was"})
        if isinstance(error, OSError | DatabaseUnavailable):
            self._failed, self._wanted.anew = why, anew or self._wanted.anew
        else:
            self._failed = ""

    async def _close_old(self, old: Program) -> None:
        await old.door.close(math.inf)
        self._old.remove(old)
        await asyncio.to_thread(old.close)

    def _prepared(self, given: Settings | None) -> Program:
        """Return another program, of these settings or of those that ``config.py`` has now."""
        if given is None:
            given = load_checked()
            check_some_port(given)
            check_ports(given)
        check_certificate(given)
        return self._made(given, found=preflight(given))

    def _made(self, given: Settings, *, found: bool) -> Program:
        return Program(given, self._processes, found=found, changed=self._changed, asked=self._restart)

    def _shown(self) -> dict[str, str]:
        return {name: f"{host}:{port}" for name, (host, port) in self._program.door.addresses.items()}
