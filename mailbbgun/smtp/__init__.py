"""The room where mail leaves by SMTP (RFC 5321), as a client.

In: an `Envelope` (sender, recipients, finished bytes) and two functions to call around the final
dot. Out: one `Outcome` for each recipient. Nothing else leaves by this door: failures of the
network, of the server and of the mail are values; exceptions are for programming errors, and for
what the two functions raise themselves.

Files, in the order of the flow: `relay` (which host, which transaction) over `mx` (who takes mail
for a domain) and `pool` (connections kept warm), which hands out a `client.Connection`: `opening`
(TCP, TLS, EHLO, AUTH), then `transaction` (MAIL to the dot). `wire` moves bytes under absolute
deadlines, `reply` understands what came back within bounds, `outcome` decides what it means,
`limits` whether it wants fewer recipients or a fresh connection. `downgrade` makes a header ASCII
for servers without SMTPUTF8, `url` reads where a server is. `endpoint` and `envelope` are the
values that come in. `probe` is another way in, for a person: it listens to the same dialogue and
tells each step, with what `certificate` reads and without what `redact` finds.

What it promises:

* The final dot goes out in its own write, after `before_dot` said yes and never otherwise;
  `after_dot` is called as soon as the reply is read. What fails once the dot may have left is
  `Unknown`, what fails earlier is `Deferred`.
* No server holds a thread longer than the deadline of the phase, nor makes it keep more than 64 KB.
* No byte of an envelope or message can become a command (no CR or LF but line ends, strict address
  grammar).
* A password goes over an unencrypted line only where the endpoint says `security="none"`.
* A server with a guard is connected to at addresses the guard permits and at no other, and hears
  nothing (with `tls` only the handshake) before it has greeted with 220. What greets otherwise than
  SMTP is not quoted, whoever named it.
* An MX that a stranger's domain names is connected to at public addresses alone, unless the guard
  permits others.
* A transaction is repeated at once only if the server said a definite no to it, or the dot had not
  left: for fewer recipients, or on a fresh connection (once).
* What a server says reaches the caller as at most 2 KB of printable text.
"""
