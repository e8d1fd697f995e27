"""Sending domains: the DKIM keys that sign a tenant's mail, and what the DNS says about its domains.

In: the name of a domain, then mail whose From is of it. Out: DNS records to publish, a report on
what the DNS has of them, and DKIM-Signature fields. Promises: a private key is stored encrypted and
never shown; a key signs nothing before its record was seen in the DNS, or somebody says that it is
there; each attempt to send a message makes the same signature; every process uses a change within two
seconds; a tenant without domains costs the delivery of its mail nothing.

Files: `api` and `schemas` are the resources under ``/domains``. Behind them `edit` adds and removes
domains and rotates keys; `dns/` writes what to publish, asks the DNS for it, and says in words what that means.
`keys` makes and reads key pairs. `models` has the tables, `repo` their queries.
`local` knows the domains whose mail is delivered here.
For mail, `dkim` makes signatures, `signing` finds the keys of a message, and keeps them in memory.
`upkeep` activates keys whose records have appeared, and removes keys that were replaced long ago.
"""
