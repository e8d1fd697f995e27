"""Draws the figures as an SVG of bars with ranges.

Colours follow the reader's light or dark mode.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.stats import Spread

WIDTH, MARGIN = 960, 16
LABELS, BARS, GAP = 190, 330, 80  # widths: names; each of two columns of bars; the figure right of a bar
ROW, BAR, HEAD = 24, 14, 52  # heights

_STYLE = """\
  svg { font: 13px system-ui, sans-serif; }
  text { fill: #1f2328; } .faint { fill: #59636e; font-size: 11px; } .title { font-weight: 600; font-size: 15px; }
  .paper { fill: #ffffff; } .ours { fill: #0969da; } .other { fill: #afb8c1; }
  .range { stroke: #1f2328; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .faint { fill: #9198a1; }
    .paper { fill: #0d1117; } .ours { fill: #4493f8; } .other { fill: #484f58; } .range { stroke: #e6edf3; }
  }"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One system: messages per second, and CPU microseconds per message if they were measured."""

    name: str
    rate: Spread
    cpu_us: Spread | None
    ours: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One phase. ``note`` is printed below its bars."""

    title: str
    bars: Sequence[Bar]
    note: str = ""


def svg(panels: Sequence[Panel], caption: str) -> str:
    """Return the whole drawing, without the panels that have no bars."""
    parts, top = [], MARGIN
    for panel in panels:
        if panel.bars:
            parts += _panel(panel, top)
            top += HEAD + ROW * len(panel.bars) + MARGIN + (ROW if panel.note else 0)
    for line in _wrapped(caption, 150):
        top += 16
        parts.append(f'<text class="faint" x="{MARGIN}" y="{top}">{escape(line)}</text>')
    height = top + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    paper = f'<rect class="paper" width="{WIDTH}" height="{height}"/>'
    return "\n".join([head, f"<style>\n{_STYLE}\n</style>", paper, *parts, "</svg>"]) + "\n"


def _panel(panel: Panel, top: int) -> list[str]:
    left, right = MARGIN + LABELS, MARGIN + LABELS + BARS + MARGIN
    parts = [
        f'<text class="title" x="{MARGIN}" y="{top + 18}">{escape(panel.title)}</text>',
        f'<text class="faint" x="{left}" y="{top + 40}">messages a second: more is better</text>',
    ]
    if any(bar.cpu_us for bar in panel.bars):
        unit = "CPU seconds for 1,000 messages, own and servers: less is better"
        parts.append(f'<text class="faint" x="{right}" y="{top + 40}">{unit}</text>')
    most = max(bar.rate.high for bar in panel.bars)
    most_cpu = max((bar.cpu_us.high for bar in panel.bars if bar.cpu_us), default=1.0)
    for number, bar in enumerate(panel.bars):
        y = top + HEAD + ROW * number
        parts.append(f'<text x="{left - 8}" y="{y + BAR - 2}" text-anchor="end">{escape(bar.name)}</text>')
        parts += _bar(left, y, bar.rate, most, f"{bar.rate.median:,.0f}", bar.ours)
        if bar.cpu_us:
            parts += _bar(right, y, bar.cpu_us, most_cpu, f"{bar.cpu_us.median / 1e3:.2f}", bar.ours)
    if panel.note:
        y = top + HEAD + ROW * len(panel.bars) + BAR
        parts.append(f'<text class="faint" x="{MARGIN}" y="{y}">{escape(panel.note)}</text>')
    return parts


def _bar(left: int, y: int, figure: Spread, most: float, text: str, ours: bool) -> list[str]:
    scale, middle = (BARS - GAP) / most, y + BAR / 2
    low, end, high = (left + scale * value for value in (figure.low, figure.median, figure.high))
    colour, width = "ours" if ours else "other", f"{end - left:.1f}"
    parts = [f'<rect class="{colour}" x="{left}" y="{y}" width="{width}" height="{BAR}" rx="2"/>']
    if figure.low != figure.high:
        line = f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {y + 3}v{BAR - 6}M{high:.1f} {y + 3}v{BAR - 6}"
        parts.append(f'<path class="range" d="{line}"/>')
    parts.append(f'<text x="{high + 6:.1f}" y="{y + BAR - 2}">{text}</text>')
    return parts


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" · "):
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f" · {word}" if lines[-1] else word
    return lines
