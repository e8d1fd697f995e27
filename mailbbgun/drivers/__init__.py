"""Drivers run coroutines that talk to servers, and that hold no socket themselves (sans-IO).

In: a coroutine that awaits `operations`: connect, receive, send, call a function in a thread. Out:
what it returns. Nothing here knows SMTP.

Files: `operations` is the contract between coroutines and drivers. `blocking` runs one coroutine
in the calling thread, `loop` runs thousands in one thread by epoll(7). `link` is the socket of
both. `budget` is what the coroutines of a loop share. `tls` encrypts in memory for `smtp/wire.py`:
drivers move only octets.

What it promises: no coroutine waits beyond the deadline of its operation; a function in a thread may
go on. In the loop, an error ends only its own coroutine, and one that sends much makes way for the
others.
"""
