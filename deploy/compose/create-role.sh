#!/bin/sh
# Run once by the postgres image, when its volume is new: the service's role owns its database and is no superuser.
set -eu
psql -X -q -v ON_ERROR_STOP=1 -U postgres -d postgres <<'SQL'
\getenv password PG_PASSWORD
CREATE ROLE mailbbgun LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE mailbbgun OWNER mailbbgun;
REVOKE ALL ON DATABASE mailbbgun FROM PUBLIC;
SQL
