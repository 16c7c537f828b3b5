"""False events an hour against recall, drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from streamer.text import printable

Point = tuple[float, float]
"""False events an hour, and recall from 0 to 1."""

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 420, 60, 50, 210, 60  # px; of the margins the last four
TICKS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#cc8844", "#888888")
MOST_LINES = 16  # of single labels; more could not be told apart


def curve(title: str, total: Sequence[Point], chosen: Point, labels: Mapping[str, Sequence[Point]]) -> str:
    """The picture: a thick line for all labels together with a dot at what was chosen, a thin one for each label."""
    most = max([10.0, chosen[0], *(x for points in (total, *labels.values()) for x, _ in points)])

    def place(point: Point) -> Point:
        x, y = point
        across = (WIDTH - LEFT - RIGHT) * math.log1p(x) / math.log1p(most)
        return round(LEFT + across, 1), round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y, 1)

    shown = dict(list(labels.items())[:MOST_LINES])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="28" font-size="15">{_text(title)}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 14}">false events an hour</text>',
        f'<text x="{LEFT}" y="{TOP - 6}">share of what happens that is found</text>',
        *(_rule(place((x, 0)), place((x, 1)), f"{x:g}", "middle", (0, 16)) for x in TICKS if x <= most),
        *(_rule(place((0, y / 4)), place((most, y / 4)), f"{y * 25} %", "end", (-6, 4)) for y in range(5)),
    ]
    for number, (label, points) in enumerate(shown.items()):
        colour, dashes = COLOURS[number % len(COLOURS)], ' stroke-dasharray="5 3"' * (number >= len(COLOURS))
        parts.append(_line([place(point) for point in points], f'stroke="{colour}"{dashes}'))
        parts.append(_legend(number + 1, label, f'stroke="{colour}" stroke-width="1.5"{dashes}'))
    x, y = place(chosen)
    parts += [
        _line([place(point) for point in total], 'stroke="black" stroke-width="3"'),
        _legend(0, "all; dot: what was chosen", 'stroke="black" stroke-width="3"'),
        f'<circle cx="{x}" cy="{y}" r="6" fill="black"/>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(text: str) -> str:
    return escape(printable(text))


def _rule(start: Point, end: Point, text: str, anchor: str, offset: tuple[int, int]) -> str:
    (x, y), (right, bottom) = start, end
    return (
        f'<line x1="{x}" y1="{y}" x2="{right}" y2="{bottom}" stroke="#ddd"/>'
        f'<text x="{x + offset[0]}" y="{y + offset[1]}" text-anchor="{anchor}">{text}</text>'
    )


def _line(points: Sequence[Point], style: str) -> str:
    """Steps from point to point: what is found with at most so many false events."""
    if not points:
        return ""
    path = f"M {points[0][0]} {points[0][1]} " + " ".join(f"H {x} V {y}" for x, y in points[1:]) + f" H {WIDTH - RIGHT}"
    return f'<path d="{path}" fill="none" {style}/>'


def _legend(row: int, text: str, style: str) -> str:
    x, y = WIDTH - RIGHT + 14, TOP + 10 + 18 * row
    short = text if len(text) <= 24 else f"{text[:23]}…"
    line = f'<line x1="{x}" y1="{y - 4}" x2="{x + 18}" y2="{y - 4}" {style}/>'
    return f'{line}<text x="{x + 24}" y="{y}">{_text(short)}</text>'
