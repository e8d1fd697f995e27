"""Tracking: who opened a mail, and which of its links were followed.

In: requests for a tracked mail's image and links. Out: events ``opened`` and ``clicked``. Promises: a
link leads only where the sender's HTML said, also while the database is away; nothing is tracked unless
a message asks for it; addresses of readers are never part of the log, and are forgotten after
TRACKING_IP_DAYS.

Files: ``keys`` makes the key that signs a message's URLs (``composing/tracking.py`` writes and reads
them); ``visitors`` tells people from robots and from proxies of mail providers (pure); ``record`` writes
the events; ``models`` and ``repo`` have counts and addresses; ``api`` and ``schemas`` are the routes.
"""
