"""The whole schema: every table, brought up to date by Alembic.

``python initdb.py`` calls :func:`upgrade`.
"""

import logging
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.orm import Session

import mailbbgun.alerts.models
import mailbbgun.attachments.models
import mailbbgun.batches.models
import mailbbgun.database.idempotency
import mailbbgun.deliver.models
import mailbbgun.domains.models
import mailbbgun.events.models
import mailbbgun.files.models
import mailbbgun.inbound_routes.models
import mailbbgun.licences.models
import mailbbgun.limits.models
import mailbbgun.mailboxes.models
import mailbbgun.messages.models
import mailbbgun.queues.models
import mailbbgun.runtime.models
import mailbbgun.slack_accounts.models
import mailbbgun.smtp_accounts.models
import mailbbgun.statistics.models
import mailbbgun.suppressions.models
import mailbbgun.templates.models
import mailbbgun.tenants.models
import mailbbgun.tracking.models
import mailbbgun.webhooks.models  # noqa: F401 - all of these define tables
from mailbbgun import migrations
from mailbbgun.core.errors import ConfigurationError, DatabaseUnavailable
from mailbbgun.database.db import Base, Database, dialect_of
from mailbbgun.database.refusal import NOT_PERMITTED

METADATA = Base.metadata

#: Milliseconds that a migration may wait for locks on its tables. Other users wait behind it.
LOCK_MILLISECONDS = 2000

#: Seconds between two attempts to lock all tables.
RESTS = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0)

#: PostgreSQL's codes for a deadlock, and for a lock that did not come in time.
DEADLOCK, NO_LOCK = "40P01", "55P03"

log = logging.getLogger("mailbbgun.schema")


def configuration() -> Config:
    """Return Alembic's configuration, without a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(db: Database, config: Config | None = None) -> None:
    """Create the tables, or bring them up to date.

    It is safe to repeat, to run twice at once, and to run while the service works. ``config`` says
    where the migrations are, if not in ``migrations/versions``. Raises :class:`DatabaseUnavailable`,
    and :class:`ConfigurationError` for tables of a newer version or of another program.
    """
    config = config or configuration()
    db.check_writable()
    _check_tables(db, config)
    for rest in (*RESTS, None):
        try:
            with db.write() as session:
                _lock_tables(session, config)
                config.attributes["connection"] = session.connection()
                command.upgrade(config, "head")
            return
        except DatabaseUnavailable as error:
            if _sqlstate(error) == NOT_PERMITTED:
                whose = f"the role {db.url.username} may not make tables in the database {db.url.database}"
                raise ConfigurationError(
                    f"DATABASE_URL: {whose}; bin/postgresql-create-user makes a role and a database of its own"
                ) from error
            if rest is None or not _in_the_way(error):
                raise
            log.info("schema_waits", extra={"why": "the service is using the tables", "retry_in": rest})
            time.sleep(rest)


def _check_tables(db: Database, config: Config) -> None:
    """Raise :class:`ConfigurationError` unless the database is empty or has tables that the steps can work on."""
    last = migrations.found(db)
    if last is not None:
        if last not in {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}:
            raise migrations.wrong(last)
        return
    with db.read() as session:
        found = inspect(session.connection())
        there = {*found.get_table_names(), *found.get_view_names()}
    if foreign := sorted(there & set(METADATA.tables)):
        raise ConfigurationError(
            f"DATABASE_URL: the database {db.shown} is another program's: it has a table or view {foreign[0]!r} that "
            "we did not make; name a database of Mail BB Gun, or a new one"
        )


def _lock_tables(session: Session, config: Config) -> None:
    """Lock all tables at once if there is a migration to run, or fail soon.

    Migrations lock one table after the other. A service that holds one table and waits for another
    would be in a deadlock with us, and PostgreSQL would end one of the two.
    """
    connection = session.connection()
    if dialect_of(session) != "postgresql":
        return
    there = set(inspect(connection).get_table_names())
    head = ScriptDirectory.from_config(config).get_current_head()
    if "alembic_version" not in there or connection.scalar(text("SELECT version_num FROM alembic_version")) == head:
        return
    names = ", ".join(table.name for table in METADATA.sorted_tables if table.name in there)
    connection.exec_driver_sql(
        f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}; LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE"
    )
    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")


def _in_the_way(error: DatabaseUnavailable) -> bool:
    """Return whether the migration failed because others use the tables. It may be tried again."""
    return _sqlstate(error) in (DEADLOCK, NO_LOCK)


def _sqlstate(error: DatabaseUnavailable) -> str | None:
    """Return PostgreSQL's code for the error behind ours, if there is one."""
    return getattr(getattr(error.__cause__, "orig", None), "pgcode", None)
