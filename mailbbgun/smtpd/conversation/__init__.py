"""One connection to the door: what its client says, and what it is answered.

``connection`` has the bytes: lines, TLS, time limits. ``session`` answers commands, ``commands``
parses them, and ``data`` reads a message.
"""
