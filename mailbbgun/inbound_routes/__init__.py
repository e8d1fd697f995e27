"""Inbound routes: what a tenant wants done with mail that comes to its local domains.

In: routes, each with patterns for recipients or header fields, and actions; mail for a local recipient.
Out: mail in mailboxes, and further deliveries of the same message: to addresses that it is forwarded to,
and to URLs that it is posted to. Promise: all that the routes want of a mail is stored in the transaction
that ends its local delivery, so each happens once; posts and forwards are then deliveries like any other.

Files: `api` and `schemas` are the resource ``/inbound-routes``; `edit` checks and changes routes, `models`
has the table, `repo` its queries. `patterns` and `plan` decide, purely, what routes want of a mail.
`recipients` answers for the SMTP door, `destination` delivers, `effect` stores. ``posts/`` makes the
requests that ``relays/posting/relay.py`` sends.
"""
