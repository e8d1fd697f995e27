"""The ground floor: code that every other room may use, and that needs neither web nor database.

Files: `errors` is the tree of errors. `clock` and `ids` give times and ids, `logs` prints log
lines, and `outages` those about servers that are away. No caller gives a body or a secret to a log
line, and `relays/redact.py` takes them out of what mail servers say. `process` says how a program
runs, what it does at signals, and with which line and exit code it ends. `caller` is who asks.
`addresses` is one e-mail address; lists of addresses with display names are in
`accept/address_lists.py`. `net` says to which hosts and ports SMTP accounts may connect, `hosts`
for which hosts this service answers. `faults` are the points at which tests kill a process.
"""
