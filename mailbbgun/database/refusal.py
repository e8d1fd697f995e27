"""Turns errors of the database server into our own, for every program alike.

A server may refuse us because the settings are wrong: then waiting would never help. psycopg2 gives
no SQLSTATE for a refused connection, only PostgreSQL's text. So only known English texts count as
such a refusal. Any other error, and a server that answers in another language, counts as a database
that does not answer yet. Errors of statements have an SQLSTATE.
"""

import re
from pathlib import Path

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.settings.paths import why_closed

# Texts of PostgreSQL (src/backend/libpq/auth.c, utils/init), of its client library and of
# PgBouncer, each with the sentence to show. {user}, {role}, {database} and {host} are those of the
# URL.
_POSTGRESQL = (
    (
        r"password authentication failed|SASL authentication failed|no password supplied",
        "PostgreSQL refuses the password of {user}, or has no such role",
    ),
    (r"role \".*\" does not exist|no such user", "PostgreSQL has no role {role}"),
    (r"role \".*\" is not permitted to log in", "the role {role} may not log in to PostgreSQL"),
    (
        r"(peer|ident|certificate|GSSAPI|LDAP|PAM|RADIUS) authentication failed",
        "PostgreSQL does not believe that we are {user}",
    ),
    (r"database \".*\" does not exist|no such database", "PostgreSQL has no database {database}"),
    (r"permission denied for database", "{user} may not connect to the database {database}"),
    (
        r"no pg_hba.conf entry",
        "PostgreSQL lets nobody from this machine be {user} in {database}: pg_hba.conf has no entry that says so",
    ),
    (r"server does not support SSL", "PostgreSQL on {host} does not speak TLS, which sslmode demands"),
    (
        r"certificate verify failed|server certificate for|root certificate file",
        "the certificate of PostgreSQL on {host} cannot be checked",
    ),
    (
        r"invalid (connection option|URI query parameter|sslmode value|port number|integer value)",
        "an option in it is not one of libpq's",
    ),
)

# How libpq quotes a server that answers and lets nobody in. The severity is in the server's
# language. Two blanks follow it.
_TURNED_AWAY = re.compile(r"failed: [^\s:]{2,20}:  ")
_BUSY = re.compile(
    r"starting up|shutting down|not yet accepting|recovery mode|too many (clients|connections)|slots are"
)

#: SQLSTATEs of servers that only read: the transaction may not write.
READ_ONLY = "25006"
#: SQLSTATE of a table that is missing. All programs look for their tables when they start, so it went later.
NO_TABLE = "42P01"
#: SQLSTATE of a role that lacks a right.
NOT_PERMITTED = "42501"
#: SQLSTATE of a search_path without a schema.
NO_SCHEMA = "3F000"

#: How a database says that it has no room: SQLite in words, PostgreSQL by SQLSTATE.
DISK_FULL = "53100"
_FULL = re.compile(r"database or disk is full")

#: What a database that only reads is told to be.
ONLY_READS = "the database may only be read at present: PostgreSQL is a standby, or default_transaction_read_only is on"

#: What a database without tables is told to be.
NO_TABLES = "the database has lost its tables: restore a backup, or run python initdb.py if it shall be empty"

_SQLITE = (
    (r"file is not a database|file is encrypted", "{database} is not a SQLite database"),
    (r"disk image is malformed", "{database} is damaged: restore it from a backup"),
    (r"readonly database", "{database} may not be written by this user"),
)


class DatabaseRefusal:
    """Explains errors of the database at one URL."""

    def __init__(self, url: URL) -> None:
        self._rules = _SQLITE if url.get_backend_name() == "sqlite" else _POSTGRESQL
        self._file = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
        self._names = {
            "user": f"the user {url.username!r}" if url.username else "this user",
            "role": repr(url.username) if url.username else "of this user's name",
            "database": repr(url.database),
            "host": url.host or "this machine",
        }

    def translated(self, error: DBAPIError) -> DatabaseUnavailable | None:
        """Return our error for one of the server or the connection; None if a statement of ours is
        to blame.
        """
        if why := self.of(error):
            return DatabaseUnavailable(f"DATABASE_URL: {why}", refused=True)
        code = _sqlstate(error)
        if code == READ_ONLY:
            return DatabaseUnavailable(ONLY_READS)
        if code == NO_TABLE:
            return DatabaseUnavailable(NO_TABLES)
        if code == DISK_FULL or (self._file and _FULL.search(str(error.orig))):
            return DatabaseUnavailable("the disk of the database is full")
        if code.startswith("XX"):
            return DatabaseUnavailable("PostgreSQL failed")
        if isinstance(error, OperationalError | InterfaceError):
            text = str(error.orig)
            away = not _TURNED_AWAY.search(text) or _BUSY.search(text)
            return DatabaseUnavailable("the database does not answer" if away else "PostgreSQL refuses us")
        if error.connection_invalidated:
            return DatabaseUnavailable("the connection to the database broke")
        return None

    def of(self, error: DBAPIError) -> str:
        """Return a sentence about the wrong setting; "" if the settings may be right."""
        if self._file is None and (code := _sqlstate(error)):
            return self._of_statement(code, str(error.orig))
        if self._file is None and error.statement is not None:
            return ""  # the server let the connection in, so the settings are not to blame
        text = str(error.orig)
        if self._file and "unable to open database file" in text:
            return self._unopened(self._file)
        for pattern, sentence in self._rules:
            if re.search(pattern, text):
                return sentence.format_map(self._names)
        return ""

    def _of_statement(self, code: str, text: str) -> str:
        if code == NOT_PERMITTED:
            lacking = text.strip().partition("\n")[0].partition("ERROR:  ")[2] or text.strip().partition("\n")[0]
            return self.lacks_right(lacking)
        return self.no_schema if code == NO_SCHEMA else ""

    def lacks_right(self, which: str) -> str:
        """Return the sentence about a right that our role lacks."""
        told = f"{self._names['user']} lacks a right in the database {self._names['database']} ({which})"
        return f"{told}; the role that owns the tables has it, and bin/postgresql-create-user makes such a role"

    def not_utf8(self, encoding: str) -> str:
        """Return the sentence about a database that cannot hold every letter."""
        told = f"the database {self._names['database']} has the encoding {encoding}, and mail needs UTF8"
        return f"{told}; bin/postgresql-create-user makes such a database"

    @property
    def no_schema(self) -> str:
        """The sentence for a connection whose ``search_path`` has no schema."""
        user, database = self._names["user"], self._names["database"]
        return f"search_path names no schema of the database {database} that {user} may use"

    def _unopened(self, file: Path) -> str:
        if closed := why_closed(file):
            return closed
        if file.is_dir():
            return f"{str(file)!r} is a folder, not a file"
        if not file.parent.is_dir():
            return f"there is no folder {str(file.parent)!r}"
        return f"{str(file)!r} cannot be opened: this user must be able to write the file and its folder"


def _sqlstate(error: DBAPIError) -> str:
    """Return PostgreSQL's code for the error of a statement; "" if there is none."""
    return getattr(error.orig, "pgcode", None) or ""
