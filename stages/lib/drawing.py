"""Draws pictures of eight everyday objects: varied colour, pose, light, background and clutter."""

import colorsys
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from stages.lib.seeds import rng_for

Array = NDArray[np.floating[Any]]
Colour = tuple[int, int, int]
Rng = np.random.Generator


# --- Shapes: outlines in unit coordinates, x to the right and y down, about -1 to 1 -------------


class Shape(NamedTuple):
    """A filled polygon, or a stroke along the points when `stroke` (its width) is above zero."""

    points: Array
    colour: Colour
    stroke: float = 0.0


class Tones(NamedTuple):
    """The colours of one object."""

    main: Colour
    dark: Colour
    light: Colour
    accent: Colour


def path(*points: tuple[float, float]) -> Array:
    return np.array(points)


def box(left: float, top: float, right: float, bottom: float) -> Array:
    return path((left, top), (right, top), (right, bottom), (left, bottom))


def arc(
    x: float, y: float, radius_x: float, radius_y: float, start: float = 0, end: float = 360
) -> Array:
    """Return points on an ellipse from `start` to `end` degrees, clockwise from the right."""
    angles = np.radians(np.linspace(start, end, 28))
    return np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], 1)


def spindle(x: Array, half: Array) -> Array:
    """Return the outline that reaches `half` to either side of the axis at every `x`."""
    return np.concatenate([np.stack([x, half], 1), np.stack([x, -half], 1)[::-1]])


# --- Objects: each draws itself from a few numbers of its own ------------------------------------


def draw_leaf(rng: Rng, tones: Tones) -> list[Shape]:
    along = np.linspace(0, 1, 40)
    lobes = 1 + rng.choice([0.0, 0.22]) * np.sin(along * np.pi * 9)
    half = rng.uniform(0.36, 0.62) * np.sin(np.pi * along ** rng.uniform(0.65, 1.0)) * lobes
    length = rng.uniform(1.5, 1.75)
    x = length * along - 0.75
    veins = [
        path((at, 0), (at + 0.26, side * 0.8 * float(np.interp(at + 0.26, x, half))))
        for at in (-0.45, -0.15, 0.15, 0.4)
        for side in (-1, 1)
    ]
    midrib = path((-1.05, rng.uniform(-0.15, 0.15)), (-0.72, 0), (length - 0.85, 0))
    return [
        Shape(spindle(x, half), tones.main),
        *(Shape(vein, tones.light, 0.045) for vein in veins),
        Shape(midrib, tones.light, 0.07),
    ]


def draw_fish(rng: Rng, tones: Tones) -> list[Shape]:
    along, height = np.linspace(0, 1, 24), rng.uniform(0.36, 0.55)
    tail = path((-0.4, 0), (-1.0, -0.5), (-rng.uniform(0.7, 0.9), 0), (-1.0, 0.5))
    fin = path((0.4, -height * 0.8), (-0.2, -height - 0.25), (-0.3, -height * 0.6))
    belly = path((0.3, height * 0.8), (-0.05, height + 0.2), (-0.1, height * 0.8))
    bands = [arc(x, 0, 0.12, height * 0.78, -75, 75) for x in (-0.2, 0.0, 0.2)]
    return [
        *(Shape(points, tones.accent) for points in (tail, fin, belly)),
        Shape(spindle(0.95 - 1.5 * along, height * np.sin(np.pi * along**0.8)), tones.main),
        *(Shape(band, tones.accent, 0.1) for band in bands[: int(rng.integers(4))]),
        Shape(arc(0.38, 0, 0.12, height * 0.6, -70, 70), tones.dark, 0.05),
        Shape(arc(0.64, -0.1, 0.11, 0.11), (250, 250, 245)),
        Shape(arc(0.66, -0.1, 0.06, 0.06), (20, 20, 25)),
    ]


