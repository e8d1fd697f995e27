"""Shapes of messages: their content, the same for us and Postfix, with figures of their own."""

import json

import pytest

from bench.processes.clients import Clients
from bench.processes.sink import Sink
from bench.programs.loop import message
from bench.programs.shapes import MARK, MIX, NAMES, SHAPES, of, requests


@pytest.mark.parametrize("name", SHAPES)
def test_a_request_says_what_its_shape_does_and_how_long_it_is(name):
    shape, [template] = SHAPES[name], requests(name, 8000, "key")
    request = template.replace(MARK, b"%08d" % 7)
    head, _, body = request.partition(b"\r\n\r\n")
    given = json.loads(body)
    assert f"Content-Length: {len(body)}" in head.decode()
    assert "Authorization: Bearer key" in head.decode()
    assert (given["subject"], given["text"], given.get("html", "")) == (shape.subject, shape.text, shape.html)
    addresses = given["to"] if shape.recipients > 1 else [given["to"]]
    assert addresses == shape.addresses("00000007")
    assert len(set(addresses)) == shape.recipients
    assert shape.text.endswith("\n")


def test_the_shapes_are_what_they_are_called():
    assert max(map(len, SHAPES["short"].text.splitlines())) < 78
    assert [len(line) for line in SHAPES["paragraph"].text.splitlines()] == [3999]
    assert 14_500 < len(SHAPES["html"].text) + len(SHAPES["html"].html) < 15_500
    assert SHAPES["html"].html.rstrip().endswith("</html>")
    assert not SHAPES["german"].text.isascii()
    assert sum(character > "\u3000" for character in SHAPES["japanese"].text) > 1000
    assert SHAPES["recipients"].recipients == 20


@pytest.mark.parametrize("name", SHAPES)
def test_what_postfix_is_handed_is_mime_of_the_same_message(name):
    raw = message(SHAPES[name])
    assert raw.isascii()
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert (b"multipart/alternative" in raw) == bool(SHAPES[name].html)
    assert raw.partition(b"\r\n\r\n")[0].count(b"@example.test") > SHAPES[name].recipients  # one more: From


def test_the_mix_is_every_shape_in_turn():
    assert list(of(MIX)) == list(SHAPES.values())
    assert [len(requests(name, 1)) for name in NAMES] == [1] * len(SHAPES) + [len(SHAPES)]


@pytest.mark.parametrize("shape", ["recipients", "mix"])
def test_all_of_a_shape_arrives(shape):
    with Sink("asyncio") as sink, Clients() as clients:
        figures = clients.run("programs.source", sink.port, 20, 3, shape)
        assert sink.count() == 20
        assert figures["seconds"] > 0
