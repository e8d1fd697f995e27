"""The worker's part of webhooks: a child process of it serves endpoints that it has leased.

In: leases, the log behind each endpoint's place, retries and replays that are due. Out: requests, and how far each
endpoint is.

Files: ``thread`` is the thread that does it, ``served`` the state of one endpoint, ``track`` a place in the log with
the events after it, ``recent`` what endpoints of one tenant need not read again, ``senders`` the pool that sends,
``progress`` what is read and written, ``alone`` what has failed by an error that nobody foresaw.
"""
