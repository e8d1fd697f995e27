"""What clients may use up: connections, errors, commands, memory; and what happens when the door closes."""

import threading

import pytest

from mailbbgun.accept.store import Store
from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.smtpd.conversation import connection
from mailbbgun.smtpd.options import DoorOptions
from tests.smtpd.conftest import MAIL, RunningDoor, Talk, plain, running, services_at
from tests.waiting import at_least, bounded, wait_until

WRONG = "mbg_" + "a" * 12 + "_" + "b" * 43


@pytest.fixture(scope="module")
def door(sqlite):
    with running(sqlite, mx_port=0) as one:
        yield one


def test_a_client_with_many_errors_is_answered_late_and_then_has_to_go(door, monkeypatch):
    with Talk(door.port) as talk, bounded("errors"):
        for _ in range(connection.FREE_ERRORS):
            assert talk.say(b"WHAT").startswith(b"500")
        with at_least(connection.LATE_SECONDS * 0.9, "the reply to another error"):
            assert talk.say(b"WHAT").startswith(b"500")
    monkeypatch.setattr(connection, "LATE_SECONDS", 0.01)
    with Talk(door.port) as talk:
        # Errors that come together are answered one after another, each late.
        talk.send(b"WHAT\r\n" * connection.MOST_ERRORS)
        replies = [talk.reply()[:3] for _ in range(connection.MOST_ERRORS + 1)]
        assert replies == [b"500"] * connection.MOST_ERRORS + [b"421"]
        assert talk.closed()


def test_a_client_that_we_know_may_have_many_unknown_recipients(door):
    with Talk(door.port) as talk:
        talk.login(door.key())
        talk.say(b"MAIL FROM:<shop@example.com>")
        for _ in range(2 * connection.MOST_ERRORS):
            assert talk.say(b"RCPT TO:<nouser>").startswith(b"553")


def test_commands_without_a_message_are_limited(door):
    with Talk(door.port) as talk:
        most = connection.MOST_COMMANDS + 10
        talk.send(b"NOOP\r\n" * (most + 1))
        assert [talk.reply()[:3] for _ in range(most + 1)] == [b"250"] * most + [b"421"]
        assert talk.closed()


def test_http_and_lines_without_an_end_are_no_smtp(door):
    with Talk(door.port) as talk:
        assert talk.say(b"POST / HTTP/1.1").startswith(b"421 4.7.0")
        assert talk.closed()
    with Talk(door.port) as talk:
        talk.send(b"x" * 1_000_000)
        assert talk.say(b"").startswith(b"500 5.5.2")
        assert talk.say(b"NOOP").startswith(b"250")


def test_one_network_gets_no_more_connections_than_its_share(sqlite):
    with running(sqlite, connections_per_network=2) as door:
        with Talk(door.port) as first, Talk(door.port), Talk(door.port, greeted=False) as third:
            assert third.reply().startswith(b"421 4.7.0")
            assert third.closed()
            with Talk(door.port, "127.0.0.2") as other:
                assert other.say(b"NOOP").startswith(b"250")
            assert first.say(b"NOOP").startswith(b"250")
        wait_until(lambda: door.door.connections == 0, "connections that are forgotten")
        with Talk(door.port) as again:
            assert again.say(b"NOOP").startswith(b"250")


def test_silent_connections_keep_nobody_out(sqlite):
    with running(sqlite, connections=3) as door, Talk(door.port) as sender:
        sender.login(door.key()).begin()
        silent = [Talk(door.port) for _ in range(5)]
        sender.send(MAIL + b".\r\n")
        assert sender.reply().startswith(b"250")
        assert silent[0].reply().startswith(b"421 4.3.2")
        for one in silent:
            one.link.close()


def test_connections_a_minute_of_a_network_are_limited_at_the_mx_port(sqlite):
    with running(sqlite, mx_port=0, connections_per_minute=2) as door:
        port = door.addresses["mx"][1]
        for _ in range(2):
            Talk(port).link.close()
        with Talk(port, greeted=False) as third:
            assert third.reply().startswith(b"421 4.7.0")
        with Talk(door.port) as other:
            assert other.say(b"NOOP").startswith(b"250")


def test_messages_that_are_too_much_at_once_are_refused_for_now(sqlite):
    with running(sqlite, in_flight=100_000) as door, Talk(door.port) as first, Talk(door.port) as second:
        key = door.key()
        first.login(key).begin()
        second.login(key).begin()
        first.send(MAIL + (b"x" * 70 + b"\r\n") * 1300)
        wait_until(lambda: door.call(lambda: door.door._parts.registry._held) > 60_000, "octets that are held")
        second.send(MAIL + (b"x" * 70 + b"\r\n") * 1300 + b".\r\n")
        assert second.reply().startswith(b"452 4.3.1")
        first.send(b".\r\n")
        assert first.reply().startswith(b"250")
        second.begin()
        second.send(MAIL + (b"x" * 70 + b"\r\n") * 1300 + b".\r\n")
        assert second.reply().startswith(b"250")
        assert door.call(lambda: door.door._parts.registry._held) == 0


