"""The settings of the service, which the sysadmin gives.

In: ``config.py`` and ``MAILBBGUN_<NAME>`` environment variables. Out: one frozen ``Settings``.
Promise: a wrong setting raises a ``ConfigurationError`` with one sentence that names the setting,
the value and what would be right, and no secret.

Files: `settings` has every setting with its default and its sentence; only the defaults of
``SMTP_TIMEOUTS`` are in `timeouts`, and the settings about files in `files`. `derived` has what
follows from settings. `load` reads the file and the environment; `given` tells
settings from other names. `values`, `paths`, `urls`, `ports` and `hostname` check values. `running`
keeps the settings of an API that runs, for all its processes. `sample` makes ``config.py.sample``.
``core/process.py`` prints the sentence.
"""
