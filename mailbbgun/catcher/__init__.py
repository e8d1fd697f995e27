"""The built-in mail catcher: an SMTP server that keeps mail and sends none.

With it, nobody mails the world by accident. In: SMTP on ``CATCHER_HOST:CATCHER_PORT``. Out: a file
for each message in the Maildir ``VAR/mail``, and one log line. The file is the message as sent,
with LF line ends. On top it has ``X-Envelope-From:`` and an ``X-Envelope-To:`` for each recipient.

Recipients in the domain ``simulator`` behave as ``relays/simulator.py`` says.

What it promises: 250 means that the file and its name are on disk. Nothing grows without a bound. A
web page cannot make a browser send mail here. Silent connections keep nobody out: if there are too
many, the one that has been idle for the longest time is closed.

``main.py`` is the command; ``catcher.py`` judges envelopes and keeps messages; ``conversation.py``
is one connection.
"""
