"""The HTTP server: a gunicorn worker in which no slow client takes anything that others need.

Comes in: connections of gunicorn's listening sockets. Goes out: answers of the WSGI application. gunicorn still
owns the processes, the sockets (also those of systemd), the settings, and the parser that decides what a request is.

Why a worker of our own? uvicorn, granian, a raw httptools server and gunicorn's own ASGI worker were prototyped
with the real store and measured side by side. All of them were within ±10 % of this worker's CPU, and each was
laxer: heads without a bound, Content-Length beside Transfer-Encoding accepted, no systemd socket activation. And
gunicorn's thread worker lets a client that stalls in the middle of a head, a body or an answer hold a thread.

What it promises:

- One thread, the *poller*, reads and writes every socket and never blocks. It gathers heads and bodies and sends
  answers. A thread of the pool only ever gets a complete request, and never touches a socket.
- ``GET /health`` and small ``POST …/messages`` are begun by the poller, so busy threads keep neither waiting. A POST
  whose message waits for its commit takes no thread at all (``http/web.PendingResponse``, ``accept/quick.py``).
- Heads, bodies and answers have deadlines (``limits.py``). A late request gets 408 (RFC 9110 §15.5.9); a connection
  on which nothing was asked is closed without a word.
- Connections, and the bytes kept for them, are bounded. Where there are too many, the connection without progress
  for longest is closed, never one whose request is being served (``waiting.py``).
- What is refused is refused in the API's error shape, with a sentence that says what is wrong (``refusal.py``).

The files, in the order of a request: ``worker`` (gunicorn's side: start, run, stop), ``poller`` (readiness of
sockets, calls from threads), ``accepting`` and ``clients`` (connections: read, send, close), ``waiting``, ``buffers`` and
``limits``, ``incoming`` (bytes become requests), ``chunked``, ``refusal``, ``serving`` (requests become answers), ``exchange``.

Answers are kept in memory until they are sent, so a view must not stream without end.
"""
