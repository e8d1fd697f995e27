"""Every counter that says "not now": requests a minute, messages a day, and what SMTP accounts allow to be sent.

Counted in memory, in the database or in Redis. Promise: all processes together stay within a limit; where nobody can
be asked, mail is accepted all the same and the log says so.
"""
