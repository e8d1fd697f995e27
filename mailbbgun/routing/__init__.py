"""Which way a delivery leaves: the candidate routes of a message, the circuit breaker, and the send
queue.

In: claimed transactions. Out: the one whose turn it is, on a route that has a connection to spare
and is not left alone. Promise: a slow or dead destination holds back its own mail only.
"""
