"""Draws the report's charts as inline SVG: numbers in, text out; the page's style gives colours."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 240  # SVG units, about the pixels that the page gives a chart
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 28, 40
MOST_TICKS = 6
FOOT = 0.3  # of a chart's height, for bars that only say how much stands behind a point


@dataclass(frozen=True)
class Frame:
    """The plotting area of a chart: epochs 1 to `last` across, 0 to `top` upwards."""

    last: int
    top: float

    def x(self, epoch: float) -> float:
        """Return where an epoch lies, in SVG units; a single epoch lies in the middle."""
        share = (epoch - 1) / (self.last - 1) if self.last > 1 else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Return how far from the upper edge a value lies, in SVG units."""
        return round(HEIGHT - BOTTOM - value / self.top * (HEIGHT - TOP - BOTTOM), 1)


def tick_step(extent: float) -> float:
    """Return the smallest of 1, 2, 5 × 10^k that fits fewer than MOST_TICKS times in `extent`."""
    if extent <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(extent / MOST_TICKS))
    return next(
        power * factor for factor in (1, 2, 5, 10) if extent / (power * factor) < MOST_TICKS
    )


def percent(share: float, digits: int = 1) -> str:
    """Return a share as a percentage that never says 0% or 100% where that is not so."""
    if share in (0, 1):
        return f"{share:.0%}"
    smallest = 10.0 ** (-digits - 2)
    if share < smallest / 2:
        return f"under {smallest:.{digits}%}"
    if share > 1 - smallest / 2:
        return f"over {1 - smallest:.{digits}%}"
    return f"{share:.{digits}%}"


def stacked_bar(parts: Sequence[tuple[str, float]], full: float) -> str:
    """Return a bar of parts (CSS class, size), end to end; `full` is the size that fills it."""
    at, rects = 0.0, []
    for name, size in parts:
        width = 100 * max(size, 0) / full if full else 0.0
        if width:
            rects.append(
                f'<rect class="{escape(name)}" x="{at:.2f}%" width="{width:.2f}%" height="100%"/>'
            )
        at += width
    return f'<svg class="bar" aria-hidden="true" focusable="false">{"".join(rects)}</svg>'


def interval_bar(low: float, value: float, high: float) -> str:
    """Return a share (0 to 1) with its interval on a line from 0 to 1."""
    return (
        '<svg class="interval" aria-hidden="true" focusable="false">'
        '<rect class="track" y="7" width="100%" height="2"/>'
        f'<rect class="band" x="{low:.2%}" y="4" width="{high - low:.2%}" height="8"/>'
        f'<line class="point" x1="{value:.2%}" x2="{value:.2%}" y1="1" y2="15"/></svg>'
    )


def accuracy_scale(low: float, value: float, high: float, baseline: float) -> str:
    """Return the accuracy and its interval on a scale from 0 to 100%, with the baseline."""
    interval = f"interval {percent(low)} to {percent(high)}"
    words = f"Accuracy {percent(value)}, {interval}, baseline {percent(baseline)}"
    anchor = _anchor(baseline)
    ticks = "".join(
        f'<line class="grid" x1="{share:.0%}" x2="{share:.0%}" y1="16" y2="32"/>'
        f'<text x="{share:.0%}" y="48" text-anchor="{_anchor(share)}">{share:.0%}</text>'
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    return (
        f'<svg class="scale" role="img" aria-label="{words}">'
        f'<rect class="track" y="23" width="100%" height="2"/>{ticks}'
        f'<line class="baseline" x1="{baseline:.2%}" x2="{baseline:.2%}" y1="12" y2="36"/>'
        f'<text class="strong" x="{baseline:.2%}" y="8" text-anchor="{anchor}">baseline</text>'
        f'<rect class="band" x="{low:.2%}" y="16" width="{high - low:.2%}" height="16"/>'
        f'<line class="point" x1="{value:.2%}" x2="{value:.2%}" y1="10" y2="38"/></svg>'
    )


def epoch_curves(
    title: str, curves: Mapping[str, Sequence[float]], best_epoch: int, shares: bool
) -> str:
    """Return curves (name to one value per epoch) with axes, ticks and the best epoch marked.

    shares: the values are shares, on a scale of 0 to 100%; else it ends at a tick above them all.
    """
    highest = max(max(values) for values in curves.values())
    last = max(len(values) for values in curves.values())
    step = 0.25 if shares else tick_step(highest)
    frame = Frame(last, 1.0 if shares else step * max(math.ceil(highest / step), 1))
    write = "{:.0%}".format if shares else "{:g}".format
    ends = "; ".join(
        f"{name} {values[0]:.4g} to {values[-1]:.4g}" for name, values in curves.items()
    )
    words = f"{title} over {last} epochs: {ends}; best epoch {best_epoch}"
    axes = _value_axis(frame, step, write) + _epoch_axis(frame)
    lines = "".join(_curve(frame, name, values) for name, values in curves.items())
    return (
        f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(words)}">{axes}{_best(frame, best_epoch)}{lines}</svg>'
    )


