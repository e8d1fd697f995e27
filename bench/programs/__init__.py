"""Programs that send, each run as ``python -m bench.programs.<name>``, and the messages they send.

They are separate processes, so that they do not share an interpreter with what they load.
``payload.py`` and ``shapes.py`` hold the messages; all other files are programs.
"""
