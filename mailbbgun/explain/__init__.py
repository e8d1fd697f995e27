"""Explain: why a message is where it is, and what would become of one that is not sent.

In: a message's id, or a submission. Out: for each delivery a code, a sentence and what comes next; of a
submission its MIME, its size, its recipients, the account that would take it, and who signs it. Promise:
nothing is changed.

Files: ``facts`` has what is known of a delivery, and ``reasons`` says in words what that means (pure);
``ways`` finds by which accounts mail may leave; ``explain`` reads the facts of a message; ``dry_run``
treats a submission as accept would, and stores nothing; ``api`` and ``schemas`` are the HTTP door.
"""
