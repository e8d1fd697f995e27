"""Replies that state a limit are recognised in the words of many servers."""

import pytest

from mailbbgun.smtp.reply import Reply, parse_reply
from mailbbgun.smtp.server_limits import (
    MOST_REMEMBERED,
    REMEMBERED_SECONDS,
    KnownLimits,
    fewer,
    is_lasting_limit,
    session_limit,
    too_many_recipients,
)

TOO_MANY = [
    "554 Transaction failed: Expected MIME header. Recipient count exceeds 50",
    "554 Transaction failed: Recipient count exceeds 50.",
    "452 4.5.3 Too many recipients",
    "452 Too many recipients received this hour",
    "552 Too many recipients",
    "550 5.5.3 too many recipients",
    "554 too many recipients",
    "550 5.7.1 Too many recipients",
    "501 Too many RCPT TO commands",
    "451 4.3.0 Error: too many rcpts",
    "503 5.5.0 Too many addressees in one message",
    "554 5.0.0 Maximum number of recipients exceeded",
    "550 Number of recipients exceeds maximum allowed",
    "550 5.7.0 The number of recipients in this message exceeds the limit",
    "554 You have exceeded the maximum number of recipients per message (100)",
    "554 Message has 60 recipients, the limit is 50",
    "550 recipients limit exceeded",
    "550 Recipient limit reached",
    "550 5.4.0 max recipients per message exceeded",
    "550 Only 10 recipients are allowed",
    "552 no more than 25 recipients per message",
    "500 recipients exceed limit of 20",
    "421 4.5.3 too many recipients",
    "550 To many recipients",
    "550 Request rejected: allowed recipients 5, message has 20",
    "550 max. 50 Empfänger erlaubt",
    "550 Limite de 50 destinataires dépassée",
    "553 sorry, too many rcpts (#5.5.3)",
    "452 4.5.3 Recipients belong to multiple regions ATTR38",
    "451 4.3.0 Multiple destination domains per transaction is unsupported.  Please try again.",
    "452 4.5.3 Domain policy size per transaction exceeded, please try this recipient in a separate transaction.",
    "550 5.7.1 please send to one recipient at a time",
    "554 Zu viele Empfänger",
    "550 Maximale Anzahl der Empfänger überschritten",
    "550 Die Empfängeranzahl ist zu hoch",
    "554 Trop de destinataires",
    "550 Nombre maximum de destinataires dépassé",
    "550 Demasiados destinatarios",
    "550 Se ha superado el número máximo de destinatarios",
    "550 Troppi destinatari",
    "550 Numero massimo di destinatari superato",
    "550 Muitos destinatários",
    "550 Te veel ontvangers",
    "550 För många mottagare",
    "550 Zbyt wielu odbiorców",
    "550 Слишком много получателей",
    "550 Превышено максимальное количество получателей",
    "550 收件人过多",
    "550 收件人数量超过限制",
    "550 RP:RCL 群发收件人数量超过了限额，请减少每封邮件的收件人数量",
    "550 宛先が多すぎます",
    "550 수신자가 너무 많습니다",
]

SOMETHING_ELSE = [
    "250 2.1.5 too many recipients, but ok",
    "550 5.1.1 <ann@example.com> - 203.0.113.2 has sent to too many recipients this hour. IB607",
    "451 4.7.1 too many recipients this hour",
    "550 5.4.5 Daily user sending quota exceeded",
    "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
    "552 5.2.2 Recipient mailbox over quota",
    "552 Recipient's mailbox limit exceeded",
    "552 recipient storage limit exceeded",
    "552 5.1.1 too many recipients, it says, but 5.1.1",
    "550 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient",
    "554 5.4.6 Too many hops",
    "550 Too many invalid recipients",
    "550 too many unknown recipients",
    "421 4.7.0 Error: too many errors",
    "452 4.3.2 Connection rate limit exceeded",
    "550 The number of messages in recipient's mailbox exceeded the local limit",
    "554 5.5.1 Error: no valid recipients",
    "550 5.7.1 Message refused due to recipient preferences",
    "550 Recipient address rejected: User unknown",
    "552 5.3.4 message size exceeds the limit of the recipients",
    "451 4.3.0 could not be delivered due to a recipient error",
    "550 RP:TRC 发信方当天内累计的收件人数量超过限制",
    "452 insufficient storage",
    "550 no",
    "550",
]


