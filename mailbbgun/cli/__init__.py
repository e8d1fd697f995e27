"""The command line, ``bin/mailbbgun``: a sysadmin's way to messages, tenants, keys, accounts and secrets, straight in the database.

What comes in is judged by the schemas of the HTTP doors, and ``--json`` prints what they answer. Nothing here needs an API that runs, nor an API
key: whoever may read the settings may do it all. One file each for a group of commands; ``terminal`` is what they share.

Exit codes: 0 done, 1 not (no such thing, a server that does not answer, something left undone), 2 wrong usage, 78 a setting is wrong.
"""
