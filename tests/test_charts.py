"""What the charts promise: sizes in proportion, all inside the frame, only ours in the markup."""

import re

import pytest

from stages.lib.charts import (
    HEIGHT,
    WIDTH,
    Frame,
    accuracy_scale,
    epoch_curves,
    interval_bar,
    percent,
    reliability_diagram,
    share_curves,
    stacked_bar,
    tick_step,
)


def numbers(name: str, svg: str) -> list[float]:
    """Return every value of an attribute, percentages without their sign."""
    return [float(value) for value in re.findall(rf'\b{name}="([\d.]+)%?"', svg)]


def test_parts_of_a_bar_lie_end_to_end_in_proportion_to_their_sizes() -> None:
    bar = stacked_bar([("train", 60), ("val", 30), ("test", 10)], full=200)

    rects = re.findall(r'class="(\w+)" x="([\d.]+)%" width="([\d.]+)%"', bar)
    assert rects == [
        ("train", "0.00", "30.00"),
        ("val", "30.00", "15.00"),
        ("test", "45.00", "5.00"),
    ]


@pytest.mark.parametrize("full", [0, 10])
def test_a_bar_without_sizes_is_an_empty_picture(full: int) -> None:
    assert "<rect" not in stacked_bar([("kept", 0), ("gone", -3)], full)


def test_an_interval_bar_spans_low_to_high_with_the_value_inside() -> None:
    bar = interval_bar(0.25, 0.5, 0.75)

    assert 'x="25.00%" y="4" width="50.00%"' in bar
    assert numbers("x1", bar) == [50.0]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"),
        (1, "100%"),
        (0.5, "50.0%"),
        (0.99999, "over 99.9%"),
        (0.00001, "under 0.1%"),
        (0.9994, "99.9%"),
    ],
)
def test_percentages_never_round_to_all_or_nothing(share: float, text: str) -> None:
    assert percent(share) == text


def test_the_accuracy_scale_says_its_numbers_in_words() -> None:
    assert "Accuracy 98.9%, interval 95.9% to 99.7%, baseline 23.0%" in accuracy_scale(
        0.959, 0.989, 0.997, 0.23
    )


@pytest.mark.parametrize(
    ("extent", "step"),
    [(0, 1), (1, 0.2), (2.3, 0.5), (5, 1), (0.03, 0.01), (30, 10), (7, 2), (1234, 500)],
)
def test_ticks_are_round_numbers(extent: float, step: float) -> None:
    assert tick_step(extent) == pytest.approx(step)


def test_a_frame_puts_the_first_epoch_left_the_last_right_and_zero_below_the_top() -> None:
    frame = Frame(last=10, top=2.0)

    assert frame.x(1) < frame.x(10) <= WIDTH
    assert 0 <= frame.y(2.0) < frame.y(0) <= HEIGHT
    assert frame.y(1.0) == pytest.approx((frame.y(0) + frame.y(2.0)) / 2, abs=0.1)


@pytest.mark.parametrize("epochs", [1, 2, 3, 30, 300])
@pytest.mark.parametrize("shares", [True, False])
def test_curves_have_a_point_per_epoch_and_stay_inside_the_picture(
    epochs: int, shares: bool
) -> None:
    scale = 1.0 if shares else 7.3
    curves = {name: [scale / epoch for epoch in range(1, epochs + 1)] for name in ("train", "val")}

    svg = epoch_curves("Loss", curves, best_epoch=epochs, shares=shares)

    lines = re.findall(r'points="([^"]+)"', svg)
    points = [tuple(map(float, point.split(","))) for line in lines for point in line.split()]
    points += list(zip(numbers("cx", svg), numbers("cy", svg), strict=True))
    assert len(points) == 2 * epochs
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert f"best epoch {epochs}<" in svg


def test_curves_say_where_they_begin_and_end_and_escape_their_names() -> None:
    svg = epoch_curves("<Loss>", {"a&b": [2.0, 0.5]}, best_epoch=2, shares=False)

    assert 'aria-label="&lt;Loss&gt; over 2 epochs: a&amp;b 2 to 0.5; best epoch 2"' in svg
    assert "<Loss>" not in svg


def test_curves_of_zeros_have_a_scale_all_the_same() -> None:
    assert "polyline" in epoch_curves("Loss", {"train": [0.0, 0.0]}, best_epoch=1, shares=False)


# --- Shares over shares -------------------------------------------------------------------------


def test_a_curve_of_shares_goes_through_its_points_and_no_more() -> None:
    points = [(0.0, 0.0), (0.0, 0.5), (0.25, 0.5), (0.5, 0.5), (1.0, 1.0)]

    chart = share_curves("Said <aloud>", ("x", "y & z"), {"val": points})

    found = re.search(r'class="curve val" points="([^"]+)"', chart)
    assert found
    frame = Frame(last=2, top=1.0)
    corners = [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (1.0, 1.0)]
    assert found[1] == " ".join(f"{frame.x(1 + x)},{frame.y(y)}" for x, y in corners)
    assert 'aria-label="Said &lt;aloud&gt;"' in chart and "y &amp; z" in chart


def test_a_dot_of_the_diagram_lies_at_its_confidence_and_accuracy_within_its_interval() -> None:
    rows = [
        {"low": 0.5, "high": 0.75, "n": 10, "confidence": 0.6, "accuracy": 0.4,
         "accuracy_low": 0.2, "accuracy_high": 0.7},
        {"low": 0.75, "high": 1.0, "n": 30, "confidence": 0.9, "accuracy": 1.0,
         "accuracy_low": 0.9, "accuracy_high": 1.0},
    ]  # fmt: skip

    diagram = reliability_diagram("Calibration", rows)

    frame = Frame(last=2, top=1.0)
    dots = re.findall(r'class="dot" cx="([\d.]+)" cy="([\d.]+)"', diagram)
    assert [(float(x), float(y)) for x, y in dots] == [
        (frame.x(1.6), frame.y(0.4)), (frame.x(1.9), frame.y(1.0)),
    ]  # fmt: skip
    reach = re.findall(r'class="reach" .*? y1="([\d.]+)" y2="([\d.]+)"', diagram)
    assert [(float(high), float(low)) for high, low in reach] == [
        (frame.y(0.7), frame.y(0.2)), (frame.y(1.0), frame.y(0.9)),
    ]  # fmt: skip
    bars = [float(height) for height in re.findall(r'class="amount".*? height="([\d.]+)"', diagram)]
    assert bars[1] == pytest.approx(3 * bars[0], abs=0.2)
