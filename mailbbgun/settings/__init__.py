"""The settings of the service, which the sysadmin gives.

In: ``config.py`` and ``MAILBBGUN_<NAME>`` environment variables. Out: one frozen ``Settings``.
Promise: a wrong setting raises a ``ConfigurationError``. Its one sentence names the setting, the
value and what would be right, and shows no secret.

Files: `settings` lists all settings with their defaults and sentences; only the defaults of
``SMTP_TIMEOUTS`` are in `timeouts`. `load` reads the settings, `running` keeps those of a running
API for all its processes, and `sample` makes ``config.py.sample``. `given` tells settings from
other names. `values`, `paths`, `urls` and `hostname` check and convert single values.
"""
