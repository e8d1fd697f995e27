"""The bodies of requests while they come, and large responses while they are sent.

In: bytes, as the poller reads them. Out: the content, in memory or, of an upload, in a file without a
name. ``sized`` and ``chunked`` decode the two framings (RFC 9112 §6); ``content`` says what they write
to; ``spool`` keeps uploads on disk. ``answers`` are responses that are not in memory as a whole;
``open_while_used`` lets the poller close what a thread works on.
"""
