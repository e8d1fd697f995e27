"""Strict JSON: bodies that are refused before any schema sees them."""

import pytest

from mailbbgun.core.errors import MalformedBody, TooLarge
from mailbbgun.http import strict_json
from mailbbgun.http.strict_json import MOST_DEPTH, parse_object

BAD = {
    "empty": b"",
    "not JSON": b"{to: 1}",
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "deep list": b'{"a":' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "deep object": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "unclosed depth": b"[" * 100_000,
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "a float beyond all": b'{"a":1e999}',
    "5,000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "65 bits": b'{"a":18446744073709551616}',
    "a raw NUL": b'{"a":"\0"}',
    "an escaped NUL": b'{"a":"\\u0000"}',
    "a NUL in a key": b'{"a\\u0000":1}',
    "a lone surrogate": b'{"a":["x",{"b":"\\ud800"}]}',
    "a lone surrogate in a key": b'{"a":{"\\udfff":1}}',
    "duplicate keys": b'{"to":"a@b.c","to":"d@e.f"}',
    "duplicate keys below": b'{"a":{"b":1,"b":1}}',
    "Latin-1": '{"a":"ü"}'.encode("latin-1"),
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-32": '{"a":1}'.encode("utf-32-le"),
    "two byte order marks": b'\xef\xbb\xbf\xef\xbb\xbf{"a":1}',
    "only a byte order mark": b"\xef\xbb\xbf",
    "a CESU-8 surrogate": b'{"a":"\xed\xa0\x80"}',
    "a raw line break in a string": b'{"a":"x\ny"}',
    "something after the end": b'{"a":1} x',
    "a trailing comma": b'{"a":1,}',
}


@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b'{"a":[', b"]}")])
def test_json_may_be_nested_so_deep_and_no_deeper(opening, closing):
    levels = opening.count(b"{") + opening.count(b"[")
    at_most = MOST_DEPTH // levels
    parse_object(opening * at_most + b"1" + closing * at_most)
    with pytest.raises(MalformedBody, match="too deeply"):
        parse_object(opening * (at_most + 1) + b"1" + closing * (at_most + 1))


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_bad_json_is_refused(raw):
    with pytest.raises(MalformedBody):
        parse_object(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b"{}", {}),
        (b' {"a":[1,-2.5,true,null,"x"]} ', {"a": [1, -2.5, True, None, "x"]}),
        (b'{"a":"\\ud83d\\ude00 \\u00fc"}', {"a": "😀 ü"}),
        ('{"ü":"😀"}'.encode(), {"ü": "😀"}),
        (b'{"a":9223372036854775807,"b":{"a":1},"c":{"a":1}}', {"a": 2**63 - 1, "b": {"a": 1}, "c": {"a": 1}}),
    ],
)
def test_good_json_is_what_it_says(raw, value):
    assert parse_object(raw) == value


@pytest.mark.parametrize("part", [b"[],", b"1,", b'"",', b"{},", b'"' + b'\\"' * 500 + b'",'])
def test_a_body_of_millions_of_values_is_refused_before_it_becomes_a_gigabyte(part):
    raw = b'{"a":[' + part * (6_000_000 // len(part)) + b"1]}"
    if len(part) > 3:  # long strings: their characters do not count
        assert len(parse_object(raw)["a"]) == 6_000_000 // len(part) + 1
    else:
        with pytest.raises(TooLarge):
            parse_object(raw)


def test_a_body_has_room_for_a_list_of_thousands_but_not_for_one_that_takes_a_schema_seconds():
    for entries, taken in ((20_000, True), (60_000, False)):
        raw = b'{"to":[' + b'"a@b.cd",\n' * entries + b'"a@b.cd"]}'
        if taken:
            assert len(parse_object(raw)["to"]) == entries + 1
        else:
            with pytest.raises(TooLarge):
                parse_object(raw)


@pytest.mark.parametrize(
    "raw", [b'"' + b'\\"' * 3_000_000, b'"' + b'\\"' * 3_000_000 + b"\\", b'"' * 3_000_001, b"\\" * 3_000_000]
)
def test_measuring_a_broken_body_takes_linear_time(raw):
    with pytest.raises((MalformedBody, TooLarge)):  # in quadratic time it would take hours
        parse_object(raw)


@pytest.mark.parametrize("piece", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("text", "outside"),
    [
        ("", 0),
        ('{"a":"b"}', 3),
        (r'["a\"b","\\",1]', 5),
        (r'["\\\"', 1),
        ('["not closed', 1),
        (r'["a\\', 1),
        ('"' + r"\"" * 50 + '",2', 2),
    ],
)
def test_characters_outside_strings_are_counted_whatever_the_pieces_of_a_string(monkeypatch, text, outside, piece):
    monkeypatch.setattr(strict_json, "PIECE", piece)
    assert strict_json._structure(text) == outside
    assert strict_json._structure_of_short(text) == outside