def draw_cup(rng: Rng, tones: Tones) -> list[Shape]:
    foot, floor, band = rng.uniform(0.34, 0.5), rng.uniform(0.62, 0.85), rng.uniform(0.0, 0.3)
    rim, base = arc(-0.1, -0.5, 0.58, 0.14, 180, 0), arc(-0.1, floor, foot, 0.1, 0, 180)
    handle = arc(0.42, 0.05, 0.36, rng.uniform(0.3, 0.4), -105, 105)
    steam = [
        path((x, -0.7), (x + 0.08, -0.78), (x - 0.06, -0.9), (x + 0.03, -1.0)) for x in (-0.3, 0.1)
    ]
    return [
        *(Shape(wisp, tones.light, 0.06) for wisp in steam[: 2 * int(rng.integers(2))]),
        Shape(handle, tones.main, 0.16),
        Shape(np.concatenate([rim, base]), tones.main),
        Shape(box(-0.1 - foot * 1.06, band, -0.1 + foot * 1.06, band + 0.2), tones.accent),
        Shape(arc(-0.1, -0.5, 0.58, 0.16), tones.light),
        Shape(arc(-0.1, -0.48, 0.49, 0.11), tones.dark),
    ]


def draw_house(rng: Rng, tones: Tones) -> list[Shape]:
    half, eaves, ridge = rng.uniform(0.5, 0.85), rng.uniform(-0.3, 0.1), rng.uniform(-0.4, 0.4)
    chimney, door = half * rng.choice([-0.6, 0.6]), rng.uniform(-0.4, 0.2)
    windows = [x for x in (0.15 - half, 0.0, half - 0.15) if abs(x - door - 0.14) > 0.3]
    panes = [box(x - 0.11, eaves + 0.16, x + 0.11, eaves + 0.42) for x in windows]
    return [
        Shape(box(chimney - 0.1, -0.85, chimney + 0.1, eaves), tones.dark),
        Shape(box(-half, eaves, half, 0.85), tones.main),
        Shape(path((-half - 0.18, eaves), (ridge, -0.95), (half + 0.18, eaves)), tones.accent),
        Shape(box(door, 0.25, door + 0.28, 0.85), tones.dark),
        *(Shape(pane, tones.light) for pane in panes),
    ]


def draw_key(rng: Rng, tones: Tones) -> list[Shape]:
    size = rng.uniform(0.27, 0.34)
    square = box(-0.62 - size, -size, -0.62 + size, size)
    trefoil = [arc(-0.5, -0.2, 0.2, 0.2), arc(-0.5, 0.2, 0.2, 0.2), arc(-0.78, 0, 0.2, 0.2)]
    bows = [[arc(-0.62, 0, size, size)], [np.vstack([square, square[:1]])], trefoil]
    teeth = np.linspace(0.45, 0.85, int(rng.integers(2, 4)))
    return [
        *(Shape(ring, tones.main, 0.17) for ring in bows[int(rng.integers(3))]),
        *(Shape(box(x, 0, x + 0.13, rng.uniform(0.26, 0.44)), tones.main) for x in teeth),
        Shape(box(-0.34, -0.1, 0.98, 0.1), tones.main),
        Shape(box(-0.3, -0.17, -0.16, 0.17), tones.dark),
        Shape(path((-0.1, -0.03), (0.9, -0.03)), tones.light, 0.04),
    ]


def draw_umbrella(rng: Rng, tones: Tones) -> list[Shape]:
    edges, height = np.linspace(-1, 1, int(rng.integers(4, 7)) + 1), rng.uniform(0.75, 0.95)
    bend = np.linspace(0, np.pi / 2, 10)
    ribs = [np.stack([x * np.sin(bend), 0.05 - height * np.cos(bend)], 1) for x in edges]
    gap = 1 / (len(edges) - 1)
    hems = [arc(x + gap, 0.05, gap, 0.1, 180, 360) for x in edges[:-1]]
    panels = [
        np.concatenate([left, hem, right[::-1]])
        for left, hem, right in zip(ribs, hems, ribs[1:], strict=False)
    ]
    stick = np.concatenate([path((0, -1.0), (0, 0.8)), arc(0.16, 0.8, 0.16, 0.16, 180, 0)])
    return [
        Shape(stick, tones.dark, 0.1),
        *(Shape(panel, (tones.main, tones.accent)[k % 2]) for k, panel in enumerate(panels)),
    ]


