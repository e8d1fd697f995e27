"""Composing: what a message is made of becomes its MIME.

In: a content, which several messages may share, and what is a message's own. Out: the same bytes
each time; those of files are read, verified and encoded only while the message is streamed. All but
``streaming`` is pure.

Files: ``contents`` has the values, and their form in the database. ``compose`` nests the parts of a
message; ``filenames`` writes names of files into headers. ``mime`` makes the header, and whole plain
messages; ``headers`` knows which fields a client may name and what they take, ``provider_headers``
those that providers obey; ``body`` encodes text and HTML. ``streaming`` yields the bytes.
"""
