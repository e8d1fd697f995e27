"""Links are found where browsers find them; every other byte of the HTML stays."""

import re
from random import Random
from uuid import UUID

from mailbbgun.composing.links import rewritten
from mailbbgun.composing.tracking import LONGEST, TrackedURL, Tracking, message_key, token_of, tracked, url_of

ID = UUID(int=7)
KEY = message_key(b"s" * 43, ID)
OURS = "https://mail.example.com"
GO = "http://x.example/"


def shown(html):
    """Return the HTML with [target] in place of each link that is found."""
    return rewritten(html, lambda link: f"[{link.target}]")


FOUND = {
    '<a href="u">': '<a href="[u]">',
    "<A\n title='>' HREF = 'u' x>": "<A\n title='>' HREF = '[u]' x>",
    "<a href=u>x": "<a href=[u]>x",
    "<a/href=u/>": "<a/href=[u/]>",
    '<area href="u"><link href="u"><abbr href="u">': '<area href="[u]"><link href="u"><abbr href="u">',
    '<a href="u" href="v">': '<a href="[u]" href="v">',
    '<a data-href="u" xhref="v">': '<a data-href="u" xhref="v">',
    '<a href="?a=1&amp;b=2&copy=3&#38;&lt">': '<a href="[?a=1&b=2&copy=3&<]">',
    '<!-- <a href="u"> --><a href="v">': '<!-- <a href="u"> --><a href="[v]">',
    '<!--[if mso]><a href="u"><![endif]--!><a href="v">': '<!--[if mso]><a href="u"><![endif]--!><a href="[v]">',
    '<!--><a href="v">': '<!--><a href="[v]">',
    '<!-- <a href="u">': '<!-- <a href="u">',
    '<?php "<a href=u>" ?>': '<?php "<a href=u>" ?>',
    '<script>"<a href=u>"</scripts></script ><a href=v>': '<script>"<a href=u>"</scripts></script ><a href=[v]>',
    "<STYLE><a href=u></style><a href=v>": "<STYLE><a href=u></style><a href=[v]>",
    "<textarea><a href=u></textarea>": "<textarea><a href=u></textarea>",
    "<title><a href=u>": "<title><a href=u>",
    "a < b <a href=u> </a href=v>": "a < b <a href=[u]> </a href=v>",
    '<a href="u': '<a href="u',
    "<a href=>x</a><a href>y</a>": "<a href=>x</a><a href>y</a>",
}


def test_links_are_found_where_browsers_find_them():
    assert {html: shown(html) for html in FOUND} == FOUND


WITH_IMAGE = {
    "<body>x</BODY></html>": "<body>x|</BODY></html>",
    "<html>x</html>": "<html>x|</html>",
    "x": "x|",
    "<!-- </body> -->x": "<!-- </body> -->x|",
    "<body></body>x</body >": "<body></body>x|</body >",
    "<body></body><a href=u>y": "<body></body><a href=[u]>y|",
}


def test_the_image_is_at_the_end_of_the_body():
    assert {html: rewritten(html, lambda link: f"[{link.target}]", "|") for html in WITH_IMAGE} == WITH_IMAGE


def test_links_that_must_stay_stay():
    stay = (
        *(
            "mailto:a@b.example",
            "tel:1",
            "#top",
            "/path",
            "//host/",
            "javascript:alert(1)",
            "data:text/html,x",
            "http:/x",
        ),
        *("https://", "https:///x", f"{OURS}/unsubscribe/x", f"{OURS}/c/x", "https://stop.example/", "{{ url }}"),
        *("https://x.example/" + "x" * 3000, "https://x.example/&#0;&#1;"),
    )
    html = "".join(f'<a href="{one}">x</a>' for one in stay) + f'<a DATA-track=" No " href="{GO}">x</a>'
    headers = {"list-unsubscribe": "<mailto:x@y.example>, <https://stop.example/>"}
    assert tracked(html, Tracking(OURS, clicks=True), ID, KEY, headers) == html
    gone = "".join(
        f'<a href="{one}">x</a>' for one in ("HTTPS://x.example", " http://x.example\n", "ht\ntp://x.example")
    )
    changed = tracked(gone, Tracking(OURS, clicks=True), ID, KEY, headers)
    targets = [url_of(lambda _: KEY, token).target for token in re.findall(r"/c/([\w-]+)", changed)]
    assert targets == ["HTTPS://x.example", "http://x.example", "http://x.example"]


def test_no_text_takes_long():
    """What is looked at twice is looked at thousands of times here, and the test never ends."""
    parts = (
        '<a href="',
        "<",
        "<a ",
        "<a b='",
        "<!--",
        "<a/",
        "<title></title ",
        "<script>",
        "<a " + " " * 99,
        "<a x=",
        "&",
    )
    for part in parts:
        tracked(part * 20_000, Tracking(OURS, True, True), ID, KEY, {})


def test_a_token_says_what_it_was_made_of_and_no_other_text_is_one():
    dice = Random(6376)
    for url in (TrackedURL(ID, None), TrackedURL(ID, GO), TrackedURL(ID, "https://ü.example/" + "x" * 1980)):
        token = token_of(KEY, url)
        assert url_of(lambda _: KEY, token) == url
        assert len(token) <= LONGEST
        for _ in range(500):
            place = dice.randrange(len(token))
            other = token[:place] + dice.choice("ABCxyz09-_=. é") + token[place + dice.choice((0, 1)) :]
            assert other == token or url_of(lambda _: KEY, other) is None
    other_key = message_key(b"s" * 43, UUID(int=8))
    assert url_of(lambda _: other_key, token_of(KEY, TrackedURL(ID, GO))) is None
