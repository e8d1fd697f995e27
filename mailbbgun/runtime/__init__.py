"""The configuration that is changed while the service runs, and figures for dashboards.

In: ``PUT /config``, ``POST /restart``, ``GET /stats``. Out: settings that every process uses within two
seconds; a new opening of the SMTP door.
Promise: a change has passed the checks of ``config.py``, is audited, and can be taken back; without the
database every process goes on with the settings that it has.

Files: ``live`` says which settings may be changed, and changes those of a process; ``edit`` checks and stores
changes, ``follow`` is the thread by which a process follows them; ``figures`` reads what ``GET /stats`` shows.
"""
