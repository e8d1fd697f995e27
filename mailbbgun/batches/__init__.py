"""Many messages in one request.

In: one content and its recipients, each with variables of its own; or a list of whole messages. Out:
the same rows that single messages have, stored by one commit, and a batch that counts them.
Promise: a batch is stored whole or not at all. After that each message of it is a message like any
other: claims, retries, events and cancelling know no batches.

Files: ``batching`` is the verb, ``personal`` and ``whole`` prepare the two forms, ``store`` commits.
``individually`` makes a batch of a message. ``cancel`` stops what has not left.
"""
