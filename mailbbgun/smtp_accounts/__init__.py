"""SMTP accounts: the servers that a tenant's mail leaves through, and their settings.

In: what a tenant says of an account, or the name of a known provider (``presets``); then pending
mail. Out: the accounts that fit a mail, in the order to try them (``account``), from a cache that
each worker keeps (``cache``).

Promises: only a caller with the scope ``accounts:reveal`` can read a password. An account whose row
or password cannot be read takes no mail and stops no other account.

People use ``api``: ``edit`` adds and changes accounts, ``connection_test`` tests them, ``health``
shows how they do, ``sender`` decides which From their mail has. What an account's limits allow is
counted in ``limits/``.
"""
