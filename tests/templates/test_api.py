"""Templates over HTTP: their versions, their locales, what is refused, and who sees them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.flow.service import until
from tests.templates.conftest import VALUES, WELCOME, Tenant
from tests.tenants.conftest import code


def faults(answer) -> dict[str, list[str]]:
    assert code(answer)[0] == 400, answer.text
    return answer.json()["error"]["fields"]


def test_a_template_is_added_shown_and_found_by_id_or_name(tenant):
    made = tenant.template(description="For new customers")
    assert (made["active"], made["version"], made["text_made"]) == (1, 1, True)
    assert made["variables"] == ["link", "name", "order.id"]
    assert made["text"] == "Hello {{ name }}\n\nYour order {{ order.id }} ({{ link }}).\n"
    assert sorted(made["locales"]) == ["ar", "ja"]
    for called in (made["id"], "welcome"):
        assert tenant.ask("GET", f"/templates/{called}").json() == made
    listed = tenant.ask("GET", "/templates?name=welcome").json()
    assert (listed["count"], listed["templates"][0]["id"]) == (1, made["id"])


def test_a_mail_is_seen_before_it_is_sent(tenant):
    tenant.template()
    assert tenant.rendered() == {
        "subject": "Welcome, Ann <Lee>!",
        "text": "Hello Ann <Lee>\n\nYour order 17 (https://example.com/17).\n",
        "html": '<h1>Hello Ann &lt;Lee&gt;</h1><p>Your order <a href="https://example.com/17">17</a>.</p>',
        "locale": None,
        "version": 1,
        "warnings": [],
    }
    assert tenant.rendered(variables=VALUES | {"surplus": 1})["warnings"] == ["The variable 'surplus' is not used."]


def test_a_reader_gets_the_variant_of_the_locale_else_of_the_language_else_the_default(tenant):
    tenant.template()
    for asked in ("ja-JP", "ja_jp", "JA"):
        japanese = tenant.rendered(locale=asked)
        assert (japanese["locale"], japanese["subject"]) == ("ja", "ようこそ、Ann <Lee>様")
        assert japanese["text"] == "Ann <Lee>様\n\nご注文番号は 17 です。https://example.com/17\n"
    arabic = tenant.rendered(locale="ar-EG")
    assert arabic["html"].startswith('<div dir="rtl" lang="ar"><p>مرحبا Ann &lt;Lee&gt;، طلبك رقم 17.</p>')
    assert arabic["text"].startswith("مرحبا Ann <Lee>، طلبك رقم 17.")
    german = tenant.rendered(locale="de")
    assert (german["locale"], german["warnings"]) == (None, ["There is no variant for de; this is the default."])
    refused = tenant.ask("POST", "/templates/welcome/render", json={"locale": "not a locale"})
    assert "language tag" in faults(refused)["locale"][0]


def test_a_preview_has_a_link_to_unsubscribe_as_a_mail_has(tenant):
    tenant.template(text="{{ unsubscribe_url }}")
    assert tenant.rendered()["text"] == "https://mail.example.com/unsubscribe/…"


def test_every_process_soon_sends_the_version_that_is_active(tenant):
    tenant.template(locales={})

    def subject() -> str:
        body = {"to": "ann@example.com", "from": "shop@example.com", "template": "welcome", "variables": VALUES}
        return tenant.ask("POST", "/messages", json=body).json()["subject"]

    assert {subject() for _ in range(8)} == {"Welcome, Ann <Lee>!"}
    tenant.ask("PATCH", "/templates/welcome", json={"subject": "Second"})
    until(lambda: {subject() for _ in range(8)} == {"Second"})
    tenant.ask("POST", "/templates/welcome/versions/1/activate")
    until(lambda: {subject() for _ in range(8)} == {"Welcome, Ann <Lee>!"})


def test_every_change_of_the_texts_is_a_version_that_can_be_compared_and_activated_again(tenant):
    tenant.template()
    changed = tenant.ask("PATCH", "/templates/welcome", json={"subject": "Hi {{ name }}"}).json()
    assert (changed["active"], changed["version"], changed["html"]) == (2, 2, WELCOME["html"])
    draft = tenant.ask("PATCH", "/templates/welcome", json={"html": "<p>New</p>", "activate": False}).json()
    assert (draft["active"], draft["version"], draft["text"]) == (2, 3, "New\n")
    assert tenant.rendered()["subject"] == "Hi Ann <Lee>"
    assert tenant.rendered(version=1)["subject"] == "Welcome, Ann <Lee>!"
    history = tenant.ask("GET", "/templates/welcome/versions").json()
    assert [(one["number"], one["active"]) for one in history["versions"]] == [(3, False), (2, True), (1, False)]
    diff = tenant.ask("GET", "/templates/welcome/versions/2/diff").json()
    assert diff["differences"] == [
        {
            "locale": "",
            "part": "subject",
            "diff": "--- old\n+++ new\n@@ -1 +1 @@\n-Welcome, {{ name }}!\n+Hi {{ name }}",
        }
    ]
    back = tenant.ask("POST", "/templates/welcome/versions/1/activate").json()
    assert (back["active"], back["subject"]) == (1, WELCOME["subject"])
    assert tenant.rendered()["subject"] == "Welcome, Ann <Lee>!"
    for path in ("/versions/9", "/versions/9/diff"):
        assert code(tenant.ask("GET", f"/templates/welcome{path}")) == (404, "not_found")
    assert code(tenant.ask("POST", "/templates/welcome/versions/9/activate")) == (404, "not_found")


def test_a_change_that_changes_no_text_makes_no_version(tenant):
    tenant.template()
    same = tenant.ask("PATCH", "/templates/welcome", json={"subject": WELCOME["subject"], "description": "x"}).json()
    assert (same["version"], same["description"]) == (1, "x")
    renamed = tenant.ask("PATCH", "/templates/welcome", json={"name": "hello"}).json()
    assert (renamed["name"], renamed["version"]) == ("hello", 1)


def test_a_locale_is_changed_and_removed_alone(tenant):
    tenant.template()
    japanese = {"ja": {"subject": "{{ name }}"}, "ar": None, "he-IL": {"subject": "שלום", "text": "שלום {{ name }}"}}
    changed = tenant.ask("PATCH", "/templates/welcome", json={"locales": japanese}).json()
    assert sorted(changed["locales"]) == ["he-IL", "ja"]
    assert changed["locales"]["ja"]["text"] == WELCOME["locales"]["ja"]["text"]
    assert tenant.rendered(locale="he-IL")["text"] == "שלום Ann <Lee>"


def test_of_two_changes_at_once_none_is_lost_unnoticed(tenant):
    tenant.template()

    def change(number):
        return tenant.ask("PATCH", "/templates/welcome", json={"subject": f"{number}"}).status_code

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(change, range(8)))
    assert set(answers) <= {200, 409}
    count = tenant.ask("GET", "/templates/welcome/versions").json()["count"]
    assert count == 1 + answers.count(200)


def test_old_versions_beyond_the_kept_ones_go_but_never_the_active_one(tenant):
    tenant.template()
    for number in range(101):
        change = {"subject": f"{number}", "activate": False}
        assert tenant.ask("PATCH", "/templates/welcome", json=change).status_code == 200
    numbers = [one["number"] for one in tenant.ask("GET", "/templates/welcome/versions").json()["versions"]]
    assert numbers == [*range(102, 2, -1), 1]


def test_css_is_written_into_the_elements_on_request(tenant):
    html = (
        "<html><head><style>td{padding:1px} a:hover{color:red} @import url(file:///etc/passwd);</style></head><body><table>"
        '{% for item in items %}<tr {% if item.new %}class="new"{% endif %}><td>{{ item.name }}</td></tr>{% endfor %}'
        "</table></body></html>"
    )
    made = tenant.template(html=html, inline_css=True, locales={})
    assert '<td style="padding: 1px;">{{ item.name }}</td>' in made["html"]
    assert "a:hover" in made["html"]
    items = [{"name": "A", "new": True}, {"name": "B", "new": False}]
    rendered = tenant.rendered(variables={"items": items, "name": "x"})
    assert rendered["html"].count('style="padding: 1px;"') == 2
    assert rendered["html"].count('class="new"') == 1
    assert rendered["text"] == "A\nB\n"
    locales = {"de": {"subject": "x", "html": html.replace("px", "em")}, "ja": {"subject": "x", "text": "y"}}
    both = tenant.template(name="both", html=html, inline_css=True, locales=locales)
    assert '<td style="padding: 1px;">{{ item.name }}</td>' in both["html"]
    assert '<td style="padding: 1em;">{{ item.name }}</td>' in both["locales"]["de"]["html"]
    refused = tenant.ask(
        "POST", "/templates", json=WELCOME | {"name": "x", "html": "<div>" * 50_000, "inline_css": True}
    )
    assert "inline_css" in faults(refused)


def test_faults_are_told_with_their_part_and_line(tenant):
    wrong = {
        "subject": "{{ name",
        "html": "a\n{% includ 'x' %}",
        "locales": {"ja": {"subject": "x", "text": "{{ a|uper }}"}},
    }
    assert faults(tenant.ask("POST", "/templates", json=WELCOME | wrong)) == {
        "subject": ["Line 1: the tag is not closed by `}}`."],
        "html": ["Line 2: `includ` is not a statement; there are if, elif, else, for, set, with and raw."],
        "locales.ja.text": ["Line 1: there is no filter `uper`. Did you mean `upper`?"],
    }
    tenant.template()
    missing = tenant.ask(
        "POST", "/templates/welcome/render", json={"variables": {"name": "x", "link": "y", "ordr": {}}}
    )
    assert code(missing) == (400, "template_error")
    assert faults(missing)["html"] == ["Line 1: `order` is not among the variables; did you mean `ordr`?"]
    heavy = tenant.ask("POST", "/templates/welcome/render", json={"variables": {"name": "x" * 70_000}})
    assert code(heavy) == (413, "too_large")


def test_a_template_needs_a_subject_a_body_and_a_name_of_its_own(tenant):
    assert list(faults(tenant.ask("POST", "/templates", json={"name": "x", "subject": "y"}))) == ["text"]
    assert list(faults(tenant.ask("POST", "/templates", json={"name": "x", "text": "y"}))) == ["subject"]
    for name in ("", "a b", "a/b", ".a", "ä", "x" * 65, "00000000-0000-7000-8000-000000000000"):
        assert list(faults(tenant.ask("POST", "/templates", json=WELCOME | {"name": name}))) == ["name"], name
    tenant.template()
    assert code(tenant.ask("POST", "/templates", json=WELCOME)) == (409, "conflict")


def test_all_texts_of_a_version_together_are_bounded(tenant):
    for text, why in (("x" * 400_000, "characters"), ("{{ name }}" * 4_000, "tags")):
        variants = {name: {"subject": "x", "text": text} for name in ("de", "fr", "it", "es", "pt", "pl")}
        given = dict(list(variants.items())[:3]) if text[0] == "x" else variants
        refused = tenant.ask("POST", "/templates", json={"name": "big", "subject": "x", "text": "x", "locales": given})
        assert code(refused) == (413, "too_large")
        assert why in refused.json()["error"]["message"]


def test_the_same_key_adds_one_template(tenant):
    headers = {"Idempotency-Key": "once"}
    first, again = (tenant.ask("POST", "/templates", json=WELCOME, headers=headers) for _ in range(2))
    assert (first.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert first.json() == again.json()
    assert first.headers["Location"] == f"{tenant.locked.url}/templates/{first.json()['id']}"


def test_a_deleted_template_is_gone_with_its_versions(tenant):
    tenant.template()
    tenant.ask("PATCH", "/templates/welcome", json={"subject": "Hi {{ name }}"})
    assert tenant.ask("DELETE", "/templates/welcome").status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/versions"), ("GET", "/versions/1")):
        assert code(tenant.ask(method, f"/templates/welcome{path}")) == (404, "not_found")
    tenant.template()


def test_other_tenants_and_keys_without_the_scope_see_no_template(tenant, locked):
    made = tenant.template()
    other = Tenant(locked)
    for called in (made["id"], "welcome"):
        for method, path, body in (
            ("GET", "", None),
            ("PATCH", "", {"subject": "x"}),
            ("DELETE", "", None),
            ("POST", "/render", {}),
        ):
            assert code(other.ask(method, f"/templates/{called}{path}", json=body)) == (404, "not_found")
    assert other.ask("GET", "/templates").json() == {"templates": [], "count": 0}
    assert code(tenant.ask("GET", "/templates", key=tenant.another("messages:write"))) == (403, "forbidden")


def test_a_test_key_has_templates_of_its_own(tenant):
    live = tenant.template()
    test_key = tenant.another("templates", kind="test")
    assert code(tenant.ask("GET", f"/templates/{live['id']}", key=test_key)) == (404, "not_found")
    tested = tenant.ask("POST", "/templates", key=test_key, json=WELCOME | {"subject": "Test {{ name }}"}).json()
    assert tested["test"]
    assert tenant.ask("GET", "/templates/welcome", key=test_key).json()["id"] == tested["id"]
    assert tenant.ask("GET", "/templates/welcome").json()["id"] == live["id"]
    changed = tenant.ask("PATCH", "/templates/welcome", key=test_key, json={"subject": "Again"})
    assert changed.json()["active"] == 2
    assert tenant.ask("POST", "/templates/welcome/versions/1/activate", key=test_key).json()["active"] == 1
    assert len(tenant.ask("GET", "/templates/welcome/versions/2/diff", key=test_key).json()["differences"]) == 1
    assert tenant.ask("DELETE", "/templates/welcome", key=test_key).status_code == 204
    assert tenant.ask("GET", "/templates/welcome").json()["id"] == live["id"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/versions/99999999999999999999999", None, 404),
        ("GET", "/versions/99999999999999999999999/diff", None, 404),
        ("GET", "/versions/2147483648", None, 404),
        ("GET", "/versions/1/diff?against=99999999999999999999", None, 400),
        ("GET", "/versions/1/diff?against=999999999999999999", None, 404),
        ("POST", "/versions/99999999999999999999999/activate", {}, 404),
        ("POST", "/render", {"version": 2**63 - 1}, 404),
        ("POST", "/render", {"version": 1e308}, 400),
    ],
)
def test_a_number_that_no_version_can_have_is_that_of_none(tenant, method, path, body, status):
    tenant.template()
    answer = tenant.ask(method, f"/templates/welcome{path}", json=body)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("texts", [{"body": "x"}, {"ja": {"subject": {}}}, {"x": None}, {"ja": {"x": {"y": 1}}}])
def test_unknown_fields_of_a_locale_are_named(tenant, texts):
    answer = tenant.ask("POST", "/templates", json=WELCOME | {"locales": {"ja": texts}})
    name = next(iter(texts))
    assert f"Unknown field `{name}`" in faults(answer)[f"locales.ja.{name}"][0]
