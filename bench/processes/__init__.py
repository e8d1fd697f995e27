"""Starts, watches and stops the processes of a run: this service, its servers, the sink, clients.

``system.py`` is the interface of anything that is measured. ``cpu.py`` and ``machine.py`` read what
processes use and what they run on.
"""
