"""Finds out from an error whether the database refuses us because the settings are wrong.

Then waiting for the database would never help. psycopg2 gives no SQLSTATE for a refused connection,
only PostgreSQL's text. So only known texts count as such a refusal. Any other error, and a server
that answers in another language, counts as a database that does not answer yet.
"""

import re
from pathlib import Path

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

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

    def of(self, error: DBAPIError) -> str:
        """Return a sentence about the wrong setting; "" if the settings may be right."""
        if self._file is None and error.statement is not None:
            return ""  # the server let the connection in, so the settings are not to blame
        text = str(error.orig)
        if self._file and "unable to open database file" in text:
            return self._unopened(self._file)
        for pattern, sentence in self._rules:
            if re.search(pattern, text):
                return sentence.format_map(self._names)
        return ""

    def _unopened(self, file: Path) -> str:
        if file.is_dir():
            return f"{str(file)!r} is a folder, not a file"
        if not file.parent.is_dir():
            return f"there is no folder {str(file.parent)!r}"
        return f"{str(file)!r} cannot be opened: this user must be able to write the file and its folder"
