"""The settings that may change while programs run, and how a process changes its own.

In: values for some of :data:`LIVE`, from the database. Out: the one :class:`Settings` that everything in
this process holds has them.
Promise: a value that is put in has passed the checks of one in ``config.py``, also together with the others.
A reader sees the old value or the new one.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any, get_type_hints

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.settings import values
from mailbbgun.settings.load import check_contents
from mailbbgun.settings.ports import check_ports
from mailbbgun.settings.settings import Settings
from mailbbgun.settings.timeouts import SMTPTimeouts

#: Every program follows these.
_OF_ALL = ("LOG_LEVEL",)
#: The API follows these; the SMTP door those of messages, keys and requests, too.
_OF_DOORS = (
    *("MAX_SUBJECT_SIZE", "MAX_TEXT_SIZE", "MAX_EMAIL_ADDRESS_SIZE", "MAX_RECIPIENTS", "MAX_MESSAGE_SIZE"),
    *("CASE_SENSITIVE_LOCAL_PARTS", "MAX_SCHEDULE_DAYS", "MAX_BULK_EMAILS", "MAX_BATCH_SIZE", "IDEMPOTENCY_SECONDS"),
    *("RATE_LIMIT_PER_MINUTE", "UNAUTHORIZED_PER_MINUTE", "LICENCE_REQUESTS_PER_MINUTE"),
    *("LICENCE_LEASE_HOURS", "LICENCE_GRACE_HOURS"),
    *("API_CONNECTIONS", "API_CONNECTIONS_PER_ADDRESS", "API_HEAD_SECONDS", "API_STALL_SECONDS"),
    "API_TRANSFER_SECONDS",
)
#: Workers follow these.
_OF_WORKERS = (
    *("WORKER_CONNECTIONS", "CONNECTIONS_PER_DOMAIN", "MESSAGES_PER_CONNECTION", "IDLE_CONNECTION_SECONDS"),
    *("SMTP_TIMEOUTS", "ON_UNKNOWN", "REFUSED_PAUSE_SECONDS", "CIRCUIT_FAILURES", "CIRCUIT_PAUSE_SECONDS"),
    *("DKIM_KEEP_DAYS", "RETENTION_DAYS", "METADATA_DAYS", "EVENT_DAYS", "ATTACHMENT_DAYS"),
    *("TRACKING_IP_DAYS", "WEBHOOK_LOG_DAYS", "ALERT_DAYS"),
)
#: The SMTP door opens anew to follow these.
OF_SMTPD = (
    *("SMTPD_PORT", "SMTPD_TLS_PORT", "MX_LISTEN_PORT", "SMTPD_CONNECTIONS", "SMTPD_CONNECTIONS_PER_ADDRESS"),
    *("SMTPD_BUFFER_SIZE", "SMTPD_BARE_NEWLINES", "RSPAMD_SECONDS", "RSPAMD_DOWN"),
)
#: Every setting that may change while programs run. All other settings need a restart.
LIVE = (*_OF_ALL, *_OF_DOORS, *_OF_WORKERS, *OF_SMTPD)

#: Those that ``check_ports`` looks at.
_ABOUT_PORTS = (*OF_SMTPD, "MAX_MESSAGE_SIZE")

_FIELDS = {one.name: one for one in fields(Settings)}
#: The other settings.
FIXED = _FIELDS.keys() - set(LIVE)
_KINDS = get_type_hints(Settings)


def checked(name: str, value: Any) -> Any:
    """Return a value for a live setting as the setting's type. Raises :class:`ConfigurationError`."""
    return values.checked(name, value, _KINDS[name], _FIELDS[name].metadata)


def as_json(value: Any) -> Any:
    """Return a setting's value as JSON can write it."""
    return asdict(value) if isinstance(value, SMTPTimeouts) else list(value) if isinstance(value, tuple) else value


def described(name: str) -> Mapping[str, Any]:
    """Return what is known of a setting: its ``doc``, and the bounds ``least`` and ``most`` of its numbers."""
    return _FIELDS[name].metadata


def with_changes(given: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return the settings ``given`` by the sysadmin with some live ones changed.

    Raises :class:`ConfigurationError` if one is wrong, alone or beside the others.
    """
    changed = replace(given, **{name: checked(name, value) for name, value in changes.items()})
    check_contents(changed)
    if not changes.keys().isdisjoint(_ABOUT_PORTS):  # else they are as the door's own start finds them
        check_ports(changed)
    return changed


def usable_changes(given: Settings, changes: Mapping[str, Any]) -> tuple[Settings, str]:
    """Return the settings with all changes that can be used, and why others cannot; "" if there are none.

    Changes were checked when they were made. But since then an upgrade may have narrowed a setting's bounds,
    or the sysadmin may have changed another setting.
    """
    kept: dict[str, Any] = {}
    why = ""
    for name in LIVE:
        if name not in changes:
            continue
        try:
            checked(name, changes[name])
            kept[name] = changes[name]
        except ConfigurationError as error:
            why = str(error)
    try:
        return with_changes(given, kept), why
    except ConfigurationError as error:
        return given, str(error)


class LiveSettings:
    """Lets the settings of one process change. For one thread at a time."""

    def __init__(
        self, used: Settings, given: Settings | None = None, share: Callable[[Settings], Settings] = lambda one: one
    ) -> None:
        """``used`` is the object that everything in this process holds.

        ``given`` are the settings as the sysadmin gave them, and ``share`` makes of them what this process uses;
        by default the two are the same.
        """
        #: The settings that this process uses.
        self.used = used
        self._share = share
        #: The settings as ``config.py`` and the environment have them.
        self.given = replace(used if given is None else given)
        self._followers: list[Callable[[frozenset[str]], None]] = []
        self._untold: frozenset[str] = frozenset()  # what followers have not been told of, for one of them failed

    def then(self, follow: Callable[[frozenset[str]], None]) -> None:
        """Call ``follow`` after each change, with the names of the settings that changed.

        That is for what does not read the settings again each time.
        """
        self._followers.append(follow)

    def put(self, changes: Mapping[str, Any]) -> tuple[frozenset[str], str]:
        """Use the sysadmin's settings with these changes. Return what changed, and why a change cannot be used.

        Raises what a follower raises. Then the next call tells all followers again.
        """
        wanted, why = usable_changes(self.given, changes)
        wanted = self._share(wanted)
        new = {name: getattr(wanted, name) for name in LIVE}
        changed = frozenset(name for name, value in new.items() if getattr(self.used, name) != value)
        for name in changed:
            # Frozen for all others. Everything in the process holds this object.
            object.__setattr__(self.used, name, new[name])
        self._untold |= changed
        if self._untold:
            for follow in self._followers:
                follow(self._untold)
        self._untold = frozenset()
        return changed, why
