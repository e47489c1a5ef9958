"""Draws sets of different images that look alike, plants copies into them, and counts what clean
says of both.

    python benchmarks/lookalikes.py                    # the drawn sets
    python benchmarks/lookalikes.py FOLDER ... --planted 60
    python benchmarks/lookalikes.py --tiles FOLDER     # the magnetic tiles, by their file names
    python benchmarks/lookalikes.py FOLDER ... --montage OUT   # contact sheets of 60 pairs a level

First every set as it is: what clean would remove, put in conflict, group. All images of a drawn set
differ, so 0 is right everywhere; of a folder a person has to look (--montage). Then each change of
`transforms.py` is planted into the set: a changed copy of some of its images. Found is the share of
copies that clean ties to their own original, precision the share of true pairs among those that
concern a copy.
"""

import argparse
import io
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from transforms import CHANGES, changed, rows_of, search_files  # noqa: E402

from stages.clean import Params  # noqa: E402
from stages.lib.clusters import all_ties, join_groups  # noqa: E402
from stages.lib.decoding import READABLE  # noqa: E402
from stages.lib.duplicates import SearchParams  # noqa: E402
from stages.lib.formats import SUFFIXES  # noqa: E402
from stages.lib.images import Picture  # noqa: E402
from stages.lib.params import load_params  # noqa: E402

CROSSED = 8  # numbers between two photographs of the tiles
LETTERS = list("abcdefghijklmnopqrstuvwxyz   ")
Files = list[tuple[str, str, bytes]]  # name, label, bytes


def encode(pixels: Picture, quality: int = 0) -> bytes:
    """Return RGB or gray pixels as JPEG of this quality, or as PNG."""
    buffer = io.BytesIO()
    kind = {"format": "JPEG", "quality": quality} if quality else {"format": "PNG"}
    Image.fromarray(pixels).save(buffer, **kind)
    return buffer.getvalue()


def words(random: np.random.Generator, least: int, most: int) -> str:
    return "".join(random.choice(LETTERS, int(random.integers(least, most))))


def write(pixels: Picture, text: str, place: tuple[int, int], size: float, color: object) -> None:
    cv2.putText(pixels, text, place, 0, size, color, 1, cv2.LINE_AA)


def draw_form(number: int) -> tuple[str, Picture]:
    """Draw one of two forms, filled in with other words each time, and scanned."""
    random = np.random.default_rng(number)
    kind = number % 2
    page = np.full((780, 560), 255, np.uint8)
    cv2.putText(page, ("DELIVERY NOTE", "RECEIPT")[kind], (40, 60), 0, 0.9, 0, 2, cv2.LINE_AA)
    cv2.rectangle(page, (40, 90), (520, 190), 0, 2)
    for row in range(10):
        cv2.line(page, (40, 230 + 48 * row), (520, 230 + 48 * row), 0, 1)
    for x in ((40, 150, 400, 520), (40, 260, 450, 520))[kind]:
        cv2.line(page, (x, 230), (x, 662), 0, 1)
    for y in (115, 140, 165):
        write(page, words(random, 15, 40), (50, y), 0.45, 0)
    for row in range(int(random.integers(3, 9))):
        for x, least, most in ((50, 4, 9), (270, 6, 13), (455, 2, 5)):
            write(page, words(random, least, most), (x, 260 + 48 * row), 0.45, 0)
    noisy = page + random.normal(0, 6, page.shape)
    return f"form_{kind}", np.clip(noisy, 0, 255).astype(np.uint8)


def draw_screen(number: int) -> tuple[str, Picture]:
    """Draw one program's window with another list in it each time."""
    random = np.random.default_rng(10_000 + number)
    page = np.full((600, 960, 3), 245, np.uint8)
    cv2.rectangle(page, (0, 0), (960, 28), (70, 60, 50), -1)
    write(page, "Order manager", (10, 20), 0.5, (255, 255, 255))
    for at, name in enumerate(("File", "Edit", "View", "Reports", "Tools", "Help")):
        write(page, name, (10 + 80 * at, 48), 0.45, (20, 20, 20))
    cv2.rectangle(page, (0, 56), (180, 600), (225, 225, 230), -1)
    for at, name in enumerate(
        ["Inbox", "Open", "Closed", "Clients", "Stock", "Prices", "Staff", "Plans", "Bank"]
    ):
        write(page, name, (14, 84 + 34 * at), 0.5, (40, 40, 40))
    chosen = int(random.integers(0, 7))
    cv2.rectangle(page, (4, 66 + 34 * chosen), (176, 94 + 34 * chosen), (200, 150, 90), 2)
    for row in range(15):
        cv2.line(page, (190, 100 + 32 * row), (950, 100 + 32 * row), (210, 210, 210), 1)
        if row < random.integers(5, 16):
            for x, least, most in ((200, 6, 20), (420, 4, 14), (620, 3, 9), (800, 3, 8)):
                write(page, words(random, least, most), (x, 90 + 32 * row), 0.45, (30, 30, 30))
    return f"view_{number % 2}", page


