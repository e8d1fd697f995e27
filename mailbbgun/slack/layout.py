"""The layout of a message in Slack: a title, the text, fields, and blocks of the client's own. Pure.

The level gives the icon, and the colour of the bar beside the message. Slack refuses a message that is
larger than its limits, so longer texts are split into several blocks, or cut with a note.

Limits: https://docs.slack.dev/reference/block-kit/blocks
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: Blocks of a message, characters of a section, of a header, and of a field of a section; fields of a section.
MOST_BLOCKS, SECTION, HEADER, FIELD, FIELDS = 50, 3000, 150, 2000, 10
#: Characters of the text that notifications and screen readers show.
FALLBACK = 300


class Look(NamedTuple):
    """How a level looks: an emoji, and a colour."""

    icon: str
    colour: str


LOOKS: Mapping[str, Look] = {
    "info": Look(":information_source:", "#2f80ed"),
    "warning": Look(":warning:", "#f2c94c"),
    "error": Look(":x:", "#eb5757"),
    "critical": Look(":rotating_light:", "#b00020"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackContent:
    """What a message says. ``text`` and the values of ``fields`` may use Slack's mrkdwn, such as ``*bold*``."""

    text: str = ""
    title: str = ""
    level: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    blocks: Sequence[Mapping[str, Any]] = ()


def payload(content: SlackContent) -> dict[str, Any]:
    """Return the JSON that Slack gets, without channel and thread."""
    summary = fallback(content)
    blocks = [*_header(content)]
    tail = [*_fields(content.fields)]
    room = MOST_BLOCKS - len(blocks) - len(content.blocks)
    if len(tail) > room:
        tail = (
            tail[: max(room - 1, 0)]
            + [_note(f"… {len(content.fields)} fields are too many: the rest is left out.")][:room]
        )
    blocks += [*_sections(_begun(content), room - len(tail)), *tail, *map(dict, content.blocks)]
    if content.level is None:
        return {"text": summary, "blocks": blocks, "unfurl_links": False}
    colour = LOOKS[content.level].colour
    # Only attachments have a colour. With blocks in one, a text beside it would be shown as well.
    return {"attachments": [{"color": colour, "fallback": summary, "blocks": blocks}], "unfurl_links": False}


def fallback(content: SlackContent) -> str:
    """Return the first words of a message, for notifications."""
    level = f"[{content.level}] " if content.level else ""
    said = ": ".join(part for part in (content.title, " ".join(content.text.split())) if part)
    return escaped(cut(f"{level}{said}".strip() or "(a message with blocks)", FALLBACK))


def escaped(text: str) -> str:
    """Return a text in which Slack finds no mention and no link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters: one that is longer ends in ``…``."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def split(text: str, most: int = SECTION) -> Iterator[str]:
    """Yield a text in parts, escaped, each of at most so many characters.

    A part ends with a line if it can, else with a word.
    """
    rest = text.strip("\n")
    while rest:
        part = rest[:most]
        while len(escaped(part)) > most:  # at most a fifth is left by one round: &amp;
            part = part[: max(1, len(part) * most // len(escaped(part)))]
        if len(part) < len(rest):
            at = max(part.rfind("\n"), 0) or max(part.rfind(" "), 0)
            part = part[:at] if at > most // 2 else part
        yield escaped(part)
        rest = rest[len(part) :].lstrip("\n")


def _header(content: SlackContent) -> Iterator[dict[str, Any]]:
    if content.title:
        icon = f"{LOOKS[content.level].icon} " if content.level else ""
        title = " ".join(content.title.split())
        yield {"type": "header", "text": {"type": "plain_text", "text": cut(f"{icon}{title}", HEADER), "emoji": True}}


def _begun(content: SlackContent) -> tuple[str, str]:
    """Return what stands before the text, which is not escaped, and the text."""
    icon = f"{LOOKS[content.level].icon} " if content.level and not content.title and content.text else ""
    return icon, content.text


def _sections(begun: tuple[str, str], most: int) -> Iterator[dict[str, Any]]:
    """Yield the text as sections, at most so many; the last is a note if it does not fit."""
    icon, text = begun
    parts = [*split(text, SECTION - len(icon))]
    shown = parts if len(parts) <= most else parts[: max(most - 1, 0)]
    for number, part in enumerate(shown):
        yield _section(f"{icon}{part}" if not number else part)
    if len(shown) < len(parts) and most > 0:
        yield _note(f"… the text has {len(text)} characters: the rest is cut off.")


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _note(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}


def _fields(fields: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    shown = [{"type": "mrkdwn", "text": _field(name, value)} for name, value in fields.items()]
    for start in range(0, len(shown), FIELDS):
        yield {"type": "section", "fields": shown[start : start + FIELDS]}


def _field(name: str, value: str) -> str:
    label = f"*{escaped(cut(' '.join(name.split()), 100))}*\n"
    parts = [*split(value, FIELD - len(label) - 1)]
    return label + (f"{parts[0]}…" if len(parts) > 1 else "".join(parts) or "–")
