"""Texts made of HTML."""

import time

import pytest

from mailbbgun.templates.around import text_from
from mailbbgun.templates.plain_text import from_html

MAIL = """<!doctype html><html><head><title>T</title><style>p{color:red}</style></head><body>
<div style="display:none">preheader <div>more</div></div><table><tr><td><h1>Your  order</h1><p>Dear Ann &amp; Bob,</p>
<p>thank you for <b>your</b> order.<br>See <a href="https://example.com/?a=1&amp;b=2">your <i>page</i></a>,
<a href="mailto:x@example.com">x@example.com</a> or <a href="#top">above</a>.</p>
<table><tr><th>Item</th><th>Price</th></tr><tr><td>Pen</td><td>1.50</td></tr></table>
<ul><li>One</li><li>Two</li></ul><img src="cid:l" alt="Logo"><p>日本語。</p><p dir="rtl">שלום</p>
<script>x("<p>")</script>
</td></tr></table><!-- hidden --></body></html>"""


def test_a_text_says_what_a_reader_of_the_html_sees():
    assert from_html(MAIL) == (
        "Your order\n\nDear Ann & Bob,\n\nthank you for your order.\n"
        "See your page (https://example.com/?a=1&b=2), x@example.com or above.\n\n"
        "Item  Price\nPen  1.50\n\n- One\n- Two\n\nLogo\n\n日本語。\n\nשלום\n"
    )


def test_the_tags_of_a_template_stay_where_they_stand():
    html = (
        '<p title="{{ t }}">Hi {{ name|default("<i>") }} &amp; {{ b }}</p><table>{% for i in items %}<tr>'
        '<td>{{ i.n }}</td><td><a href="{{ i.url }}">{{ i.p }}</a></td></tr>{% endfor %}</table>'
        "{% raw %}<b>{{</b>{% endraw %}{# no #}"
    )
    assert text_from(html) == (
        'Hi {{ name|default("<i>") }} & {{ b }}\n\n{% for i in items %}{{ i.n }}  {{ i.p }} ({{ i.url }})\n'
        "{% endfor %}{% raw %}{{{% endraw %}{# no #}\n"
    )


@pytest.mark.parametrize("piece", [
    "<div>", "<table><tr><td>", "<ul><li>", "<b>", "&amp;", "<", "x ", "<!--", "<![CDATA[", "<a \"'>", '<a "',
    "<a href=x>y", "<a href=x>y</a>", "</div>",
    "<p style='display:none'>", "<br>", "<td>x", "<style>", '<a href="', "<a style ",
    "\n", "&#",
])  # fmt: skip
def test_the_cost_of_a_text_grows_no_faster_than_the_html(piece):
    def cost(size: int) -> float:
        html = piece * (size // len(piece))
        began = time.process_time()
        from_html(html)
        return time.process_time() - began

    small = min(cost(40_000) for _ in range(3))
    # Eight times the size takes about eight times as long, and 64 times if it were quadratic.
    assert min(cost(320_000) for _ in range(2)) < 30 * small + 0.05