def draw_part(number: int, freedom: float = 1.0) -> tuple[str, Picture]:
    """Photograph one kind of part, complete or with a piece missing, under a light of its own.

    freedom: how much place and light vary; 0 is a fixed camera under a fixed light.
    """
    random = np.random.default_rng(20_000 + number)
    missing = number % 2
    ground = (95, 98, 102)
    page = np.full((480, 640, 3), (165, 168, 170), np.uint8)
    cv2.rectangle(page, (140, 120), (500, 360), ground, -1)
    cv2.rectangle(page, (140, 120), (500, 360), (60, 60, 62), 3)
    for place in ((180, 160), (460, 160), (180, 320), (460, 320)):
        cv2.circle(page, place, 16, (40, 40, 40), -1, cv2.LINE_AA)
    cv2.circle(page, (320, 240), 60, (130, 132, 135), -1, cv2.LINE_AA)
    cv2.circle(page, (320, 240), 30, (45, 45, 45), -1, cv2.LINE_AA)
    for at in range(5):
        cv2.rectangle(page, (220 + 45 * at, 335), (240 + 45 * at, 350), (150, 140, 60), -1)
    write(page, "AX-204", (250, 160), 0.9, (180, 180, 185))
    if missing:
        corner, pin = ((442, 142), (478, 178)), ((308, 333), (332, 352))
        cv2.rectangle(page, *(corner, pin)[number // 2 % 2], ground, -1)
    turn, scale = random.uniform(-2, 2) * freedom, 1 + random.uniform(-0.02, 0.02) * freedom
    place = cv2.getRotationMatrix2D((320, 240), turn, scale)
    place[:, 2] += random.uniform(-6, 6, 2) * freedom
    shot = cv2.warpAffine(
        page.astype(np.float32), place, (640, 480), borderMode=cv2.BORDER_REPLICATE
    )
    rows, columns = np.mgrid[-1:1:480j, -1:1:640j]
    slope = random.uniform(-1, 1) * rows + random.uniform(-1, 1) * columns
    light = (1 + 0.12 * freedom * slope) * (1 + random.uniform(-0.08, 0.08) * freedom)
    shot = shot * light[:, :, None]
    shot = cv2.GaussianBlur(shot, (0, 0), 0.85 + random.uniform(-0.25, 0.25) * freedom)
    shot += random.normal(0, 4, shot.shape)
    return ("complete", "missing")[missing], np.clip(shot, 0, 255).astype(np.uint8)


def draw_arrow(number: int) -> tuple[str, Picture]:
    """Draw an arrow to the left or to the right, of another size, place and color each time."""
    random = np.random.default_rng(30_000 + number)
    page = np.full((96, 96, 3), 255, np.uint8)
    outline = np.array([(-32, 0), (0, -24), (0, -10), (30, -10), (30, 10), (0, 10), (0, 24)])
    way = (1, 1) if number % 2 else (-1, 1)
    points = outline * way * random.uniform(0.8, 1.2) + 48 + random.uniform(-4, 4, 2)
    color = tuple(int(value) for value in random.integers(0, 140, 3))
    cv2.fillPoly(page, [points.round().astype(np.int32)], color, cv2.LINE_AA)
    return ("right", "left")[number % 2], page


DRAWN: dict[str, tuple[Callable[[int], tuple[str, Picture]], int, int]] = {
    # Set: how to draw an image, how many, and their JPEG quality (0: PNG).
    "forms": (draw_form, 50, 80),
    "screenshots": (draw_screen, 40, 0),
    "parts": (draw_part, 40, 90),
    "parts, camera and light fixed": (partial(draw_part, freedom=0.0), 40, 90),
    "parts, nearly fixed": (partial(draw_part, freedom=0.3), 60, 90),
    "arrows": (draw_arrow, 40, 0),
}


def drawn_files(name: str) -> Files:
    """Return the files of a drawn set."""
    draw, count, quality = DRAWN[name]
    found = []
    for number in range(count):
        label, pixels = draw(number)
        found.append((f"{label}/{number}", label, encode(pixels, quality)))
    return found


def read_files(folder: Path) -> Files:
    """Return the images of a folder, each labeled with the name of its own folder."""
    suffixes = {suffix for kind in READABLE for suffix in SUFFIXES[kind]}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    return [(str(path), path.parent.name, path.read_bytes()) for path in paths]


def judge(files: Files, how: SearchParams) -> tuple[pd.DataFrame, np.ndarray, float]:
    """Return the judged pairs of a set, the group of each file, and the seconds of the search."""
    rows, thumbnails = rows_of([data for _, _, data in files])
    pairs, seconds = search_files(rows, thumbnails, how)
    labels = pd.DataFrame({"label": [label for _, label, _ in files], "clip": ""})
    first = pd.factorize(rows["image_id"])[0]
    picture = pd.Series(np.arange(len(rows))).groupby(first).transform("min").to_numpy(np.int64)
    return pairs, join_groups(picture, all_ties(labels, picture, pairs)), seconds


def as_it_is(name: str, files: Files, how: SearchParams) -> tuple[str, pd.DataFrame]:
    """Return a row of the first table, and the judged pairs."""
    pairs, groups, seconds = judge(files, how)
    labels = np.array([label for _, label, _ in files], object)
    removed = pairs[pairs["level"] == "remove"]
    crossing = removed[(labels[removed["left"]] != labels[removed["right"]]) & ~removed["mirrored"]]
    gone = len(removed["right"].unique())
    sizes = np.bincount(groups)
    largest = int(sizes.max())
    row = (
        f"| {name} | {len(files):,} | {len(pairs):,} | {gone:,} | {len(crossing):,} | "
        f"{(pairs['level'] == 'group').sum():,} | {largest if largest > 1 else 0:,} "
        f"({largest / len(files) if largest > 1 else 0:.1%}) | {seconds:.1f} |"
    )
    return row, pairs


def planted(files: Files, count: int, how: SearchParams) -> list[tuple[float, float]]:
    """Return found and precision of each change, of copies planted into a set.

    Pairs of two images that the set as it is ties already are left out: the first table has them.
    """
    chosen = np.random.default_rng(7).permutation(len(files))[:count]
    originals = [data for _, _, data in files]
    size = len(originals)
    pairs = tied(originals, how)
    known = {frozenset(ends) for ends in zip(pairs["left"], pairs["right"], strict=True)}
    shares = []
    for change, quality in CHANGES.values():
        copies = [changed(originals[at], change, quality, int(at)) for at in chosen]
        own = np.concatenate([np.arange(size), chosen])
        pairs = tied([*originals, *copies], how)
        left, right = (own[pairs[side].to_numpy()] for side in ("left", "right"))
        of_copy = (pairs[["left", "right"]] >= size).any(axis=1).to_numpy(bool)
        unknown = [frozenset(ends) not in known for ends in zip(left, right, strict=True)]
        new = of_copy & np.array(unknown, bool)
        true = np.sum(new & (left == right))
        shares.append((true / len(copies), true / np.sum(new) if np.any(new) else np.nan))
    return shares


def tied(files: list[bytes], how: SearchParams) -> pd.DataFrame:
    """Return the pairs that are copies or show one scene."""
    table, thumbnails = rows_of(files)
    pairs, _ = search_files(table, thumbnails, how)
    return pairs[pairs["level"] != "look_alike"]


def read_tiles(files: Files) -> np.ndarray:
    """Return for each tile photograph the number of the tile, -1 where the name does not tell.

    A file is named exp<light>_num_<number>: the numbers rise through the recording, and a tile was
    taken under the lights one after another, some 20 numbers apart. So a new tile begins where the
    light does not rise or the class changes. Where two photographs lie fewer than CROSSED numbers
    apart two tiles were recorded at once, and the names do not tell which is which.
    """
    marks = [re.search(r"exp(\d)_num_(\d+)", name) for name, _, _ in files]
    keys = sorted((int(mark[2]), int(mark[1]), at) for at, mark in enumerate(marks) if mark)
    tile = np.full(len(files), -1)
    runs: list[list[int]] = []
    crossed: set[int] = set()
    before = (-CROSSED, 9, "")
    for place, light, at in keys:
        label = files[at][0].split("/")[-3]
        if light <= before[1] or label != before[2]:
            runs.append([])
        if place - before[0] < CROSSED:
            crossed |= {len(runs) - 1, len(runs) - 2}
        runs[-1].append(at)
        before = place, light, label
    for number, members in enumerate(runs):
        if number not in crossed:
            tile[members] = number
    return tile


def tiles(folder: Path, how: SearchParams) -> None:
    """Print what becomes of the magnetic tiles."""
    files = [entry for entry in read_files(folder) if entry[0].endswith(".jpg")]
    tile = read_tiles(files)
    pairs, groups, seconds = judge(files, how)
    told = np.unique(tile[tile >= 0])
    several = [np.flatnonzero(tile == number) for number in told]
    several = [members for members in several if len(members) > 1]
    together = sum(len(np.unique(groups[members])) == 1 for members in several)
    gone = len(pairs.loc[pairs["level"] == "remove", "right"].unique())
    known = tile >= 0
    mixed = sum(len(np.unique(tile[known & (groups == at)])) > 1 for at in np.unique(groups))
    print(
        f"{len(files):,} photographs of {len(told):,} tiles that the names tell, {len(several):,} "
        f"taken more than once: {together:,} ({together / len(several):.1%}) in one group; "
        f"{gone:,} photographs removed ({gone / len(files):.1%}); {mixed:,} groups hold more than "
        f"one tile; largest group {np.bincount(groups).max()}; {seconds:.1f} s"
    )


def montage(files: Files, pairs: pd.DataFrame, path: Path, count: int = 60) -> None:
    """Write a contact sheet of pairs, drawn at random."""
    side, columns = 96, 6
    chosen = pairs.sample(min(count, len(pairs)), random_state=7).sort_values("detail")
    cells = []
    for pair in chosen.itertuples():
        both = []
        for at in (pair.left, pair.right):
            with Image.open(io.BytesIO(files[at][2])) as image:
                both.append(np.asarray(image.convert("RGB").resize((side, side))))
        cell = np.full((side + 16, 2 * side + 6, 3), 255, np.uint8)
        cell[:side, : 2 * side] = np.hstack(both)
        write(cell, f"{pair.similarity:.2f} {pair.detail:.3f}", (2, side + 12), 0.35, (0, 0, 0))
        cells.append(cell)
    if not cells:
        return
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.hstack(cells[at : at + columns]) for at in range(0, len(cells), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(path)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--planted", type=int, default=0, help="copies planted per change (0)")
    parser.add_argument("--tiles", type=Path, help="folder of the magnetic tiles")
    parser.add_argument("--montage", type=Path, help="folder for contact sheets")
    wanted = parser.parse_args()
    how = load_params(Params, "clean", ROOT / "params.yaml").search
    if wanted.tiles:
        tiles(wanted.tiles, how)
        return
    sets = {folder.name: read_files(folder) for folder in wanted.folders}
    sets = sets or {name: drawn_files(name) for name in DRAWN}
    print("| set | images | pairs looked at | removed | in conflict | grouped pairs |", end=" ")
    print("largest group | seconds |\n|---|---|---|---|---|---|---|---|")
    for name, files in sets.items():
        row, pairs = as_it_is(name, files, how)
        print(row, flush=True)
        if wanted.montage:
            for level, some in pairs.groupby("level"):
                montage(files, some, wanted.montage / f"{name}_{level}.png")
    if not wanted.planted:
        return
    columns = {name: planted(files, wanted.planted, how) for name, files in sets.items()}
    print(f"\nUp to {wanted.planted} copies of each change: found / precision\n")
    print("| change |", " | ".join(columns), "|\n|---|" + "---|" * len(columns))
    for at, change in enumerate(CHANGES):
        cells = (
            f"{found:.0%} / {precision:.0%}"
            for found, precision in (c[at] for c in columns.values())
        )
        print("|", change, "|", " | ".join(cells).replace("nan%", "–"), "|")


if __name__ == "__main__":
    main()
