"""``POST /messages`` with fields that are wrong."""

import pytest

from bench.processes import cpu
from tests.http.posting import GOOD, wrong
from tests.waiting import growth


def test_sizes_are_taken_to_the_limit_and_refused_beyond_it(door):
    door.send(subject="ü" * 256, text="x" * 1_048_576)
    wrong(door.post(GOOD | {"subject": "x" * 257}), "subject")
    wrong(door.post(GOOD | {"text": "x" * 1_048_577}), "text")
    wrong(door.post(GOOD | {"html": "ü" * 524_289}), "html")
    wrong(door.post(GOOD | {"to": "a" * 60 + "@" + "b." * 97 + "example"}), "to")
    assert len(door.get(f"/messages/{door.send(to=[f'a{n}@example.com' for n in range(100)])}")["deliveries"]) == 100
    wrong(door.post(GOOD | {"to": [f"a{n}@example.com" for n in range(101)]}), "to")
    wrong(
        door.post(
            GOOD | {"to": [f"a{n}@example.com" for n in range(60)], "bcc": [f"b{n}@example.com" for n in range(60)]}
        ),
        "to",
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": None}, "to"),
        ({"to": 5}, "to"),
        ({"to": []}, "to"),
        ({"to": ""}, "to"),
        ({"to": "not_an_email"}, "to"),
        ({"to": ["ann@example.com", None]}, "to"),
        ({"to": "Lee, Ann <ann@example.com>"}, "to"),
        ({"to": "a..b@docomo.ne.jp"}, "to"),
        ({"to": "Ann\r\nBcc: x@y.z <ann@example.com>"}, "to"),
        ({"to": "ann@example.com>\r\nRCPT TO:<eve@example.com"}, "to"),
        ({"to": "ann@example.com SIZE=1"}, "to"),
        ({"to": "ann@[127.0.0.1]"}, "to"),
        ({"cc": {"a": 1}}, "cc"),
        ({"bcc": "x"}, "bcc"),
        ({"from": "x"}, "from"),
        ({"from": "a@example.com, b@example.com"}, "from"),
        ({"from": ["a@example.com"]}, "from"),
        ({"reply_to": "x"}, "reply_to"),
        ({"subject": None}, "subject"),
        ({"subject": 5}, "subject"),
        ({"subject": "a\r\nBcc: x@y.z"}, "subject"),
        ({"subject": "a\x85b"}, "subject"),
        ({"text": ["x"]}, "text"),
        ({"headers": {"Bcc": "x@y.z"}}, "headers.Bcc"),
        ({"headers": {"content-type": "x"}}, "headers.content-type"),
        ({"headers": {"X-A": "a\nb"}}, "headers.X-A"),
        ({"headers": {"X A": "a"}}, "headers"),
        ({"headers": {"X-A": "a", "x-a": "b"}}, "headers"),
        ({"headers": {"X-A:b\r\nBcc": "a"}}, "headers"),
        ({"headers": {"X-A": 5}}, "headers.X-A"),
        ({"headers": "X-A: b"}, "headers"),
        ({"tags": [str(n) for n in range(11)]}, "tags"),
        ({"tags": ["x" * 129]}, "tags"),
        ({"tags": "x"}, "tags"),
        ({"metadata": {"a": {"b": 1}}}, "metadata"),
        ({"metadata": {"a": "x" * 4096}}, "metadata"),
        ({"message_id": "x"}, "message_id"),
        ({"message_id": "<a@b>, <c@d>"}, "message_id"),
        ({"message_id_header": "x"}, "message_id_header"),
        ({"message_id_header": 5}, "message_id_header"),
        ({"message_id_header": "x", "message_id": "x"}, "message_id_header"),
        ({"message_id_header": "<1@b.test>", "message_id": "<2@b.test>"}, "message_id_header"),
        ({"priority": 10}, "priority"),
        ({"priority": -1}, "priority"),
        ({"priority": "5"}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 5.5}, "priority"),
        ({"status": "DELIVERED"}, "status"),
        ({"id": "x"}, "id"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_is_wrong_is_refused_and_named(door, change, field):
    wrong(door.post(GOOD | change), field)


@pytest.mark.parametrize("field", ["to", "subject", "text"])
def test_what_is_needed_must_be_given(door, field):
    wrong(door.post({name: value for name, value in GOOD.items() if name != field}), field)


def test_all_that_is_wrong_is_told_at_once(door):
    body = {"to": "x", "cc": "y", "subject": "a\nb", "tags": ["a\nb"], "message_id": "x", "envelope_from": "z"}
    wrong(door.post(body), "to", "cc", "subject", "text", "tags", "message_id", "envelope_from")
    wrong(door.post({"text": "x"}), "to", "subject")


def test_of_several_addresses_each_that_is_wrong_is_named(door):
    long = "x" * 300 + "@example.com"
    to = ["ann@example.com, ben", "Cis\u202e\x07 <cis@example.com>", f"dot@example.com,{long}"]
    answer = door.post(GOOD | {"to": to, "bcc": "eve@example.com, @"})
    wrong(answer, "to", "bcc")
    told = answer.json()["error"]["fields"]
    ben, cis, longest = told["to"]
    assert ben.startswith("'ben': Not a valid e-mail address: ")
    assert cis == r"'Cis\u202e\x07 <cis@example.com>': The display name must be one line without control characters."
    assert longest == f"'{'x' * 59}…': Longer than 256 characters."
    assert told["bcc"][0].startswith("'@': ")
    answer = door.post(GOOD | {"to": ["ann@example.com", *(f"x{number}" for number in range(50))]})
    assert [sentence.partition(":")[0] for sentence in answer.json()["error"]["fields"]["to"]] == [
        f"'x{number}'" for number in range(10)
    ]


def test_a_megabyte_of_commas_and_quotes_is_refused(door):
    for text in (
        '"' * 1_000_000,
        '"\\' * 500_000,
        "," * 1_000_000,
        "<" * 1_000_000,
        "a@b.c," * 9000,
        " " * 1_000_000 + ">",
    ):
        answer = door.post(GOOD | {"to": text})
        wrong(answer, "to")


@pytest.mark.parametrize("text", ["a@", "@", "a", "<"], ids=["pairs", "at signs", "letters", "brackets"])
def test_a_message_id_is_looked_at_in_linear_time(door, text):
    def cost(length: int) -> float:
        """Return the CPU seconds of all the API's processes for a few such requests."""
        body = GOOD | {"message_id": (text * length)[:length] + " "}  # only its last character is wrong
        before = cpu.of(door.process.pid)
        for _ in range(5):
            wrong(door.post(body), "message_id")
        return cpu.of(door.process.pid) - before

    # 16 times the length. In quadratic time the growth would be 256.
    assert growth(cost, 30_000, 480_000, turns=3, least=0.03) < 64


def test_a_refused_message_leaves_nothing_behind(door, tag):
    door.post(GOOD | {"tags": [tag], "to": "x"})
    assert door.get("/messages", tag=tag)["count"] == 0