def reply(line: str) -> Reply:
    return parse_reply(int(line[:3]), [line.encode()])


@pytest.mark.parametrize("line", TOO_MANY)
def test_too_many_recipients_is_understood_in_many_words(line: str) -> None:
    assert too_many_recipients(reply(line))


@pytest.mark.parametrize("line", SOMETHING_ELSE)
def test_other_refusals_are_not_taken_for_too_many_recipients(line: str) -> None:
    assert not too_many_recipients(reply(line))


def test_umlauts_that_are_not_utf_8_are_understood_too() -> None:
    assert too_many_recipients(parse_reply(554, ["554 Zu viele Empfänger".encode("latin-1")]))


@pytest.mark.parametrize(
    "line",
    [
        "421 whatever it says",
        "421 4.7.0 Connection closed by server. Maximum message count per session reached.",
        "452 4.5.0 Too many messages in this session",
        "451 4.7.0 too many messages in this connection",
        "450 Maximum messages per connection exceeded, please reconnect",
        "554 5.7.0 Session limit reached",
        "550 too many transactions in this session",
        "452 message limit for this connection reached",
        "451 Too many mails in one session, open a new connection",
        "450 4.7.1 too many recipients in this session",
        "451 zu viele Nachrichten in dieser Sitzung",
        "451 trop de messages dans cette session",
    ],
)
def test_a_sessions_limit_is_understood_in_many_words(line: str) -> None:
    assert session_limit(reply(line))


@pytest.mark.parametrize(
    "line",
    [
        "250 2.0.0 too many messages in this session",
        "451 4.7.1 greylisted",
        "550 5.1.1 no such user",
        "452 4.3.1 insufficient storage",
        "450 4.7.1 connection rate limited",
        "550 5.7.1 spam message rejected",
        "451 4.4.2 timeout",
        "454 4.7.0 TLS not available",
    ],
)
def test_other_refusals_are_not_taken_for_a_limit_of_the_session(line: str) -> None:
    assert not session_limit(reply(line))


@pytest.mark.parametrize(
    ("line", "count", "expected"),
    [
        ("554 Transaction failed: Recipient count exceeds 50", 60, 50),
        ("554 Message has 60 recipients, the limit is 25", 60, 25),
        ("550 Only 10 recipients are allowed", 60, 10),
        ("452 4.5.3 too many recipients", 60, 30),
        ("452 4.5.3 too many recipients", 61, 30),
        ("452 4.5.3 too many recipients", 2, 1),
        ("554 Recipient count exceeds 50", 40, 20),
        ("554 limit is 0 recipients", 2, 1),
        ("554 limit: 99999999 recipients", 8, 4),
        ("554 too many recipients, see 192.0.2.1", 8, 4),
    ],
)
def test_the_next_try_has_as_many_as_the_reply_names_or_half(line: str, count: int, expected: int) -> None:
    assert fewer(reply(line), count) == expected


def test_only_a_number_is_worth_remembering() -> None:
    assert is_lasting_limit(reply("554 Recipient count exceeds 50"))
    assert not is_lasting_limit(reply("452 4.5.3 Recipients belong to multiple regions ATTR38"))
    assert not is_lasting_limit(reply("452 Too many recipients received this hour"))


def test_what_a_server_took_is_remembered_for_a_while_and_for_so_many_servers() -> None:
    now = [0.0]
    known = KnownLimits(lambda: now[0])
    assert known.most("a") is None
    known.learn("a", 50)
    assert known.most("a") == 50
    now[0] = REMEMBERED_SECONDS
    assert known.most("a") is None
    for number in range(MOST_REMEMBERED + 1):
        known.learn(number, 1)
    assert (known.most(0), known.most(1)) == (None, 1)
