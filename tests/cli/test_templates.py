"""``bin/mailbbgun template``: templates on the command line."""

from pathlib import Path

from tests.cli.conftest import Shell


def test_a_template_is_saved_shown_rendered_activated_and_deleted(shell: Shell, tmp_path: Path) -> None:
    html, text = tmp_path / "welcome.html", tmp_path / "ja.txt"
    html.write_text("<p>Hello {{ name }}</p>")
    text.write_text("{{ name }}様\n")
    made = shell.json("template", "save", "welcome", "--subject", "Hi {{ name }}", "--html", str(html))
    assert (made["version"], made["variables"], made["text"]) == (1, ["name"], "Hello {{ name }}\n")
    again = shell.json(
        "template", "save", "welcome", "--locale", "ja_jp", "--subject", "件名", "--text", str(text), "--draft"
    )
    assert (again["active"], again["version"], list(again["locales"])) == (1, 2, ["ja-JP"])
    assert "version 2 of welcome is active" in shell.run("template", "activate", "welcome", "2").stdout
    values = tmp_path / "values.json"
    values.write_text('{"name": "Ann", "more": 1}')
    rendered = shell.json("template", "render", "welcome", "--locale", "ja-JP", "--variables", f"@{values}")
    assert (rendered["subject"], rendered["text"]) == ("件名", "Ann様\n")
    plain = shell.run("template", "render", made["id"], "--variables", '{"name": "Ann\\u001b", "more": 1}')
    assert "--- subject\nHi Ann\n--- text\nHello Ann\\x1b\n" in plain.stdout
    assert plain.stderr == "mailbbgun: The variable 'more' is not used.\n"
    shown = shell.run("template", "show", "welcome").stdout
    assert "--- text (ja-JP)\n{{ name }}様" in shown
    assert [one["name"] for one in shell.json("template", "list")["templates"]] == ["welcome"]
    assert shell.run("template", "delete", "welcome", "--yes").stdout == "deleted welcome\n"
    assert shell.json("template", "list")["count"] == 0


def test_a_fault_in_a_template_is_told_with_its_line(shell: Shell, tmp_path: Path) -> None:
    html = tmp_path / "bad.html"
    html.write_text("<p>\n{{ name|uper }}</p>")
    told = shell.run("template", "save", "bad", "--subject", "x", "--html", str(html), code=2).stderr
    assert "html: Line 2: there is no filter `uper`. Did you mean `upper`?" in told
    html.write_bytes(b"\xff")
    assert "is not UTF-8" in shell.run("template", "save", "bad", "--subject", "x", "--html", str(html), code=2).stderr
    html.write_text("<p>{{ order.id }}</p>")
    shell.run("template", "save", "bad", "--subject", "x", "--html", str(html))
    told = shell.run("template", "render", "bad", code=2).stderr
    assert "`order` is not among the variables" in told
    assert "not JSON" in shell.run("template", "render", "bad", "--variables", "{", code=2).stderr
    assert shell.run("template", "show", "nobody", code=1).stderr == "mailbbgun: There is no such template.\n"
    shell.run("template", "delete", "bad", "--yes")
