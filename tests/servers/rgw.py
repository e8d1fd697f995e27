"""A private S3 store: Ceph's object gateway with a monitor and a disk in memory. It checks signatures."""

import os
import secrets
import signal
import urllib.error
import urllib.request
import uuid
from types import TracebackType
from urllib.parse import urlsplit

from tests.servers import install
from tests.servers.process import Sandbox, free_port, signal_group

GIVEN = "MAILBBGUN_TEST_S3_URL"
ACCESS, SECRET = "testkey", "testsecret12"

# Without the two of paxos a start takes 12 s, without tcp_nodelay each GET 40 ms. One osd, which keeps one copy.
_CONFIGURATION = """[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon},v1:127.0.0.1:{mon1}]
keyring = {d}/keyring
run_dir = {d}/run
crash_dir = {d}/run
admin_socket = {d}/run/$name.$pid.asok
pid_file =
log_file = {d}/run/$name.log
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
ms_bind_port_min = {osd}
ms_bind_port_max = {osd_end}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data = {d}/mon.a
mon_data_avail_crit = 1
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
osd_data = {d}/osd.0
osd_objectstore = memstore
memstore_device_bytes = 4294967296
rgw_data = {d}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_lc_debug_interval = 2
"""


class RGW:
    """One store.

    Unless ``own``, ``MAILBBGUN_TEST_S3_URL`` may name another one to use, which is never stopped:
    ``s3+http://key:secret@host:port``.
    """

    def __init__(self, *, own: bool = False) -> None:
        given = None if own else os.environ.get(GIVEN)
        self.ours = given is None
        self._sandbox: Sandbox | None = None
        self._made = False
        if given:
            self._url = given.rstrip("/")
        else:
            self.port = free_port()
            self._url = f"s3+http://{ACCESS}:{SECRET}@127.0.0.1:{self.port}"

    def url(self, bucket: str | None = None) -> str:
        """Return a ``BLOBS_URL`` of a bucket; by default one that does not exist yet."""
        return f"{self._url}/{bucket or f'test-{secrets.token_hex(6)}'}"

    @property
    def endpoint(self) -> str:
        """The host and port of the store."""
        return urlsplit(self._url).netloc.rpartition("@")[2]

    @property
    def pid(self) -> int | None:
        """The gateway's process id. None if it is not running or not ours."""
        return self._sandbox.pid("radosgw") if self._sandbox else None

    def start(self) -> None:
        """Start what is not running of monitor, disk and gateway, and wait until S3 answers."""
        if not self.ours or self.pid:
            return
        programs = install.ceph()
        if self._sandbox is None:
            self._sandbox = Sandbox("rgw", "ceph")
            self._prepare(self._sandbox)
        run = self._sandbox.folder / "run"
        if not self._sandbox.pid("mon"):
            self._spawn("mon", f"{programs}/ceph-mon", "-i", "a", "-f")
        if not self._made:
            osd = str(uuid.uuid4())
            self._ctl("ceph", "--connect-timeout", "60", "osd", "new", osd)
            self._ctl("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        if not self._sandbox.pid("osd"):
            self._spawn("osd", f"{programs}/ceph-osd", "-i", "0", "-f")
        assert run.is_dir()
        self._spawn("radosgw", f"{programs}/radosgw", "-n", "client.rgw", "-f")
        self._sandbox.wait_until("radosgw", self.answers)
        if not self._made:
            key = ("--access-key", ACCESS, "--secret-key", SECRET)
            self._ctl("radosgw-admin", "user", "create", "--uid", "app", "--display-name", "app", *key)
            self._made = True

    def answers(self) -> bool:
        """Return whether the gateway answers now."""
        try:
            with urllib.request.urlopen(f"http://{self.endpoint}/", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill9(self) -> None:
        """Kill the gateway. What is stored stays."""
        self._own().end("radosgw", signal.SIGKILL)

    def pause(self) -> None:
        """Stop the disk with SIGSTOP: the gateway takes requests and does not answer them."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a paused disk."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill everything and remove the folder. Safe to repeat."""
        if self._sandbox:
            self._sandbox.close()
            self._sandbox = None

    def __enter__(self) -> "RGW":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _own(self) -> Sandbox:
        if self._sandbox is None:
            raise RuntimeError(f"the store of {GIVEN} is not ours" if not self.ours else "the store was never started")
        return self._sandbox

    def _signal(self, which: signal.Signals) -> None:
        if pid := self._own().pid("osd"):
            signal_group(pid, which)

    def _spawn(self, name: str, *command: str) -> None:
        self._own().spawn(name, command, self._environment())

    def _ctl(self, *command: str) -> None:
        self._own().run(command, self._environment())

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "CEPH_CONF": str(self._own().folder / "ceph.conf"),
            "HOME": str(self._own().folder),
        }

    def _prepare(self, sandbox: Sandbox) -> None:
        folder = sandbox.folder
        for name in ("run", "mon.a", "osd.0", "rgw"):
            (folder / name).mkdir()
            sandbox.give(folder / name)
        fsid, mon, mon1, osd = str(uuid.uuid4()), free_port(), free_port(), free_port()
        text = _CONFIGURATION.format(d=folder, fsid=fsid, mon=mon, mon1=mon1, osd=osd, osd_end=osd + 60, port=self.port)
        (folder / "ceph.conf").write_text(text)
        keyring = ("ceph-authtool", "keyring", "--gen-key", "-n")
        everything = "allow *"
        self._ctl("ceph-authtool", "--create-keyring", "keyring", *keyring[2:], "mon.", "--cap", "mon", everything)
        admin = [word for daemon in ("mon", "osd", "mgr") for word in ("--cap", daemon, everything)]
        self._ctl(*keyring, "client.admin", *admin)
        self._ctl(*keyring, "osd.0", "--cap", "mon", "allow profile osd", "--cap", "osd", everything)
        self._ctl(*keyring, "client.rgw", "--cap", "mon", "allow rw", "--cap", "osd", "allow rwx")
        at = f"[v2:127.0.0.1:{mon},v1:127.0.0.1:{mon1}]"
        self._ctl("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", at, "monmap")
        self._ctl("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
