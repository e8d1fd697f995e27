"""The SMTP door: mail comes in by SMTP, from applications and from other mail servers.

In: connections at up to three ports: submission (RFC 6409), with STARTTLS; submission with TLS from
the first byte (RFC 8314); and the MX port, for mail from anybody to local domains. Out: a
submission for ``Acceptor.accept``.

Promise: 250 after DATA means that the message is committed. Anything else means that the client has
to send it again, and doing so makes no second message. Nothing that a client sends takes more than a
bounded amount of memory, time, or work.
"""
