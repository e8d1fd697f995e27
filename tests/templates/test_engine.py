"""What templates make of variables, and the sentences about their faults."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mailbbgun.core.errors import TooLarge
from mailbbgun.templates import engine
from mailbbgun.templates.engine import Sources, TemplateRefused, names, render, weigh

VALUES = {
    "name": "Ann <Lee>",
    "order": {"id": 17, "total": 12.5, "paid": True, "note": None, "date": "2026-11-28"},
    "items": [{"n": "Pen", "q": 2, "p": 1.25}, {"n": "Ink", "q": 1, "p": 10}],
    "tags": ["a", "b"],
    "big": 2**53,
    "html": "<b>bold</b>",
}


def text(source: str, **more) -> str | None:
    return render(Sources("x", text=source), VALUES | more).text


def html(source: str, **more) -> str | None:
    return render(Sources("x", html=source), VALUES | more).html


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("Hi {{ name }}!", "Hi Ann <Lee>!"),
        ("{{ order.id }} {{ order['total'] }} {{ order.paid }} {{ order.note }}|", "17 12.5 True |"),
        ("{{ order.date }} {{ big }} {{ big + 1 }}", "2026-11-28 9007199254740992 9007199254740993"),
        ("{{ tags[0] }}{{ tags|join(', ') }}{{ tags|length }}", "aa, b2"),
        ("{% for i in items %}{{ loop.index }}. {{ i.n }}\n{% endfor %}", "1. Pen\n2. Ink\n"),
        ("{% for k, v in order.items() %}{{ k }} {% endfor %}", "id total paid note date "),
        ("{% for i in items if i.q > 1 %}{{ i.n }}{% else %}none{% endfor %}", "Pen"),
        ("{% for i in [] %}{% else %}none{% endfor %}", "none"),
        ("{{ '%.2f'|format(order.total) }} {{ '%5d|%-4s|'|format(3, 'x') }}", "12.50     3|x   |"),
        ("{{ items|sum(attribute='p') }}", "11.25"),
        ("{% set t = 0 %}{% set t = t + order.total|float %}{{ t|float * 2 }}", "25"),
        ("{% for i in items %}{{ i.q|int * i.p|float }} {% endfor %}", "2.5 10 "),
        ("{{ missing|default('none') }}{{ order.missing|default(name) }}", "noneAnn <Lee>"),
        ("{{ 'a' if order.paid else 'b' }}{% if missing is defined %}x{% endif %}", "a"),
        ("{{ name|upper }} {{ name.lower() }} {{ 'ann lee'|title }}", "ANN <LEE> ann <lee> Ann Lee"),
        ("{% raw %}{{ name }}{% endraw %}{# hidden #}{{ '{{' }}", "{{ name }}{{"),
        ("a {%- if true %} b {% endif -%} c", "a b c"),
        ("{{ order|tojson }}", '{"id": 17, "total": 12.5, "paid": true, "note": null, "date": "2026-11-28"}'),
        ("日本語 {{ name }} שלום", "日本語 Ann <Lee> שלום"),
        ("{% if order.id|int in [17] and 'a' in tags and name|lower not in tags %}yes{% endif %}", "yes"),
        ("{{ [name, tags[0]]|join(' ') }} {{ (1 + 2) * 3 }} {{ 7 // 2 }}", "Ann <Lee> a 9 3"),
        ("{% with a = name %}{{ a }}{% endwith %}{% set b %}({{ name }}){% endset %}{{ b }}", "Ann <Lee>(Ann <Lee>)"),
        ("{{ items|map(attribute='n')|join }} {{ items[:1]|length }}", "PenInk 1"),
        ("a\n", "a\n"),
    ],
)
def test_a_template_makes_a_text(source, made):
    assert text(source) == made


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("{{ name }}", "Ann &lt;Lee&gt;"),
        ("{{ name|upper }}{{ name ~ '&' }}", "ANN &lt;LEE&gt;Ann &lt;Lee&gt;&amp;"),
        ("{{ html|safe }}", "<b>bold</b>"),
        ('<a title="{{ quoted }}">', '<a title="&#34;&#39;&lt;">'),
        ('<a href="https://x/{{ path }}">', '<a href="https://x/a/b?c=1&amp;d=2">'),
        ("{% set b %}<i>{{ name }}</i>{% endset %}{{ b }}", "<i>Ann &lt;Lee&gt;</i>"),
        ("{{ order.note }}{{ order.id }}", "17"),
        ("{{ html|tojson }}", '"\\u003cb\\u003ebold\\u003c/b\\u003e"'),
    ],
)
def test_variables_are_escaped_in_html_alone(source, made):
    assert html(source, quoted="\"'<", path="a/b?c=1&d=2") == made


@pytest.mark.parametrize(
    "evil",
    ["\r\nBcc: e@example.com", "\n", "\r", "\x00", "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", "\x1b[2J", "\x7f", "\t"],
)
def test_a_subject_is_one_line_whatever_its_variables_hold(evil):
    if evil == "\x00":
        with pytest.raises(TemplateRefused, match="cannot be rendered"):
            render(Sources("a {{ v }} b"), {"v": evil})
        return
    subject = render(Sources("a {{ v }}\n b"), {"v": f"x{evil}y"}).subject
    assert subject.isprintable()
    assert subject.startswith("a x")
    assert subject.endswith("y b")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ nam }}", "Line 1: `nam` is not among the variables; did you mean `name`?"),
        ("a\n\n{{ order.totl }}", "Line 3: `order.totl` is not among the variables; did you mean `order.total`?"),
        ("{{ zzz }}", "Line 1: `zzz` is not among the variables; give it, or write `{{ zzz|default('') }}`."),
        (
            "{% if x %}",
            "Line 1: an `if`, `for`, `with` or `set` is not closed; write its end, such as `{% endif %}` or "
            "`{% endfor %}`.",
        ),
        (
            "{{ first name }}",
            "Line 1: there is a blank within a name; write it as one word, such as `{{ first_name }}`.",
        ),
        ("\n{{ name", "Line 2: the tag is not closed by `}}`."),
        ("{{ name) }}", "Line 1: `)` closes no bracket."),
        ("{{ (name }}", "Line 1: a bracket is not closed."),
        ("{{ name|uper }}", "Line 1: there is no filter `uper`. Did you mean `upper`?"),
        ("{{ a * 2 }}", "Line 1: `*` takes numbers only; say so of each side: `price|float * quantity|int`."),
        (
            "{% include 'x' %}",
            "Line 1: `include` is not available: a template is complete in itself and loads no other.",
        ),
        ("{{ größe }}", "Line 1: 'ö': names have the letters A to Z, digits and _. Others: `{{ data['größe'] }}`."),
        ("{{ 'x'|int }}", "Line 1: invalid float literal."),
        (
            "{{ tags.items() }}",
            "Line 1: `.items()` stands at the end of a `for`: `{% for key, value in mapping.items() %}`.",
        ),
        ("{% for k, v in tags.items() %}{% endfor %}", "'list' object has no attribute 'items'."),
        ("{{ '%1000d'|format(1) }}", "with widths of at most two digits"),
        ("{% raw %}{{", "Line 1: write `{% raw %}` and `{% endraw %}` around the text."),
        ("{{ tags in name }}", "Line 1: `in` takes a text or number before it; say so: `item.id|int in ids`"),
        ("{{ tags }}", "is a list, and a template prints texts and numbers"),
        ("{{ order }}", "is an object, and a template prints texts and numbers"),
    ],
)
def test_a_fault_is_told_with_its_line_and_what_would_be_right(source, why):
    with pytest.raises(TemplateRefused) as refused:
        text(source)
    (told,) = refused.value.fields["text"]
    assert why in told


def test_faults_of_all_parts_are_told_at_once():
    with pytest.raises(TemplateRefused) as refused:
        render(Sources("{{ a }}", "{{ b }}", "{{ c }}"), {})
    assert list(refused.value.fields) == ["subject", "text", "html"]


def test_a_variable_may_have_any_name_and_hide_no_rule():
    assert text("{{ self }} {{ range }} {{ loop.index }}", self="a", range="b", loop={"index": 1}) == "a b 1"


def test_the_names_of_the_variables_that_a_template_uses():
    sources = Sources(
        "{{ a }}", "{% for i in items %}{{ i.x }}{{ o.p }}{{ loop.index }}{% endfor %}{{ range(2)|join }}"
    )
    assert names(sources) == ("a", "items", "o.p")


def test_variables_are_bounded_in_weight_and_depth():
    assert weigh({"a": "x" * 60_000}) > 60_000
    with pytest.raises(TooLarge, match="65536 are the most"):
        weigh({"a": ["é" * 22_000]})
    deep: dict = {}
    for _ in range(20):
        deep = {"a": deep}
    with pytest.raises(TemplateRefused, match="too deeply"):
        weigh(deep)


def test_long_templates_are_refused():
    with pytest.raises(TemplateRefused) as refused:
        engine.check(Sources("x" * 2_001, "x" * 500_001))
    assert sorted(refused.value.fields) == ["subject", "text"]


def test_a_table_of_some_hundred_rows_is_no_attack():
    rows = [{"name": f"Thing {i}", "price": i * 1.5, "count": i, "unit": "kg"} for i in range(300)]
    row = (
        "<tr><td>{{ r.name }}</td><td>{{ '%.2f'|format(r.price) }}</td><td>{{ r.count }}</td><td>{{ r.unit }}</td></tr>"
    )
    made = render(Sources("x", html=f"<table>{{% for r in rows %}}{row}{{% endfor %}}</table>"), {"rows": rows}).html
    assert made.count("<tr>") == 300


def test_threads_render_the_same_template_at_once():
    sources = Sources("{{ n }}", "{% for i in l %}{{ i }}{% endfor %}", "<p>{{ n }}</p>")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda n: render(sources, {"n": f"<{n}>", "l": [n] * 20}), range(400)))
    finally:
        sys.setswitchinterval(interval)
    assert made == [engine.Rendered(f"<{n}>", f"{n}" * 20, f"<p>&lt;{n}&gt;</p>") for n in range(400)]
