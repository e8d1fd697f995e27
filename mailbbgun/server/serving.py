"""Serves requests: the quick way, in the poller, or in a thread of the pool.

The poller itself, which must not wait or work for long, serves two kinds of request:

- A small ``POST /messages`` without unusual headers, the quick way: ``accept/quick.py`` accepts it
  without gunicorn's parser and without Flask.
- ``GET /health``, from a response that is ready. So it is answered even while every thread waits
  for a slow database.

All others are served in a thread, and clients take turns at the threads (``turns.py``). If a
thread begins to accept a message, no thread waits for the commit. Requests without a valid key have
threads of their own, and few: with each thread that computes, the poller waits longer for the
interpreter lock whenever it returns from the kernel.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any

from mailbbgun.accept.quick import Quick
from mailbbgun.core.hosts import Hosts
from mailbbgun.core.net import network_of
from mailbbgun.counters.counters import Counters
from mailbbgun.counters.requests import RequestCounts
from mailbbgun.http.error_responses import INTERNAL_ERROR, BodyLimit
from mailbbgun.http.provided import EXTENSION
from mailbbgun.http.refusals import Refusals
from mailbbgun.http.responses import HEALTHY, PendingResponse, StreamedBody, ready
from mailbbgun.http.uploads.admission import ADMITTING, COUNTED, Admitted, UploadRoutes
from mailbbgun.server.bodies.answers import LargeResponse
from mailbbgun.server.bodies.spool import Spool, SpoolThread
from mailbbgun.server.clients import Clients
from mailbbgun.server.exchange import Exchange, WaitingMessage, WaitingResponse, created
from mailbbgun.server.poller import Poller
from mailbbgun.server.refusal import Refusal
from mailbbgun.server.registry import ClientConnection
from mailbbgun.server.turns import RequestThreads
from mailbbgun.tenants.authenticate import Authenticator

#: Threads for requests that need no key or have a wrong one. They never wait for long.
STRANGERS = 1
#: Threads that look up keys which this process has not seen yet. They wait for the database.
NEWCOMERS = 2


class Serving:
    """Serves the requests of one process. :attr:`clients` must be set before the first."""

    clients: Clients

    def __init__(self, worker: Any, quick: Quick | None, poller: Poller, spools: SpoolThread) -> None:
        self._worker, self._quick, self._poller, self._spools = worker, quick, poller, spools
        self._cfg, self._log, self._app = worker.cfg, worker.log, worker.wsgi
        provided = getattr(self._app, "extensions", {}).get(EXTENSION, {})
        self._refusals = provided.get(Refusals) or Refusals()
        self._hosts: Hosts | None = provided.get(Hosts)
        self._uploads: UploadRoutes | None = provided.get(UploadRoutes)
        self._health = f"{self._worker.script_name}/health"
        self._authenticator: Authenticator | None = provided.get(Authenticator)
        self._requests: RequestCounts = provided.get(RequestCounts) or RequestCounts(Counters())
        self._threads = RequestThreads(worker.cfg.threads, "request")
        self._strangers, self._newcomers = RequestThreads(STRANGERS, "stranger"), RequestThreads(NEWCOMERS, "newcomer")
        # Other threads, because these wait for the database, or for a key that another process
        # holds.
        self._waiting_threads = ThreadPoolExecutor(worker.cfg.threads, "commit")
        self._begun: list[WaitingMessage | WaitingResponse] = []

    def serve(self, connection: ClientConnection, request: bytes | Any) -> None:
        """Serve a request. Its response goes to :attr:`clients`."""
        if isinstance(request, bytes):
            if not self._begin_quickly(connection, request):
                self.clients.parse(connection, request)
        elif connection.admitted is not None:
            exchange, connection.admitted = connection.admitted, None
            self._let_wait(connection, request, partial(self._serve_upload_in_thread, exchange, request.body))
        elif request.path == self._health and self._is_plain_get(request):
            self._answer_health(connection, request, last=self._count())
        else:
            served = partial(self._serve_in_thread, connection, request, last=self._count())
            self._let_wait(connection, request, served)

    def upload_limit(self, request: Any) -> BodyLimit | None:
        """Return the limit of the body if it is an upload, else None."""
        if self._uploads is None or not request.path.startswith(self._worker.script_name):
            return None
        declared = next((value for name, value in request.headers if name == "CONTENT-TYPE"), "")
        path = request.path.removeprefix(self._worker.script_name)
        return self._uploads.limit_of(request.method, path, declared)

    def admit(self, connection: ClientConnection, request: Any) -> None:
        """Let the application decide by its head whether an upload may come."""
        self._let_wait(connection, request, partial(self._admit_in_thread, connection, request, last=self._count()))

    def begin_together(self) -> None:
        """Begin all messages that came in one turn of the poller, so that they share a commit."""
        begun, self._begun = self._begun, []
        for one in begun:
            try:
                one.ending.begin(partial(self._poller.call, partial(self._finish, one)))
            except Exception:  # noqa: BLE001 - a bug of ours, or no memory: no client may wait for ever for it
                self._log.exception("Error in the beginning of a message")
                self.clients.close(one.connection)

    def _join(self, one: WaitingMessage | WaitingResponse) -> None:
        """Let a message begin with the others of this turn. Only for the poller's thread."""
        self._begun.append(one)

    def refused(self, connection: ClientConnection, refusal: Refusal) -> None:
        """Log a refusal, within a limit. The access log has it, too, if the whole head had come."""
        self._requests.note(refusal.status)
        client = connection.client[0] if isinstance(connection.client, tuple) else None
        if refusal.status == 408:
            self._log.debug("Late request from ip=%s: %s", client, refusal.message)
        else:
            fields = {"client": client, "status": refusal.status, "code": refusal.code, "error": refusal.message[:200]}
            self._refusals.tell(refusal.code, network_of(client) if client else "", fields)
        if (request := connection.incoming.request) is not None:
            try:
                exchange = Exchange(self._cfg, connection, request, self._spools, last=True, may_pend=False)
                exchange.response.status = f"{refusal.status} {refusal.phrase}"
                self._log.access(exchange.response, request, exchange.environ, datetime.now() - exchange.began)
            except Exception:  # noqa: BLE001 - the client must get its response all the same
                self._log.exception("Error after a request")

    def close(self) -> None:
        """End the threads, without waiting for those that are busy."""
        self._threads.close()
        self._strangers.close()
        self._newcomers.close()
        self._waiting_threads.shutdown(wait=False)
        self._refusals.close()

    def _count(self) -> bool:
        """Count a request. Return whether its connection is closed after it."""
        worker = self._worker
        worker.nr += 1
        if worker.nr >= worker.max_requests and worker.alive:
            self._log.info("Autorestarting worker after current request.")
            worker.alive = False
        return not worker.alive or not self._cfg.keepalive

    # The quick way.

    def _begin_quickly(self, connection: ClientConnection, whole: bytes) -> bool:
        worker = self._worker
        last = not worker.alive or worker.nr + 1 >= worker.max_requests or not self._cfg.keepalive
        if self._quick is None or last or not isinstance(connection.client, tuple):
            return False
        try:
            begun = self._quick.begin(whole, connection.client[0])
        except Exception:  # noqa: BLE001 - a bug of ours: Flask answers the request with a 500
            self._log.exception("Error in the quick way")
            return False
        if begun is None:
            return False
        worker.nr += 1
        self._join(WaitingMessage(connection, begun, whole))
        return True

    def _finish_quickly(self, one: WaitingMessage) -> None:
        if one.ending.ended:
            try:
                answer = created(*one.begun.answer())
            except Exception as error:  # noqa: BLE001 - Flask logs it, and makes the response of it
                self._log.debug("No plain yes: %r", error)
            else:
                self._requests.note(201)
                self.clients.send(one.connection, answer, keep_alive=True)
                return
        self._worker.nr -= 1  # self._count() counts it again
        request = one.connection.incoming.parse(one.whole)
        exchange = self._exchange(one.connection, request, last=self._count(), may_pend=True)
        if exchange is not None:
            self._finish_response(WaitingResponse(exchange, one.begun.pending(self._app)))

    # In the poller.

    def _is_plain_get(self, request: Any) -> bool:
        """Whether it is a GET or HEAD for a host that is ours. Any other request takes a thread."""
        if self._hosts is None or request.method not in ("GET", "HEAD") or request.uri != request.path:
            return False
        named = [value for name, value in request.headers if name == "HOST"]
        try:
            return len(named) < 2 and self._hosts.serves(named[0] if named else None, probe=True)
        except ValueError:
            return False

    def _answer_health(self, connection: ClientConnection, request: Any, *, last: bool) -> None:
        if (exchange := self._exchange(connection, request, last=last, may_pend=False)) is not None:
            headers, body = ready(HEALTHY, {})
            exchange.response.start_response("200 OK", list(headers.items()))
            self._answer(exchange, lambda: [body] if request.method == "GET" else [], self._send)

    def _finish(self, one: WaitingMessage | WaitingResponse) -> None:
        """Send the response if it is finished, or let a thread wait for it."""
        try:
            if isinstance(one, WaitingMessage):
                self._finish_quickly(one)
            else:
                self._finish_response(one)
        except Exception:  # noqa: BLE001 - a bug of ours; the client must not wait for ever
            self._log.exception("Error in an answer")
            self.clients.close(one.connection)

    def _finish_response(self, one: WaitingResponse) -> None:
        if one.ending.ended:
            self._answer(one.exchange, partial(one.exchange.response_of, one.pending), self._send)
        else:
            self._waiting_threads.submit(
                self._answer, one.exchange, partial(one.exchange.response_of, one.pending), self._send_from_thread
            )

    def _let_wait(self, connection: ClientConnection, request: Any, served: Callable[[], None]) -> None:
        """Let a request wait for a thread of those that are for its caller."""
        network, known = connection.network, self._authenticator
        header = next((value for name, value in request.headers if name == "AUTHORIZATION"), None)
        if known is None or known.recognises(header):
            self._threads.submit(network, connection.thread_share, served)
        elif header is None or known.at_hand(header):
            self._strangers.submit(network, connection.stranger_share, served)
        else:
            introduce = partial(self._introduce, connection, known, header, served)
            self._newcomers.submit(network, connection.newcomer_share, introduce)

    # In a thread.

    def _introduce(
        self, connection: ClientConnection, known: Authenticator, header: str, served: Callable[[], None]
    ) -> None:
        """Look a key up. Its request then waits for a thread of the others, since it may take long."""
        try:
            known.look_up(header)
        except Exception:  # noqa: BLE001 - of the database, or a bug of ours: the response says what is wrong
            served()
            return
        if known.recognises(header):
            self._threads.submit(connection.network, connection.thread_share, served)
        else:
            self._strangers.submit(connection.network, connection.stranger_share, served)

    def _serve_in_thread(self, connection: ClientConnection, request: Any, *, last: bool) -> None:
        if connection.broken:  # nobody would read the response, and nothing has been done yet
            self._send_from_thread(connection, b"", False)
        elif (exchange := self._exchange(connection, request, last=last, may_pend=True)) is not None:
            self._ask_application(exchange, exchange.environ)

    def _admit_in_thread(self, connection: ClientConnection, request: Any, *, last: bool) -> None:
        if connection.broken:
            self._send_from_thread(connection, b"", False)
        elif (exchange := self._exchange(connection, request, last=last, may_pend=True)) is not None:
            # A copy, because the application leaves traces in it, and is asked again.
            self._ask_application(exchange, {**exchange.environ, ADMITTING: True})

    def _serve_upload_in_thread(self, exchange: Exchange, spool: Spool) -> None:
        connection = exchange.connection
        try:
            if connection.broken:
                self._send_from_thread(connection, b"", False)
                return
            exchange.environ["wsgi.input"] = spool.reader()
            self._ask_application(exchange, exchange.environ)
        except Refusal as refusal:  # there is no room on the disk for the end of it
            self._send_from_thread(connection, refusal.response(), False)
        finally:
            spool.close()

    def _ask_application(self, exchange: Exchange, environ: dict[str, Any]) -> None:
        connection = exchange.connection
        try:
            body = self._app(environ, exchange.response.start_response)
        except BaseException as error:  # noqa: BLE001 - of one request. Panics of some libraries are no Exception
            self._fail(connection, exchange.request, error)
            return
        if isinstance(body, Admitted):
            exchange.environ[COUNTED] = body.counted
            connection.admitted = exchange
            self._poller.call(partial(self.clients.take_body, connection))
        elif isinstance(body, PendingResponse):
            self._poller.call(partial(self._join, WaitingResponse(exchange, body)))
        else:
            if ADMITTING in environ:
                exchange.response.force_close()  # the body comes next, and nobody takes it
            self._answer(exchange, lambda: body, self._send_from_thread)

    # Anywhere.

    def _exchange(self, connection: ClientConnection, request: Any, *, last: bool, may_pend: bool) -> Exchange | None:
        try:
            self._cfg.pre_request(self._worker, request)
            return Exchange(self._cfg, connection, request, self._spools, last=last, may_pend=may_pend)
        except Exception as error:  # noqa: BLE001 - of a hook, or of a wrong setting
            self._fail(connection, request, error)
            return None

    def _answer(
        self,
        exchange: Exchange,
        body: Callable[[], Iterable[bytes]],
        send: Callable[[ClientConnection, bytes | LargeResponse, bool], None],
    ) -> None:
        """Write the response, log it, send it. Or only begin it, if it is made while it is sent."""
        try:
            pieces = body()
            if isinstance(pieces, StreamedBody) and exchange.shows_its_end:
                noted = partial(self._note, exchange)
                send(
                    exchange.connection,
                    exchange.stream(pieces, self._threads, self._poller, noted),
                    exchange.keep_alive,
                )
                return
            answer = exchange.write(pieces)
        except Refusal as refusal:  # there is no room for a large response
            self._requests.note(refusal.status)
            self._send_from_thread(exchange.connection, refusal.response(), False)
            return
        except BaseException as error:  # noqa: BLE001 - of one request
            self._fail(exchange.connection, exchange.request, error)
            return
        send(exchange.connection, answer, self._note(exchange) and exchange.keep_alive)

    def _note(self, exchange: Exchange) -> bool:
        """Call the access log and gunicorn's hook. Return whether both went well."""
        self._requests.note(exchange.response.status_code or 500)
        try:
            self._log.access(exchange.response, exchange.request, exchange.environ, datetime.now() - exchange.began)
            self._cfg.post_request(self._worker, exchange.request, exchange.environ, exchange.response)
        except Exception:  # noqa: BLE001 - it is answered: a hook that fails ends only this connection
            self._log.exception("Error after a request")
            return False
        return True

    def _fail(self, connection: ClientConnection, request: Any, error: BaseException) -> None:
        self._log.error("Error handling request %s %s", request.method, request.uri, exc_info=error)
        self._requests.note(500)
        code, message = INTERNAL_ERROR
        self._send_from_thread(connection, Refusal(500, message, code=code).response(), False)

    def _send(self, connection: ClientConnection, data: bytes | LargeResponse, keep_alive: bool) -> None:
        self.clients.send(connection, data, keep_alive=keep_alive)

    def _send_from_thread(self, connection: ClientConnection, data: bytes | LargeResponse, keep_alive: bool) -> None:
        self._poller.call(partial(self._send, connection, data, keep_alive))
