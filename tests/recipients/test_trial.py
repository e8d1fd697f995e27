"""What is found out about a message without rendering it is what the engine says."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.core.errors import InvalidInput, TooLarge
from mailbbgun.recipients.trial import Trial
from mailbbgun.settings.settings import Settings
from mailbbgun.templates import engine
from mailbbgun.templates.engine import Sources

WIDE = Settings(MAX_SUBJECT_SIZE=10_000)
TEXTS = st.text(st.sampled_from("ab {}%<>&\n\t\u00a0é\u2028日\x07-_'\""), max_size=12)
NAMES = st.sampled_from(["a", "b", "_c", "name", "true", "range", "loop", "self", "not"])
PIECES = st.one_of(
    TEXTS,
    NAMES.map("{{{{ {} }}}}".format),
    NAMES.map("{{{{{}}}}}".format),
    NAMES.map("{{{{- {}|upper -}}}}".format),
    NAMES.map("{{% if {0} %}}yes{{% endif %}}".format),
    NAMES.map("{{# {} #}}".format),
)
SOURCES = st.lists(PIECES, max_size=5).map("".join)
VALUES = st.one_of(TEXTS, st.integers(-9, 9), st.booleans(), st.none(), st.floats(0, 1), st.lists(TEXTS, max_size=2))
VARIABLES = st.dictionaries(NAMES, VALUES, max_size=5)


def refusal(do):
    """Return the kind and the fields of the error that this raises, or None."""
    try:
        do()
    except (InvalidInput, TooLarge) as error:
        return type(error), error.fields
    return None


@given(SOURCES, SOURCES, SOURCES, VARIABLES)
def test_a_trial_says_what_the_engine_says(subject, text, html, variables):
    sources = Sources(subject, text, html)
    refused = refusal(lambda: Trial(sources, WIDE))
    if refused:
        assert refused == refusal(lambda: engine.check(sources))
        return
    trial = Trial(sources, WIDE)
    refused = refusal(lambda: engine.render(sources, variables))
    assert refused == refusal(lambda: trial.of(variables))
    if not refused:
        rendered = engine.render(sources, variables)
        found, size = trial.of(variables)
        assert found == rendered.subject
        real = len((rendered.text or "").encode()) + len((rendered.html or "").encode())
        assert size >= 0.2 * real - 100


def test_variables_that_are_too_large_are_refused_although_the_template_only_names_them():
    trial = Trial(Sources("{{ a }}", "{{ a }}"), WIDE)
    assert trial.of({"a": "x"})[0] == "x"
    with pytest.raises(TooLarge):
        trial.of({"a": "x", "unused": "y" * (engine.VARIABLES_SIZE + 1)})
    with pytest.raises(TooLarge):
        trial.of({"a": "x", "unused": ["y" * (engine.VARIABLES_SIZE + 1)]})


def test_a_subject_or_a_text_that_variables_make_too_long_is_refused():
    trial = Trial(Sources("{{ a }}", "{{ a }}"), Settings(MAX_SUBJECT_SIZE=10, MAX_TEXT_SIZE=30))
    assert trial.of({"a": "x" * 10})[0] == "x" * 10
    with pytest.raises(InvalidInput) as error:
        trial.of({"a": "x" * 11})
    assert "subject" in error.value.fields


def test_a_text_that_variables_make_too_long_is_refused_whatever_its_letters():
    trial = Trial(Sources("s", "{{ a }}"), Settings(MAX_TEXT_SIZE=300))
    assert trial.of({"a": "\u65e5" * 100})[0] == "s"
    with pytest.raises(InvalidInput) as error:
        trial.of({"a": "\u65e5" * 101})
    assert "text" in error.value.fields


NAMES_OF_TWO = [chr(0x4E00 + i // 100) + chr(0x4E00 + i % 100) for i in range(8_182)]


@pytest.mark.parametrize(
    ("body", "variables"),
    [
        ("{{ a }}" * 4_500, {"a": "x", "unused": "y" * 12_000}),
        ("{{ a }}" * 4_500, {"a": "x", "unused": "\u65e5" * 10_000}),
        ("{{ a }}" * 3_000, {"a": "<" * 80}),
        ("{{ a }}" * 4_990, {"a": "\U0001f600" * 50}),
        ("{{ a }}", {"a": "x", **dict.fromkeys(NAMES_OF_TWO, "")}),
    ],
    ids=["long unused", "long unused in Japanese", "escaped", "emoji", "many names"],
)
def test_what_is_accepted_without_the_engine_is_no_more_work_than_it_takes(body, variables):
    for sources in (Sources("s", body), Sources("s", None, body)):
        trial = Trial(sources, Settings(MAX_TEXT_SIZE=50_000_000))
        assert refusal(partial(trial.of, variables)) == refusal(partial(engine.render, sources, variables))
