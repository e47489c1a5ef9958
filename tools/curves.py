"""Draws the curves of several trainings in one chart, as inline SVG: numbers in, text out."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from stages.lib.charts import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, Frame, tick_step

STYLES = 8  # kinds of lines that the page's style tells apart; from then on they repeat


def line_style(number: int) -> str:
    """Return the CSS class of the line with this number, in a chart and in its key."""
    return f"line-{number % STYLES}"


def many_curves(title: str, curves: Mapping[str, Sequence[float]], shares: bool) -> str:
    """Return curves (name to one value for every epoch) with axes and ticks.

    shares: the values are shares, on a scale of 0 to 100%; else it ends at a tick above them all.
    """
    curves = {name: values for name, values in curves.items() if len(values)}
    if not curves:
        return ""
    highest = max(max(values) for values in curves.values())
    last = max(len(values) for values in curves.values())
    step = 0.25 if shares else tick_step(highest)
    frame = Frame(last, 1.0 if shares else step * max(math.ceil(highest / step), 1))
    ends = "; ".join(f"{name} ends at {values[-1]:.4g}" for name, values in curves.items())
    words = escape(f"{title} over {last} epochs: {ends}")
    lines = "".join(
        _line(frame, name, values, line_style(number))
        for number, (name, values) in enumerate(curves.items())
    )
    return (
        f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">'
        f"{_values(frame, step, shares)}{_epochs(frame)}{lines}</svg>"
    )


def _values(frame: Frame, step: float, shares: bool) -> str:
    parts = []
    for number in range(round(frame.top / step) + 1):
        value = round(number * step, 10)
        y, text = frame.y(value), f"{value:.0%}" if shares else f"{value:g}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{text}</text>')
    return "".join(parts)


def _epochs(frame: Frame) -> str:
    step = max(int(tick_step(frame.last)), 1)
    numbers = range(step, frame.last + 1, step)
    y, middle = HEIGHT - BOTTOM + 16, (LEFT + WIDTH - RIGHT) / 2
    texts = [f'<text x="{frame.x(n)}" y="{y}" text-anchor="middle">{n}</text>' for n in numbers]
    texts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">epoch</text>')
    return "".join(texts)


def _line(frame: Frame, name: str, values: Sequence[float], style: str) -> str:
    points = [(frame.x(epoch), frame.y(value)) for epoch, value in enumerate(values, start=1)]
    label = f"<title>{escape(name)}</title>"
    if len(points) == 1:
        x, y = points[0]
        return f'<circle class="curve {style}" cx="{x}" cy="{y}" r="3">{label}</circle>'
    line = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline class="curve {style}" points="{line}">{label}</polyline>'
