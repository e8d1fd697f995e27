"""The command line ``bin/mailbbgun``: messages, tenants, keys, accounts and secrets for sysadmins.

Commands work directly on the database. They need neither a running API nor an API key: whoever can
read the settings may run them. They validate input with the schemas of the HTTP API, and ``--json``
prints the same JSON as the API. Each group of commands is one file, those about mail in ``mail/``,
about who is told in ``notify/``, about the service itself in ``service/``;
``terminal.py`` has what they share.

Exit codes: 0 done; 1 not done (nothing found, a server does not answer, something is left undone);
2 wrong usage; 78 a setting is wrong.
"""
