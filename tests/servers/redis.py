"""A private Redis that keeps nothing on disk."""

import os
import signal
from types import TracebackType

import redis

from tests.servers import install
from tests.servers.process import Sandbox, free_port, signal_group

GIVEN = "MAILBBGUN_TEST_REDIS_URL"
PASSWORD = "tests"


class Redis:
    """One server.

    Unless ``own``, ``MAILBBGUN_TEST_REDIS_URL`` may name another server to use, which is never
    stopped.
    """

    def __init__(self, *, own: bool = False) -> None:
        given = None if own else os.environ.get(GIVEN)
        self.ours = given is None
        self._sandbox: Sandbox | None = None
        if given:
            self._url = given
        else:
            self.port = free_port()
            self._url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def url(self) -> str:
        """Return the server's URL. All tests share its keys, so keys need a random part."""
        return self._url

    def launch(self) -> None:
        """Start the server without waiting for it; :meth:`start` waits."""
        if not self.ours or self.pid:
            return
        programs = install.redis()
        if self._sandbox is None:
            self._sandbox = Sandbox("redis", "redis")
        options = {"port": str(self.port), "bind": "127.0.0.1", "requirepass": PASSWORD, "save": "", "appendonly": "no"}
        pairs = [word for name, value in options.items() for word in (f"--{name}", value)]
        server = [f"{programs}/redis-server", *pairs, "--dir", str(self._sandbox.folder)]
        self._sandbox.spawn("redis", server, {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})

    @property
    def pid(self) -> int | None:
        """Its process id. None if it is not running or not ours."""
        return self._sandbox.pid("redis") if self._sandbox else None

    def start(self) -> None:
        """Start the server if it is not running, and wait until it answers."""
        self.launch()
        if self._sandbox:
            self._sandbox.wait_until("redis", self.answers)

    def answers(self) -> bool:
        """Return whether a PING is answered now."""
        with redis.Redis.from_url(self._url, socket_timeout=2, retry=None) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def client(self) -> "redis.Redis":
        """Return a new client, to inspect the keys. The caller closes it."""
        return redis.Redis.from_url(self._url)

    def stop(self) -> None:
        """Shut down. All keys are lost."""
        self._own().end("redis", signal.SIGTERM)

    def kill9(self) -> None:
        """Kill the server. All keys are lost."""
        self._own().end("redis", signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start; same port, no keys."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop the server's process with SIGSTOP: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a paused server."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill the server and remove its folder. Safe to repeat."""
        if self._sandbox:
            self._sandbox.close()
            self._sandbox = None

    def __enter__(self) -> "Redis":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _own(self) -> Sandbox:
        if self._sandbox is None:
            raise RuntimeError(
                f"the server of {GIVEN} is not ours" if not self.ours else "the server was never started"
            )
        return self._sandbox

    def _signal(self, which: signal.Signals) -> None:
        if self.pid:
            signal_group(self.pid, which)
