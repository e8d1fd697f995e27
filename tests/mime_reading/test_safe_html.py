"""HTML of strangers runs nothing, sends nothing and loads nothing."""

import re

import pytest

from mailbbgun.mime_reading.mail import Problems
from mailbbgun.mime_reading.safe_html import safe_html


def safe(html, files=None, remote=False):
    return safe_html(html, files or {}, Problems(), remote=remote)


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>",
        "<SCRIPT\n>alert(1)</SCRIPT\n>",
        "<img src=x onerror=alert(1)>",
        "<img src=javascript:alert(1)>",
        "<a href='java\tscript:alert(1)'>x</a>",
        "<a href='&#106;avascript:alert(1)'>x</a>",
        "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
        "<form action=https://example.com><input name=q><button>go</button></form>",
        "<iframe src=https://example.com></iframe>",
        "<object data=https://example.com></object><embed src=https://example.com>",
        "<link rel=stylesheet href=https://example.com><base href=https://example.com>",
        "<meta http-equiv=refresh content='0;url=https://example.com'>",
        "<style>@import 'https://example.com'</style>",
        "<p style='background:url(https://example.com)'>x</p>",
        "<p style='background-color:u\\72l(https://example.com)'>x</p>",
        "<p style='position:fixed;top:0'>x</p>",
        "<td background=https://example.com>x</td>",
        "<svg><script>alert(1)</script></svg>",
        "<svg><style><img src=x onerror=alert(1)></style></svg>",
        "<math><mtext><table><mglyph><style><!--</style><img title='--><img src=x onerror=alert(1)>'>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
        "<!--><img src=x onerror=alert(1)>-->",
        "<img srcset='https://example.com 2x'>",
        "<video src=https://example.com poster=https://example.com></video>",
        "<a title='\"><img src=x onerror=alert(1)>'>x</a>",
        '<p title="</p><script>alert(1)</script>">',
        "<textarea><script>alert(1)</script></textarea>",
        "<img src='data:image/svg+xml,<svg onload=alert(1)>'>",
        "<p id=location name=cookie class=btn>x</p>",
        "<?php echo 1 ?><![CDATA[<script>alert(1)</script>]]>",
        "<<script>script>alert(1)<</script>/script>",
    ],
)
def test_nothing_dangerous_is_left(html):
    # An attribute that runs, loads or names is within a tag; as text it is harmless.
    tags = "".join(re.findall(r"<[^>]*>", safe(html))).lower()
    assert not re.search(
        r"script|on\w+=|src=|url|example\.com|data:|position|<(?!/?(p|a|img|table|td)\b)|\b(id|name|class)=", tags
    )


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<p>a < b &amp; c", "<p>a &lt; b &amp; c</p>"),
        ("<b>x<p>y</b>z", "<b>x<p>y</p></b>z"),
        ("<ul><li>a<li>b</ul>", "<ul><li>a</li><li>b</li></ul>"),
        (
            "<table><tr><td>a<td>b<tr><td>c</table>",
            "<table><tbody><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></tbody></table>",
        ),
        ("<p style='color:red;position:fixed'>x</p>", '<p style="color:red">x</p>'),
        ("<head><title>t</title></head><body>x</body>", " x"),
        ("<head><title>t</title><body>x", " x"),
        ("<!--[if mso]><b>no</b><![endif]-->x", "x"),
        ("&copy; &nbsp; &euro;", "© \xa0 €"),
        ("x<script>", "x"),
        ("<o:p>x</o:p>", "x"),
    ],
)
def test_what_people_write_stays(html, shown):
    assert safe(html).replace("&nbsp;", "\xa0") == shown


def test_links_stay_and_tell_nobody_where_they_are():
    assert safe("<a href='https://example.com/?a=1&amp;b=2'>x</a>") == (
        '<a href="https://example.com/?a=1&amp;b=2" target="_blank" rel="noopener noreferrer nofollow">x</a>'
    )
    assert "href" not in safe("<a href='/logout'>x</a>")


@pytest.mark.parametrize(
    ("source", "remote", "shown"),
    [
        ("cid:logo@x", False, "attachments/0"),
        ("CID:logo%40x", False, "attachments/0"),
        ("cid:other", False, None),
        ("https://example.com/a.png", False, None),
        ("https://example.com/a.png", True, "https://example.com/a.png"),
        ("//example.com/a.png", False, None),
        ("attachments/1", False, None),
        ("data:image/png;base64,iVBO", False, "data:image/png;base64,iVBO"),
    ],
)
def test_images_are_those_of_the_mail_unless_others_are_asked_for(source, remote, shown):
    html = safe(f'<img alt="a" src="{source}">', {"logo@x": "attachments/0"}, remote)
    assert html == (f'<img alt="a" src="{shown}">' if shown else '<img alt="a">')
