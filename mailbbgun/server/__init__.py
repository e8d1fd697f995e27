"""The HTTP server: a gunicorn worker in which slow clients do not delay others.

In: connections of gunicorn's listening sockets. Out: responses of the WSGI application. gunicorn
still owns the processes, the sockets (also those of systemd), the settings, and the parser that
decides what a request is.

Why a worker of our own? uvicorn, granian, a raw httptools server and gunicorn's own ASGI worker
were prototyped with the real store and measured side by side. All of them were within ±10 % of this
worker's CPU, and each was laxer: heads without a bound, Content-Length beside Transfer-Encoding
accepted, no systemd socket activation. And in gunicorn's thread worker, a client that stalls in the
middle of a head, a body or a response blocks a thread.

What it promises:

- One thread, the *poller*, reads and writes every socket and never blocks. It collects heads and
  bodies, and sends responses. A thread of the pool gets only complete requests, and never touches a
  socket.
- Clients take turns at the poller and at the threads: first networks, then the connections of one.
  The one that has used least time is next, so nobody waits long for busy clients (``turns.py``).
- Requests without a valid key have few threads of their own, so that they keep neither the poller
  nor other clients waiting.
- The poller itself answers ``GET /health`` and begins small ``POST …/messages``, so neither waits for
  busy threads. While a message waits for its commit, its request takes no thread
  (``http/responses.PendingResponse``, ``accept/quick.py``).
- Heads, bodies and responses have deadlines: the settings ``API_…_SECONDS``
  (``client_limits.py``). A late request gets 408 (RFC 9110 §15.5.9). A connection without a request
  is closed silently.
- The number of connections, and the bytes kept for them, are bounded. If there are too many, the
  server closes the connection that has made no progress for the longest time, never one whose
  request is being served (``registry.py``).
- An upload takes disk instead of memory, and no thread while it comes. Its body is taken only after the
  application has checked the key and the scope by the head (``http/uploads/``); another thread than the
  poller writes to the disk, and its room is bounded.
- Refusals have the API's error shape, with a sentence that says what is wrong (``refusal.py``).

The files, in the order of a request: ``worker`` (start, serve, stop), ``poller`` (ready sockets,
calls from threads), ``turns`` (who is next), ``accepting``, ``connections`` and ``clients`` (open,
read, send, close), ``registry`` and ``client_limits`` (which connection to close), ``incoming`` and
``bodies/`` (parse requests), ``refusal``, ``serving`` (requests become responses), ``exchange``.

A response is kept until it is sent: in memory or, if it is large, in a file. So an error in the middle
of it still becomes a response of its own. One without end, or too large even for a file, is a
``http/responses.StreamedResponse``: threads make a piece of it when the client has read the one before
(``bodies/answers.py``). If that fails, the connection ends before the last chunk, which clients notice;
for clients without chunks (HTTP/1.0) it is kept like any other.
"""