def draw_lamp(rng: Rng, tones: Tones) -> list[Shape]:
    top, bottom, hem = rng.uniform(0.25, 0.45), rng.uniform(0.6, 0.8), rng.uniform(-0.15, 0.05)
    vase = arc(0, 0.5, rng.uniform(0.16, 0.3), 0.34)
    return [
        Shape(path((0, hem), (0, 0.85)), tones.dark, 0.12),
        *[Shape(vase, tones.accent)][: int(rng.integers(2))],
        Shape(arc(0, 0.88, 0.45, 0.12), tones.dark),
        Shape(arc(0, hem, 0.2, 0.16), (255, 240, 170)),
        Shape(path((-top, -0.9), (top, -0.9), (bottom, hem), (-bottom, hem)), tones.main),
        Shape(path((-bottom, hem), (bottom, hem)), tones.light, 0.08),
    ]


def draw_bicycle(rng: Rng, tones: Tones) -> list[Shape]:
    radius, drop = rng.uniform(0.36, 0.44), rng.uniform(-0.05, 0.05)
    rear, crank, seat, head = (-0.58, 0.3), (-0.06, 0.32), (-0.25, -0.25 + drop), (0.36, -0.3)
    frame = path(rear, crank, seat, head, crank)
    fork = path((0.58, 0.3), head, (0.3, -0.52), (0.52, -0.6))
    wheels = [arc(x, 0.3, size, size) for size in (radius, 0.03) for x in (-0.58, 0.58)]
    return [
        *(Shape(wheel, tones.dark, 0.1) for wheel in wheels),
        *(Shape(tube, tones.main, 0.11) for tube in (frame, path(rear, seat), fork)),
        Shape(path(seat, (-0.28, -0.42 + drop)), tones.dark, 0.08),
        Shape(path((-0.42, -0.42 + drop), (-0.14, -0.42 + drop)), tones.dark, 0.14),
        Shape(arc(*crank, 0.1, 0.1), tones.accent),
    ]


OBJECTS: dict[str, Callable[[Rng, Tones], list[Shape]]] = {
    "leaf": draw_leaf,
    "fish": draw_fish,
    "cup": draw_cup,
    "house": draw_house,
    "key": draw_key,
    "umbrella": draw_umbrella,
    "lamp": draw_lamp,
    "bicycle": draw_bicycle,
}


# --- Backgrounds: patterns of 0 to 1 over a turned and warped grid -------------------------------


def clouds(rng: Rng, width: int, height: int, cells: int) -> Array:
    """Return smooth noise with about `cells` bumps along a side."""
    grid = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))


def stripes(rng: Rng, x: Array, y: Array) -> Array:
    wave = np.sin(x * rng.uniform(15, 60)) * rng.uniform(1, 3)
    return np.asarray(0.5 + 0.5 * np.clip(wave, -1, 1))


def weave(rng: Rng, x: Array, y: Array) -> Array:
    pitch = rng.uniform(25, 70)
    return np.asarray(0.5 + 0.5 * np.sin(x * pitch) * np.sin(y * pitch))


def tiles(rng: Rng, x: Array, y: Array) -> Array:
    pitch, levels = rng.uniform(4, 10), rng.random((32, 32), dtype=np.float32)
    return np.asarray(levels[np.floor(x * pitch).astype(int), np.floor(y * pitch / 2).astype(int)])


def dots(rng: Rng, x: Array, y: Array) -> Array:
    pitch, reach = rng.uniform(4, 12), rng.uniform(0.25, 0.45)
    distance = np.hypot(x * pitch % 1 - 0.5, y * pitch % 1 - 0.5)
    return np.asarray(np.clip((reach - distance) * 12, 0, 1))


def plaster(rng: Rng, x: Array, y: Array) -> Array:
    height, width = x.shape
    return (clouds(rng, width, height, 20) + clouds(rng, width, height, 45)) / 2


PATTERNS: tuple[Callable[[Rng, Array, Array], Array], ...] = (stripes, weave, tiles, dots, plaster)


