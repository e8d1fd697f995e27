"""Relays carry mail out: one envelope in, one outcome for each recipient out.

In: ``await attempt(envelope, before_dot, after_dot)``. Out: ``{recipient: Outcome}``.

Files: `contract` says what a relay must keep. `relay` has the relays, a smart host and direct
delivery to the recipients' domain. `mx` asks the DNS which hosts accept mail for a domain, `pool`
keeps connections open between messages, `client` is one such connection, and `url` reads a server's
URL. `probe` tries a server step by step for a person. `unroutable` refuses what no account may
carry. `posting/` posts mail to URLs, `slack/` messages to Slack; `local` delivers here. `simulator` has
the magic recipients of test keys, for which the catcher refuses. `certificate` and `redact` make what a
server sent safe to show.

What it promises, beside what `smtp` promises:

* Direct delivery connects only to public addresses, unless the guard permits others.
* A transaction is repeated at once only if the server refused it, or the dot had not left: for
  fewer recipients, without SMTPUTF8, or once over a fresh connection.
"""
