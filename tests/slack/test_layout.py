"""The layout of messages to Slack."""

import json

import pytest

from mailbbgun.slack.layout import FIELD, HEADER, LOOKS, MOST_BLOCKS, SECTION, SlackContent, escaped, payload, split


def blocks_of(content: SlackContent) -> list[dict]:
    made = payload(content)
    return made["blocks"] if content.level is None else made["attachments"][0]["blocks"]


def test_a_level_gives_icon_and_colour_and_what_people_write_is_no_mention() -> None:
    content = SlackContent(
        text="<!channel> a & b", title="<db1>", level="critical", fields={"Host": "<@U1>", "Free": ""}
    )
    (attachment,) = payload(content)["attachments"]
    header, text, fields = attachment["blocks"]
    assert attachment["color"] == LOOKS["critical"].colour
    assert attachment["fallback"] == "[critical] &lt;db1&gt;: &lt;!channel&gt; a &amp; b"
    assert header["text"] == {"type": "plain_text", "text": ":rotating_light: <db1>", "emoji": True}
    assert text["text"]["text"] == "&lt;!channel&gt; a &amp; b"
    assert [one["text"] for one in fields["fields"]] == ["*Host*\n&lt;@U1&gt;", "*Free*\n–"]
    assert len(set(LOOKS.values())) == 4
    plain = payload(SlackContent(text="Hi"))
    assert (plain["text"], "attachments" in plain) == ("Hi", False)


@pytest.mark.parametrize(
    "content",
    [
        SlackContent(text="line & more\n" * 700),
        SlackContent(text="&" * 100_000, title="t" * 1000, level="error"),
        SlackContent(text="x" * 100_000, fields={f"name {n}": "&" * 10_000 for n in range(50)}, level="info"),
        SlackContent(text="words " * 20_000, blocks=[{"type": "divider"}] * 48, title="t", fields={"a": "b"}),
        SlackContent(text="Hi", blocks=[{"type": "divider"}] * 50),
        SlackContent(text="Hi", fields={f"{n}": "v" for n in range(50)}, blocks=[{"type": "divider"}] * 49, title="t"),
    ],
)
def test_no_message_is_larger_than_slack_takes(content: SlackContent) -> None:
    blocks = blocks_of(content)
    assert len(blocks) <= MOST_BLOCKS
    assert [dict(one) for one in content.blocks] == blocks[len(blocks) - len(content.blocks) :] if content.blocks else 1
    for block in blocks:
        limit = HEADER if block["type"] == "header" else SECTION
        assert 1 <= len(block.get("text", {"text": "-"})["text"]) <= limit
        assert len(block.get("fields", ())) <= 10
        assert all(len(one["text"]) <= FIELD for one in block.get("fields", ()))
    json.dumps(payload(content))


def test_long_texts_are_split_between_lines_and_cut_with_a_note() -> None:
    text = "".join(f"line {number} & more\n" for number in range(1000))
    parts = [*split(text)]
    assert "\n".join(parts) == escaped(text).strip("\n")
    sections = [one["text"]["text"] for one in blocks_of(SlackContent(text=text, level="warning"))]
    assert sections[0].startswith(":warning: line 0 ")
    assert sections[-1].endswith("line 999 &amp; more")
    assert "the rest is cut off" in str(
        blocks_of(SlackContent(text="word " * 20_000, blocks=[{"type": "divider"}] * 40))
    )