def share_curves(
    title: str, axes: tuple[str, str], curves: Mapping[str, Sequence[tuple[float, float]]]
) -> str:
    """Return curves (CSS class to points) of one share over another, both from 0 to 1.

    title: what the chart shows, said aloud in its place; axes: the names of x and y.
    """
    lines = [
        f'<polyline class="curve {escape(name)}" points="{_points(points)}"/>'
        for name, points in curves.items()
    ]
    return _share_chart("curves", title, axes, lines)


def reliability_diagram(title: str, rows: Sequence[Mapping[str, float]]) -> str:
    """Return how often answers were right over how sure they were, with intervals.

    rows: low and high (edges), n, confidence, accuracy, accuracy_low and accuracy_high of a bin.
    Bars at the foot stand for the number of answers, the dashed line for perfect calibration.
    """
    parts, most = [], max(row["n"] for row in rows)
    for row in rows:
        left, right, foot = _across(row["low"]), _across(row["high"]), _up(0)
        tall = round((foot - TOP) * FOOT * row["n"] / most, 1)
        parts.append(
            f'<rect class="amount" x="{left + 1:.1f}" y="{foot - tall:.1f}" '
            f'width="{right - left - 2:.1f}" height="{tall}"/>'
        )
    parts.append(
        f'<line class="best" x1="{_across(0)}" x2="{_across(1)}" y1="{_up(0)}" y2="{_up(1)}"/>'
    )
    for row in rows:
        x, high, low = _across(row["confidence"]), row["accuracy_high"], row["accuracy_low"]
        parts.append(
            f'<line class="reach" x1="{x}" x2="{x}" y1="{_up(high)}" y2="{_up(low)}"/>'
            f'<circle class="dot" cx="{x}" cy="{_up(row["accuracy"])}" r="4"/>'
        )
    return _share_chart("curves reliability", title, ("confidence", "share right"), parts)


def _share_chart(kind: str, title: str, names: tuple[str, str], parts: Iterable[str]) -> str:
    axes = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _across(share), _up(share)
        axes.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        axes.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{share:.0%}</text>')
        anchor = "end" if share == 1 else "middle"
        axes.append(
            f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{share:.0%}</text>'
        )
    across, up = names
    middle = (LEFT + WIDTH - RIGHT) / 2
    axes.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(across)}</text>')
    axes.append(f'<text class="strong" x="{LEFT}" y="{TOP - 13}">{escape(up)}</text>')
    return (
        f'<svg class="{kind}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(axes)}{"".join(parts)}</svg>'
    )


def _points(points: Sequence[tuple[float, float]]) -> str:
    """Return points of shares as SVG has them, without those that a straight line leads through."""
    placed = [(_across(x), _up(y)) for x, y in points]
    corners = [
        point
        for before, point, after in zip(
            [(-1.0, -1.0), *placed], placed, [*placed[1:], (-1.0, -1.0)], strict=False
        )
        if not before[1] == point[1] == after[1] and not before[0] == point[0] == after[0]
    ]
    return " ".join(f"{x},{y}" for x, y in corners)


def _across(share: float) -> float:
    return Frame(last=2, top=1.0).x(1 + share)


def _up(share: float) -> float:
    return Frame(last=2, top=1.0).y(share)


def _value_axis(frame: Frame, step: float, write: Callable[[float], str]) -> str:
    parts = []
    for number in range(round(frame.top / step) + 1):
        value = round(number * step, 10)
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{write(value)}</text>')
    return "".join(parts)


def _epoch_axis(frame: Frame) -> str:
    step = max(int(tick_step(frame.last)), 1)
    numbers = sorted({1, *range(step, frame.last + 1, step)})
    if len(numbers) > 2 and numbers[1] - 1 < step / 2:
        numbers.pop(1)
    y = HEIGHT - BOTTOM + 16
    texts = [f'<text x="{frame.x(n)}" y="{y}" text-anchor="middle">{n}</text>' for n in numbers]
    middle = (LEFT + WIDTH - RIGHT) / 2
    texts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">epoch</text>')
    return "".join(texts)


def _best(frame: Frame, epoch: int) -> str:
    x = frame.x(epoch)
    anchor, shift = ("end", 4) if epoch > frame.last / 2 else ("start", -4)
    return (
        f'<line class="best" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="strong" x="{x + shift}" y="{TOP - 13}" text-anchor="{anchor}">'
        f"best epoch {epoch}</text>"
    )


def _curve(frame: Frame, name: str, values: Sequence[float]) -> str:
    points = [(frame.x(epoch), frame.y(value)) for epoch, value in enumerate(values, start=1)]
    if len(points) == 1:
        x, y = points[0]
        return f'<circle class="curve {escape(name)}" cx="{x}" cy="{y}" r="3"/>'
    line = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline class="curve {escape(name)}" points="{line}"/>'


def _anchor(share: float) -> str:
    """Return the text anchor that keeps a text near either end of the scale inside it."""
    return "start" if share < 0.1 else "end" if share > 0.9 else "middle"
