"""The mail in mailboxes, for people and programs that read it over HTTP.

In: a mailbox of the caller's tenant. Out: lists, one mail as its sender meant it, its files, its
bytes. Promises: the raw bytes are always there, whatever is broken in them; HTML that is shown runs
nothing and loads nothing, and a file is only ever a download.

Files: ``api`` has the routes, ``schemas`` their shapes, ``repo`` the queries, ``shown`` what is made of
the bytes of one mail (``mime_reading/``).
"""
