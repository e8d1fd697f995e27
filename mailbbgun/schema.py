"""The whole schema: every table once, brought up to date by Alembic. ``python initdb.py`` calls :func:`upgrade`."""

from pathlib import Path

from alembic import command
from alembic.config import Config

import mailbbgun.base.models
import mailbbgun.deliver.models
import mailbbgun.events.models
import mailbbgun.messages.models
import mailbbgun.queues.models
import mailbbgun.smtp_accounts.models
import mailbbgun.tenants.models  # noqa: F401 - all of them for their tables
from mailbbgun.base.db import Base, Database

METADATA = Base.metadata


def configuration() -> Config:
    """Return Alembic's configuration; no file is needed."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(db: Database) -> None:
    """Create the tables or bring them up to date; safe to repeat and to run twice at once. Raises :class:`DatabaseUnavailable`."""
    config = configuration()
    with db.write() as session:
        config.attributes["connection"] = session.connection()
        command.upgrade(config, "head")