def paint_background(rng: Rng, width: int, height: int, hue: float, luma: float) -> Array:
    """Return a textured, unevenly lit ground (height, width, 3) of two related colours."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(width, height)
    warp, angle = rng.uniform(0, 0.2) * clouds(rng, width, height, 4), rng.uniform(0, 2 * np.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    along, across = cos * x + sin * y + warp, cos * y - sin * x + warp
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))](rng, along, across)
    broad = clouds(rng, width, height, int(rng.integers(3, 7)))
    mixed = rng.uniform(0.2, 0.5) * pattern + rng.uniform(0.7, 1.0) * (broad - 0.1)
    mix = np.clip(mixed, 0, 1)[..., None]
    spread = rng.uniform(0.12, 0.2)
    low = tone(hue, rng.uniform(0.1, 0.45), luma - spread)
    high = tone(hue + rng.uniform(-0.08, 0.08), rng.uniform(0.1, 0.45), luma + spread)
    first, second = np.array(low, np.float32) / 255, np.array(high, np.float32) / 255
    return np.asarray(first + (second - first) * mix)


# --- The picture: background, clutter, object, light ---------------------------------------------

SUPERSAMPLING = 2
# Hues that go together, in turns of the colour wheel; the sharpest greens and violets are out.
HUES = (0.0, 0.04, 0.08, 0.12, 0.15, 0.29, 0.4, 0.49, 0.55, 0.6, 0.66, 0.73, 0.93)
# fmt: off
# How far an object may lean, in degrees: a leaf lies as it fell, a house stands upright.
LEAN = {"leaf": 90, "key": 60, "fish": 25, "umbrella": 25, "cup": 15, "lamp": 12, "bicycle": 12,
        "house": 8}
# fmt: on


def tone(hue: float, saturation: float, luma: float) -> Colour:
    """Return a colour of a given brightness (0 to 1), as saturated as that brightness allows."""
    luma = min(max(luma, 0.04), 0.96)
    pure = np.array(colorsys.hsv_to_rgb(hue % 1, 1, 1))
    rgb = luma * (1 - saturation + saturation * pure / (pure @ np.array([0.299, 0.587, 0.114])))
    if rgb.max() > 1:
        rgb = luma + (rgb - luma) * (1 - luma) / (rgb.max() - luma)
    red, green, blue = (round(float(channel) * 255) for channel in rgb)
    return red, green, blue


def choose_tones(rng: Rng, hue: float, luma: float) -> Tones:
    saturation = rng.uniform(0.5, 0.9)
    return Tones(
        main=tone(hue, saturation, luma),
        dark=tone(hue, saturation * 0.8, luma - 0.22),
        light=tone(hue + 0.04, saturation * 0.6, luma + 0.25),
        accent=tone(float(rng.choice(HUES)), saturation, luma + rng.uniform(-0.1, 0.1)),
    )


def pose(rng: Rng, width: int, height: int, lean: float, half: float, reach: float) -> Array:
    """Return the 3 x 3 matrix that takes unit coordinates to pixels.

    The object is stretched, sheared, perhaps flipped, turned by up to `lean` degrees, tilted in
    depth and placed off the centre, by `reach` (0 to 1) of the room that its half size leaves.
    """
    angle, flip = np.radians(rng.uniform(-lean, lean)), rng.choice([-1, 1])
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos * flip, -sin, 0], [sin * flip, cos, 0], [0, 0, 1]])
    skew = np.diag([*rng.uniform(0.85, 1.15, 2), 1.0])
    skew[0, 1] = rng.uniform(-0.15, 0.15)
    tilt = np.eye(3)
    tilt[2, :2] = rng.uniform(-0.12, 0.12, 2)
    room = np.maximum(np.array([width, height]) / 2 - half, 0)
    x, y = np.array([width, height]) / 2 + room * rng.uniform(-reach, reach, 2)
    return np.asarray(np.array([[half, 0, x], [0, half, y], [0, 0, 1]]) @ tilt @ turn @ skew)


def place(shapes: Sequence[Shape], matrix: Array) -> list[Shape]:
    """Return the shapes in pixel coordinates."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    placed = []
    for shape in shapes:
        points = np.c_[shape.points, np.ones(len(shape.points))] @ matrix.T
        placed.append(Shape(points[:, :2] / points[:, 2:], shape.colour, shape.stroke * scale))
    return placed


