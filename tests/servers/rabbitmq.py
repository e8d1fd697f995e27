"""A private RabbitMQ node with an epmd of its own. Every test gets a fresh virtual host."""

import os
import shutil
import signal
import socket
import uuid
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import pika

from mailbbgun.queues.lanes import LANES
from mailbbgun.queues.topology import WORK, delay_queue, work_queue
from mailbbgun.settings.load import load
from tests.servers import install
from tests.servers.process import Sandbox, free_port, signal_group

GIVEN = "MAILBBGUN_TEST_AMQP_URL"
USER = PASSWORD = "tests"
MEMORY = "512MB"
TEST_DELAYS = {1, 2, 3, 5, 10, 20, 30, 60}
VHOSTS_AT_ONCE = 20  # one rabbitmqctl call takes half a second, however many it makes

_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = {user}
default_pass = {user}
loopback_users = none
vm_memory_high_watermark.absolute = {memory}
disk_free_limit.absolute = 50MB
log.file.level = info
"""


class RabbitMQ:
    """One node.

    Unless ``own``, ``MAILBBGUN_TEST_AMQP_URL`` may name another broker to use, which is never
    stopped.
    """

    def __init__(self, *, own: bool = False, beside: "RabbitMQ | None" = None) -> None:
        """With ``beside``, share epmd and cookie with that node, so that this one can :meth:`join`
        it.
        """
        given = None if own or beside else os.environ.get(GIVEN)
        self.ours = given is None
        self._beside = beside
        self._cookie: str = beside._cookie if beside else uuid.uuid4().hex
        self._sandbox: Sandbox | None = None
        self._spare: list[str] = []  # made, not yet lent
        self._used: list[str] = []  # lent
        self._done: list[str] = []  # returned, to be deleted
        if given:
            self._given = given
        else:
            self.port, self._distribution_port = free_port(), free_port()
            self._epmd_port: int = beside._epmd_port if beside else free_port()
            self._given = f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.port}/%2F"

    def url(self, vhost: str | None = None) -> str:
        """Return the AMQP URL of a virtual host.

        By default that is the node's first one, or the one of the environment variable.
        """
        parts = urlsplit(self._given)
        return self._given if vhost is None else urlunsplit(parts._replace(path="/" + quote(vhost, safe="")))

    def vhost(self) -> str:
        """Return the name of a virtual host without queues of ours. Give it back with
        :meth:`release`.

        On our own broker it is a new one. On another broker it is that of the URL, and every queue
        of ours is deleted from it.
        """
        if not self.ours:
            self._clear()
            return unquote(urlsplit(self._given).path[1:]) or "/"
        if not self._spare:
            made = [f"test-{uuid.uuid4().hex[:12]}" for _ in range(VHOSTS_AT_ONCE)]
            self._make_vhosts(made, self._done)
            self._spare, self._done = made, []
        name = self._spare.pop()
        self._used.append(name)
        return name

    def release(self, vhost: str) -> None:
        """Give a virtual host back. It is deleted when the next ones are made."""
        if self.ours:
            self._used.remove(vhost)
            self._done.append(vhost)

    def launch(self) -> None:
        """Start the node without waiting for it; :meth:`start` waits."""
        if not self.ours or (self._sandbox and self._sandbox.pid("rabbitmq")):
            return
        programs = install.rabbitmq()
        if self._sandbox is None:
            self._sandbox = Sandbox("rabbitmq", "rabbitmq")
            self._prepare(self._sandbox)
        environment = self._environment()
        if not (self._beside or self._sandbox.pid("epmd")):
            # Run epmd in the foreground. A node would start it as a daemon and leave it behind.
            self._sandbox.spawn("epmd", [_epmd(), "-port", str(self._epmd_port), "-address", "127.0.0.1"], environment)
            self._sandbox.wait_until("epmd", lambda: _listens(self._epmd_port))
        self._sandbox.spawn("rabbitmq", [f"{programs}/rabbitmq-server", "-noinput"], environment)

    @property
    def name(self) -> str:
        """The node's name, if it is ours."""
        return f"tests{self.port}@localhost"

    def join(self, other: "RabbitMQ") -> None:
        """Form a cluster with the node it was made beside. All it stored is lost."""
        for command in (["stop_app"], ["join_cluster", other.name], ["start_app"]):
            self.ctl(*command)

    @property
    def pid(self) -> int | None:
        """Its process id, the ancestor of all its processes.

        None if it is not running or not ours.
        """
        return self._sandbox.pid("rabbitmq") if self._sandbox else None

    @property
    def folder(self) -> Path:
        """Where our server keeps its files and its log."""
        return self._own().folder

    def start(self) -> None:
        """Start the node if it is not running, and wait until it speaks AMQP."""
        self.launch()
        if self._sandbox:
            self._sandbox.wait_until("rabbitmq", self.answers)

    def answers(self) -> bool:
        """Return whether the node answers the AMQP header. Its port opens earlier."""
        parts = urlsplit(self._given)
        try:
            with socket.create_connection((parts.hostname or "localhost", parts.port or 5672), 2) as link:
                link.settimeout(2)
                link.sendall(b"AMQP\x00\x00\x09\x01")
                return link.recv(1) == b"\x01"
        except OSError:
            return False

    def stop(self) -> None:
        """Shut the node down cleanly."""
        self._own().end("rabbitmq", signal.SIGTERM)

    def kill9(self) -> None:
        """Kill the node."""
        self._own().end("rabbitmq", signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start; same port, same data."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Kill the node, delete all it stored, and start it with the same virtual hosts, empty."""
        self.kill9()
        shutil.rmtree(self._own().folder / "mnesia")
        self.start()
        self._spare, self._done = [], []
        self._make_vhosts(self._used, [])

    def pause(self) -> None:
        """Stop the node's process with SIGSTOP: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a paused node."""
        self._signal(signal.SIGCONT)

    def memory_alarm(self, on: bool) -> None:
        """Raise or clear the memory alarm.

        While it lasts, the node reads nothing from publishers.
        """
        self.ctl("set_vm_memory_high_watermark", *(["0.0000001"] if on else ["absolute", MEMORY]))

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl (about half a second) and return its output. Raises ``RuntimeError``."""
        return self._own().run([f"{install.rabbitmq()}/rabbitmqctl", "--quiet", *arguments], self._environment())

    def close(self) -> None:
        """Kill the node and remove its folder. Safe to repeat."""
        if self._sandbox:
            self._sandbox.close()
            self._sandbox = None

    def __enter__(self) -> "RabbitMQ":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _own(self) -> Sandbox:
        if self._sandbox is None:
            raise RuntimeError(
                f"the broker of {GIVEN} is not ours" if not self.ours else "the broker was never started"
            )
        return self._sandbox

    def _signal(self, which: signal.Signals) -> None:
        pid = self._own().pid("rabbitmq")
        if pid:
            signal_group(pid, which)

    def _make_vhosts(self, made: list[str], deleted: list[str]) -> None:
        lines = [f'rabbit_vhost:delete(<<"{name}">>, <<"tests">>)' for name in deleted]
        for name in made:
            lines.append(f'rabbit_vhost:add(<<"{name}">>, <<"tests">>)')
            everything = ", ".join(['<<".*">>'] * 3)
            lines.append(
                f'rabbit_auth_backend_internal:set_permissions(<<"{USER}">>, <<"{name}">>, {everything}, <<"tests">>)'
            )
        if lines:
            self.ctl("eval", ", ".join([*lines, "ok."]))

    def _clear(self) -> None:
        delays = TEST_DELAYS.union(load({}).RETRY_DELAYS)
        connection = pika.BlockingConnection(pika.URLParameters(self._given))
        channel = connection.channel()
        for name in (*map(work_queue, LANES), *map(delay_queue, delays)):
            channel.queue_delete(name)
        for name in (WORK, *map(delay_queue, delays)):
            channel.exchange_delete(name)
        connection.close()

    def _prepare(self, sandbox: Sandbox) -> None:
        folder = sandbox.folder
        for name in ("home", "log", "mnesia"):
            (folder / name).mkdir()
            sandbox.give(folder / name)
        cookie = folder / "home" / ".erlang.cookie"
        cookie.write_text(self._cookie)
        sandbox.give(cookie)
        cookie.chmod(0o400)
        (folder / "rabbitmq.conf").write_text(_CONFIGURATION.format(port=self.port, user=USER, memory=MEMORY))
        (folder / "enabled_plugins").write_text("[].")

    def _environment(self) -> dict[str, str]:
        folder = self._own().folder
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(folder / "home"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "node"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
            "RABBITMQ_ALLOW_INPUT": "1",  # exec the node itself, without a shell around it
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{loopback} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
            "RABBITMQ_CTL_ERL_ARGS": loopback,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _epmd() -> str:
    found = shutil.which("epmd") or next(iter(sorted(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")))), None)
    if found is None:
        raise install.Missing("epmd, a part of Erlang, is not on this machine")
    return found
