"""Ground floor: settings, errors, database, ids, clock, logs and the web conventions.

In: environment and ``config.py``. Out: values and tools every other room stands on. It imports no other room.
"""
