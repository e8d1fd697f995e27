"""Templates and variables that try to take much time or memory, to end the process, or to read what is not theirs."""

from collections.abc import Callable
from typing import Any

LONG = "x" * 60_000
NUMBERS = list(range(7_500))
PAIRS = {f"k{i}": [1, 2, 3, 4, 5] for i in range(600)}


def _chain(depth: int) -> Any:
    return {"a": _chain(depth - 1)} if depth else 1


LOOP = "{% for i in l %}{% for j in l %}"
END = "{% endfor %}{% endfor %}"


def _forever(inside: str) -> str:
    """Return a template that goes on with this until something stops it."""
    return f"{LOOP}{inside}{END}"


def _condition(expression: str) -> str:
    return _forever(f"{{% if {expression} %}}{{% endif %}}")


def _kept(first: str, again: str, use: str, times: int = 30) -> str:
    return "{% set x = " + first + " %}" + f"{{% set x = {again} %}}" * times + use


VARIABLES: dict[str, dict[str, Any]] = {
    "light": {"l": list(range(900)), "s": "x" * 4_000, "t": "x" * 4_000, "d": {"a": 1, "items_": [1]}, "n": 10**9},
    "long text": {"l": list(range(100)), "s": LONG, "d": {"a": 1}, "n": 10**9},
    "two long texts": {"l": list(range(100)), "s": LONG[:30_000], "t": LONG[:30_000], "n": 10**9},
    "umlauts": {"l": list(range(100)), "s": "é" * 20_000, "n": 10**9},
    "numbers": {"l": NUMBERS, "s": "x", "n": 10**9},
    "two lists": {"l": NUMBERS[:3_700], "m": NUMBERS[:3_700], "s": "x", "n": 10**9},
    "mapping": {"l": list(range(100)), "d": PAIRS, "e": {**PAIRS}, "s": "x", "n": 10**9},
    "deep": {"l": list(range(100)), "d": [_chain(7)] * 280, "e": [_chain(7) for _ in range(280)], "s": "x"},
    "loop": {"w": "%1000000000d", "loop": {"index": ["a"], "length": 10**9}, "l": [1]},
}

