"""The ground floor: what every other room may use, and what needs neither web nor database.

Errors, clock, ids, logs, fault points of tests; an e-mail address; the hosts that tenants may name and those that we
answer for; who asks (``caller.py``); how a program of ours runs and ends (``process.py``).
"""
