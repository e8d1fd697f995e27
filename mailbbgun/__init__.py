"""Mail BB Gun: a self-hosted transactional mail service.

A message's way: door → accept → messages (store) → queue → deliver → events. CONTRIBUTING.rst says
where to begin.

Files beside the rooms: ``app`` builds the API (and ``/ready``), ``services`` everything that API,
worker and commands share, ``schema`` the tables of all rooms. ``run`` is ``bin/run``, ``install``
is ``initdb.py``. Before a program works, ``environment`` looks for its libraries and handles
signals until the program itself does, ``startup`` reads its settings and waits for its servers,
``preflight`` looks whether an API can be used, and ``exposure`` whether it may listen where it is
told to.
"""

__version__ = "0.1.0"
