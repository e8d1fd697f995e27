"""The worker's part of webhooks: it serves endpoints that its process has leased.

In: leases, the log behind each endpoint's place, retries and replays that are due. Out: requests, and how far each
endpoint is.

Files: ``thread`` is the worker's thread, ``served`` the state of one endpoint, ``track`` a place in the log with the
events after it, ``senders`` the pool that sends, ``progress`` what is read and written, ``alone`` what has failed by
an error that nobody foresaw.
"""
