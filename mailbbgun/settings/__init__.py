"""What the sysadmin sets.

In: ``config.py`` and ``MAILBBGUN_<NAME>`` environment variables. Out: one frozen ``Settings``. Promise: what is wrong is
a ``ConfigurationError`` with one sentence that names the setting, the value and what would be right, and no secret.
"""
