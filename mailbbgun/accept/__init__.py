"""Accept: a submission becomes a stored message, or an error that names what is wrong with it.

In: a submission (fields to compose, or raw MIME with its envelope) and the caller who gave it.
Out: committed rows; a hint to the workers follows the commit.
Promise: a message that was answered with 201 survives any crash, and one ``Idempotency-Key`` makes
one message.

``api`` is the HTTP door, ``quick`` its short cut without Flask. Another door would be a room above
this one that makes a submission, calls ``Acceptor.accept``, and then ``result()`` of what that
returns: nothing is stored before.

Files: ``accept`` is the verb. ``fields`` declares each field of a submission with its rule (``finished``
those of finished MIME),
``schema`` makes the JSON schema of them. ``checks`` checks fields, ``mime/`` finished MIME;
``address_lists`` parses the addresses and display names that people write (``core/addresses.py``
checks one bare address), ``attached`` finds or stores the files that it names. ``draft`` is what a
check returns. ``store`` commits messages, several at a time; ``pending`` is one of them
that waits for its commit.
"""