def test_clients_that_are_too_slow_are_closed(sqlite, monkeypatch):
    monkeypatch.setattr(connection, "COMMAND_SECONDS", 0.2)
    with running(sqlite) as door, Talk(door.port) as talk:
        talk.send(b"NO")
        assert talk.reply().startswith(b"421 4.4.2")
        assert talk.closed()


def test_an_address_with_too_many_wrong_keys_is_locked_and_right_keys_work_all_the_same(tmp_path):
    with services_at(tmp_path, UNAUTHORIZED_PER_MINUTE=2) as services, running(services) as door:
        for reply in (b"535 5.7.8", b"535 5.7.8", b"421 4.7.0 Too many logins failed"):
            with Talk(door.port) as talk:
                talk.say(b"EHLO client.test")
                assert talk.say(b"AUTH PLAIN " + plain(WRONG)).startswith(reply)
        with Talk(door.port) as talk:
            talk.login(door.key())
        assert door.failed == 3


def test_the_mx_port_relays_nothing(door):
    with Talk(door.addresses["mx"][1]) as talk:
        assert talk.say(b"EHLO mx.test").startswith(b"250")
        assert talk.say(b"AUTH PLAIN " + plain(door.key())).startswith(b"502 5.5.1")
        assert talk.say(b"MAIL FROM:<>").startswith(b"250")
        assert talk.say(b"RCPT TO:<ann@example.com>").startswith(b"550 5.7.1")
        assert talk.say(b"DATA").startswith(b"554 5.5.1")


# Storing.


class Away(Store):
    """A store whose database is away while it is told so, or that does not know whether it has committed."""

    before = after = False

    def _commit(self, batch, patience):
        if self.before:
            raise DatabaseUnavailable("away")
        stored = super()._commit(batch, patience)
        if self.after:
            raise DatabaseUnavailable("broken off")
        return stored

    def _is_stored(self, pending):
        if self.before or self.after:
            raise DatabaseUnavailable("away")
        return super()._is_stored(pending)


@pytest.mark.parametrize("when", ["before", "after"])
def test_trouble_with_the_database_is_451_and_the_same_mail_comes_again_and_is_stored_once(sqlite, monkeypatch, when):
    monkeypatch.setattr("tests.smtpd.conftest.Store", Away)
    with running(sqlite) as door, Talk(door.port) as talk:
        before = len(door.stored())
        talk.login(door.key())
        mail = f"Message-ID: <{when}@example.com>\r\n".encode() + MAIL + b".\r\n"
        setattr(door.store, when, True)
        talk.begin().send(mail)
        assert talk.reply().startswith(b"451 4.3.0")
        setattr(door.store, when, False)
        talk.begin().send(mail)
        assert talk.reply().startswith(b"250")
        assert len(door.stored()) == before + 1


def test_many_clients_share_commits_and_each_mail_is_stored_once(sqlite):
    with running(sqlite) as door:
        key, before = door.key(), len(door.stored())
        codes = []

        def send(n):
            with Talk(door.port) as talk:
                talk.login(key)
                for m in range(10):
                    talk.begin()
                    talk.send(b"Message-ID: <%d-%d@x.test>\r\n" % (n, m) + MAIL + b".\r\n")
                    codes.append(talk.reply()[:3])

        threads = [threading.Thread(target=send, args=(n,)) for n in range(10)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert codes == [b"250"] * 100
        assert len(door.stored()) == before + 100


# Closing.


def test_a_door_that_closes_lets_messages_end_and_tells_the_others(sqlite):
    door = RunningDoor(sqlite, DoorOptions(port=0))
    before = len(door.stored())
    with Talk(door.port) as sending, Talk(door.port) as idle:
        sending.login(door.key()).begin()
        closing = threading.Thread(target=door.close)
        closing.start()
        assert idle.reply().startswith(b"421 4.3.2")
        assert idle.closed()
        sending.send(MAIL + b".\r\n")
        assert sending.reply().startswith(b"250")
        assert sending.reply().startswith(b"421 4.3.2")
        closing.join()
    assert len(door.stored()) == before + 1


def test_a_door_that_closes_waits_for_nobody_longer_than_its_grace(sqlite):
    door = RunningDoor(sqlite, DoorOptions(port=0))
    with Talk(door.port) as sending:
        sending.login(door.key()).begin()
        with bounded("closing"):
            door.close(grace=0.1)
        assert sending.reply().startswith(b"421 4.3.2")