_REPEATED = {
    "a list repeated": "{{ ['a'] * 100000000 }}",
    "a list repeated, counted": "{{ (['a'] * 100000000)|length }}",
    "a variable list repeated": "{{ l * n }}",
    "a variable list repeated in brackets": "{{ (l) * (n) }}",
    "a list repeated the other way round": "{{ 100000000 * l }}",
    "a list repeated by a length": "{{ l * s|length * s|length }}",
    "a list repeated behind a filter": "{{ l|list * n|int }}",
    "a list repeated behind a number filter in brackets": "{{ (l|length)|list * n|int }}",
    "a list repeated by what calls itself loop": "{{ loop.index * loop.length }}",
    "a list item repeated": "{{ [l][0] * n|int }}",
    "a text repeated": "{{ 'a' * 2000000000 }}",
    "a text repeated in a condition": "{% if 'a' * 2000000000 %}{% endif %}",
    "a power": "{{ 9**9**9**9 }}",
    "a product of many": "{{ " + " * ".join(["999999999999999"] * 50) + " }}",
    "a range": "{{ range(100000000)|list|length }}",
    "ranges": _condition("range(99999)|list"),
    "a sum of lists": "{{ " + " + ".join(["l"] * 50) + " }}",
    "a few sums of lists": _condition("(" + " + ".join(["l"] * 10) + ")|list"),
    "a list doubled": _kept("l", "x + x", "{{ x }}"),
    "a list doubled in a loop": "{% set x = l %}{% for i in x + x %}{% set x = x + x %}{% endfor %}{{ x }}",
    "a text doubled": _kept("s", "x ~ x", "{{ x }}"),
    "a text doubled by +": _kept("s", "x + x", "{{ x }}"),
    "a text doubled by printing": "{% set x %}ab{% endset %}"
    + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40
    + "{{ x }}",
    "a text doubled by with": "{% with x = s %}" + "{% with x = x ~ x %}" * 20 + "{{ x }}" + "{% endwith %}" * 21,
    "a list of itself": _kept("[1]", "[x, x]", "{{ x }}"),
    "a list of itself, joined": _kept("[1]", "[x, x]", "{{ x|join }}"),
    "a list of itself, as a text": _kept("[1]", "[x, x]", "{{ x|string|length }}"),
    "a list of itself, as JSON": _kept("[1]", "[x, x]", "{{ x|tojson }}"),
    "a list of itself, compared": _kept("[1]", "[x, x]", "{{ x == [x, x] }}"),
    "a tuple of itself": _kept("[1]", "(x, x)", "{{ x|tojson }}"),
    "a tuple without brackets of itself": _kept("[1]", "x, x", "{{ x|tojson }}"),
    "a mapping of itself": _kept("[1]", "{'a': x, 'b': x}", "{{ x|tojson }}"),
    "a list of lists by loops": "{% for x in [[l, l, l, l]] %}" * 12 + "{{ x|tojson }}" + "{% endfor %}" * 12,
    "zipped with itself": _kept("l", "x|zip(x)", "{{ x|tojson }}"),
    "chained with itself": _kept("l", "x|chain(x)", "{{ x|list|length }}"),
    "items that default to the list": _kept("l", "x|map(attribute='no')|map('default', x)", "{{ x|tojson }}", 8),
    "a namespace in itself": "{% set ns = namespace(x=1) %}{% set ns.x = ns %}{{ ns }}",
    "a namespace that doubles": "{% set ns = namespace(x=l) %}{% for i in l %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
}
_FILTERED = {
    f"{name} again and again": _condition(expression)
    for name, expression in {
        "upper": "s|upper",
        "title": "s|title",
        "capitalize": "s|capitalize",
        "replace": "s|replace('x', 'yy')",
        "replace nothing": "s|replace('', 'yy')",
        "urlencode": "s|urlencode",
        "escape": "s|escape",
        "tojson": "d|tojson",
        "tojson of a list": "l|tojson",
        "striptags": "s|striptags",
        "truncate": "s|truncate(length=3)",
        "trim": "s|trim('x')",
        "split": "s|split('')",
        "split method": "s.split('x')",
        "strip method": "s.strip('x')",
        "lines": "s|lines",
        "list of a text": "s|list",
        "reverse": "l|reverse|list",
        "sort": "l|sort",
        "sort by text": "l|sort(attribute='a', reverse=true)",
        "groupby": "l|groupby('a')",
        "unique": "l|unique|list",
        "batch": "l|batch(1)|list",
        "slice": "l|slice(3)|list",
        "map": "l|map('string')|list",
        "join": "l|join(', ')",
        "select": "l|select('odd')|list",
        "dictsort": "d|dictsort",
        "sum": "l|sum",
        "max": "l|max",
        "a slice": "l[1:]",
        "a slice of a text": "s[1:]",
        "a text backwards": "s[::-1]",
        "a letter": "s[20000]",
        "a text as a key": "d[s]|default('')",
        "a text got": "d.get(s)",
        "a text sought in a mapping": "s in d",
        "a text sought in a list": "s in l",
        "a text sought in a text": "'yx' in s",
        "a number sought": "-1 in l",
        "equal texts": "s == t",
        "ordered texts": "s < t",
        "equal lists": "l == m",
        "equal mappings": "d == e",
        "ordered mappings": "d < e",
        "joined texts": "s ~ s == t",
        "a mapping as a text": "d|string",
        "a mapping in capitals": "d|upper",
        "a mapping in a URL": "d|urlencode",
        "a mapping joined to a text": "d ~ ''",
        "length": "l|length",
        "first": "d|first",
        "last": "s|last",
        "a mapping as a list": "d|list",
        "int": "s|int",
        "default": "s|default('x')",
        "default of nothing": "no|default(s)",
        "a range made": "range(2000)",
        "startingwith": "s is startingwith 'x'",
        "a list as the beginning of a text": "l is startingwith 'x'",
        "a list sought in a text": "l in s|upper",
        "a test": "l is iterable",
        "format": "'%99s'|format(s)",
        "filesizeformat": "n|filesizeformat",
    }.items()
}
_COUNTED = {
    "loops in loops": "{% for i in l %}" * 20 + "{% endfor %}" * 20,
    "printing": _forever("{{ s }}"),
    "printing a letter": _forever("{{ 1 }}"),
    "printing much text of the template": _forever("y" * 200_000),
    "setting": _forever("{% set x = s %}"),
    "setting blocks": _forever("{% set x %}{{ s }}{% endset %}"),
    "items": "{% for i in l %}{% for k, v in d.items() %}{% endfor %}{% endfor %}",
    "items left at once": "{% for i in l %}{% for k, v in d.items() %}{% break %}{% endfor %}{% endfor %}",
    "items counted": _condition("d.items()|length"),
    "items by a filter counted": _condition("d|items|length"),
    "items never taken": "{% for i in l %}{% for k, v in d.items() if false %}{% endfor %}{% endfor %}",
    "items of nothing": _forever("{% for k in d.keys() %}{% endfor %}"),
    "wordwrap": _condition("s|wordwrap(width=3)"),
    "a changed loop": _condition("loop.changed(d)"),
    "lower as a test": _condition("s is lower"),
    "indent by much": "{{ s|indent(1000000000) }}",
    "indented JSON": "{{ l|tojson(indent=10000) }}",
    "a huge batch": "{{ l|batch(1000000000, 'x')|list|length }}",
    "a huge slice": "{{ l|slice(100000000)|list|length }}",
    "a long round": "{{ 1.5|round(1000000000) }}",
    "joined by a long text": "{{ l|join(s) }}",
    "replaced by a long text": "{{ s|replace('x', s) }}",
    "a wide format": "{{ '%1000000000d'|format(1) }}",
    "a wide format by a name": "{{ ['%1000000000d']|map('format', 1)|list }}",
    "a wide format by a hidden name": "{{ ['%1000000000d']|map('\\x66ormat', 1)|list }}",
    "a wide format by a variable": "{{ w|format(1) }}",
    "sums of lists formatted": _condition("'%s'|format(l + l + l + l + l + l + l + l)"),
    "ranges formatted": _condition("'%s'|format(range(99999))"),
    "a wide format by a star": "{{ '%*d'|format(1000000000, 1) }}",
    "a wide format as a method": "{{ '{:>1000000000}'.format(1) }}",
    "a precise format": "{{ '%.1000000000f'|format(1) }}",
    "a wide justification": "{{ s.rjust(1000000000) }}",
    "a text joined as a method": "{{ s.join(l) }}",
    "a text replaced as a method": "{{ s.replace('x', s) }}",
}
_RECURSIVE = {
    "a macro that calls itself": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "a recursive loop": "{% for i in [l] recursive %}{{ loop([l]) }}{% endfor %}",
    "a call": "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{% endcall %}",
    "a filter block": "{% filter upper %}x{% endfilter %}",
    "an include": "{% include '/etc/passwd' %}",
    "an import": "{% import 'os' as os %}{{ os.environ }}",
    "an extends": "{% extends 'x' %}{% block a %}{% endblock %}",
    "brackets": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "lists in lists": "{{ " + "[" * 20_000 + "]" * 20_000 + " }}",
    "nots": "{{ " + "not " * 100_000 + "1 }}",
    "minuses": "{{ " + "-" * 100_000 + "1 }}",
    "pluses": "{{ " + "+".join(["1"] * 100_000) + " }}",
    "tildes": "{{ " + "~".join(["1"] * 100_000) + " }}",
    "ands": "{{ " + " and ".join(["1"] * 50_000) + " }}",
    "powers": "{{ " + "**".join(["1"] * 50_000) + " }}",
    "commas": "{{ [" + ",".join(["1"] * 100_000) + "] }}",
    "filters on filters": "{{ 1" + "|abs" * 50_000 + " }}",
    "parts of parts": "{{ a" + ".b" * 100_000 + " }}",
    "elifs": "{% if 0 %}" + "{% elif 0 %}" * 30_000 + "{% endif %}",
    "ifs in ifs": "{% if 1 %}" * 30_000 + "{% endif %}" * 30_000,
    "fors in fors": "{% for i in l %}" * 30_000 + "{% endfor %}" * 30_000,
    "sets in sets": "{% set a %}" * 30_000 + "{% endset %}" * 30_000,
    "many tags": "{{ 1 }}" * 60_000,
    "many open tags": "{{" * 200_000,
    "many quotes": "{{ '" + "\\'" * 200_000,
    "many comments": "{#" * 200_000,
    "many raws": "{% raw %}" * 50_000,
    "one megabyte": "x" * 1_000_000,
}
_ESCAPES = {
    f"reaching for {name}": "{{ " + expression + " }}"
    for name, expression in {
        "a class": "d.__class__",
        "a class by a text": "d['__class__']",
        "a class by a filter": "d|attr('__class__')",
        "a class by map": "[d]|map(attribute='__class__')|list|tojson",
        "a class of a text": "''.__class__.__mro__",
        "globals": "d.get.__globals__",
        "the owner of a method": "d.get['__self__']",
        "a method": "d.get",
        "a change": "d.clear()",
        "a pop": "d.pop('a')",
        "an update": "d.update(b=1)",
        "a change behind brackets": "(d.clear)()",
        "the state": "debug()",
        "itself": "self",
        "super": "super()",
        "the environment": "environ",
        "lipsum's globals": "lipsum.__globals__",
        "cycler's globals": "cycler.__init__.__globals__",
        "joiner": "joiner()",
        "namespace": "namespace()",
        "dict": "dict(a=1)",
        "request": "request.application",
        "config": "config.items()",
        "a file": "open('/etc/passwd')",
        "an import": "__import__('os')",
        "eval": "eval('1')",
        "a filter by a name": "[1]|map('pprint')|list",
        "a test by a name": "[1]|select('callable')|list",
        "NUL": "'\\u0000'",
    }.items()
}
ATTACKS: dict[str, str] = {**_REPEATED, **_FILTERED, **_COUNTED, **_RECURSIVE, **_ESCAPES}

Contained = Callable[[str], None]
