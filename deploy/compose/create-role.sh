#!/bin/sh
# The postgres image runs this once, when its volume is new. It makes a role for the service, which owns
# the service's database and is no superuser.
set -eu
psql -X -q -v ON_ERROR_STOP=1 -U postgres -d postgres <<'SQL'
\getenv password PG_PASSWORD
CREATE ROLE mailbbgun LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE mailbbgun OWNER mailbbgun;
REVOKE ALL ON DATABASE mailbbgun FROM PUBLIC;
SQL