def rasterise(shapes: Sequence[Shape], width: int, height: int) -> Image.Image:
    """Draw placed shapes on a transparent layer with smooth edges."""
    layer = Image.new("RGBA", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    pen = ImageDraw.Draw(layer)
    for points, colour, stroke in shapes:
        corners = [(x, y) for x, y in (points * SUPERSAMPLING).tolist()]
        if stroke == 0:
            pen.polygon(corners, fill=colour)
            continue
        pen.line(corners, colour, max(round(stroke * SUPERSAMPLING), 2), joint="curve")
        for x, y in (corners[0], corners[-1]):
            pen.circle((x, y), stroke * SUPERSAMPLING / 2, fill=colour)
    return layer.reduce(SUPERSAMPLING)


def clutter(rng: Rng, count: int, width: int, height: int) -> list[Shape]:
    """Return small shapes without a meaning, anywhere: polygons, ellipses and bars."""
    shapes = []
    for _ in range(count):
        colour = tone(float(rng.choice(HUES)), rng.uniform(0.1, 0.6), rng.uniform(0.15, 0.85))
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 6))))
        polygon = Shape(np.stack([np.cos(angles), np.sin(angles)], 1), colour)
        ellipse = Shape(arc(0, 0, 1, rng.uniform(0.4, 1)), colour)
        bar = Shape(path((-1, 0), (1, 0)), colour, rng.uniform(0.25, 0.6))
        half = min(width, height) * rng.uniform(0.04, 0.09)
        matrix = pose(rng, width, height, 180, half, 1.0)
        shapes += place([(polygon, ellipse, bar)[int(rng.integers(3))]], matrix)
    return shapes


def lay(canvas: Array, layer: Image.Image, shadow: Array) -> Array:
    """Lay `layer` over `canvas` with a soft shadow: shift right, shift down, strength."""
    right, down, strength = shadow.tolist()
    alpha = layer.getchannel("A")
    blurred = alpha.filter(ImageFilter.GaussianBlur(1 + (abs(right) + abs(down)) / 3))
    moved = blurred.transform(alpha.size, Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down))
    shade = 1 - np.asarray(moved, dtype=np.float32)[..., None] * (strength / 255)
    pixels = np.asarray(layer, dtype=np.float32) / 255
    cover = pixels[..., 3:]
    return np.asarray(canvas * shade * (1 - cover) + pixels[..., :3] * cover)


def light(rng: Rng, canvas: Array) -> Array:
    """Return the picture under a slanting, tinted light, with another contrast and noise."""
    height, width = canvas.shape[:2]
    slope_x, slope_y = rng.uniform(-0.35, 0.35, 2).tolist()
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    lamp = (1 + slope_x * x + slope_y * y)[..., None] * rng.uniform(0.88, 1.12)
    contrast, tint = rng.uniform(0.8, 1.15), rng.uniform(0.95, 1.05, 3).astype(np.float32)
    noise = rng.standard_normal(canvas.shape, dtype=np.float32) * rng.uniform(0.005, 0.03)
    return np.asarray(np.clip(0.5 + (canvas * lamp * tint - 0.5) * contrast + noise, 0, 1))


def draw_picture(label: str, seed: int, width: int, height: int) -> Image.Image:
    """Draw one RGB picture of the object `label`; equal arguments give equal pixels."""
    rng = rng_for(seed, "picture")
    side, hue, other_hue = min(width, height), *rng.choice(HUES, 2, replace=False)
    # Objects are lighter than their ground more often than not, and always clearly set off.
    luma, sign = (rng.uniform(0.22, 0.5), 1) if rng.random() < 0.8 else (rng.uniform(0.5, 0.8), -1)
    tones = choose_tones(rng, other_hue, luma + sign * rng.uniform(0.34, 0.44))
    shadow = np.array([*rng.uniform(-0.05, 0.05, 2) * side, rng.uniform(0.2, 0.55)])
    matrix = pose(rng, width, height, LEAN[label], side * rng.uniform(0.38, 0.47), 0.7)
    behind = clutter(rng, int(rng.integers(5)), width, height)
    before = clutter(rng, int(rng.random() < 0.3), width, height)
    front = [*place(OBJECTS[label](rng, tones), matrix), *before]
    canvas = paint_background(rng, width, height, hue, luma)
    canvas = lay(canvas, rasterise(behind, width, height), shadow)
    canvas = lay(canvas, rasterise(front, width, height), shadow)
    return Image.fromarray((light(rng, canvas) * 255).round().astype(np.uint8))
