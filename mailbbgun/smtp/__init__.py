"""The SMTP client (RFC 5321): it opens a session with a server and sends messages over it.

In: an `Envelope` (sender, recipients, the finished message in memory or in a file) and two functions
to await around the final dot. Out: one `Outcome` for each recipient. Failures of the network, the
server or the mail are returned as values. Exceptions mean programming errors, or come from the two
functions.

The client is coroutines that hold no socket (sans-IO). The room `drivers` runs them.

Files, in the order of the flow: `endpoint` and `envelope` are the values that come in; `spooled` is
a message in a file, and `content` checks what is sent. `opening` does TCP, TLS, EHLO and AUTH;
`transaction` does MAIL to the dot. `wire` moves bytes under absolute deadlines, `reply` parses what
the server answers, `outcome` decides what a reply means for the mail, and `server_limits` recognises
replies that ask for fewer recipients or a fresh connection. `adapting` fits a message to a server
without SMTPUTF8 or 8BITMIME, and signs it; `folding` writes header fields in ASCII. The room `relays`
builds on this one.

What it promises:

* The final dot goes out in a write of its own, and only after `before_dot` returned True;
  `after_dot` is awaited as soon as the reply is read. A failure once the dot may have left is
  `Unknown`; an earlier one is `Deferred`.
* No server is waited for longer than the deadline of the phase, or makes us keep more than 64 KB.
* No byte of an envelope or message can become a command: CR and LF occur only as line ends, and
  addresses follow a strict grammar.
* A password goes over an unencrypted line only where the endpoint says `security="none"`.
* With a guard, the client connects only to addresses that the guard permits, and sends nothing
  (with `tls` only the handshake) before the server has greeted with 220. A greeting that is not
  SMTP is never quoted.
* What a server says reaches the caller as at most 2 KB of printable text.
"""
