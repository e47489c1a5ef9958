"""Plants copies with one known change each, and counts which of them the search for duplicates
finds.

    python benchmarks/transforms.py FOLDER --images 400

Takes images of FOLDER that are no copies of each other, makes one changed copy of each, measures
all as scan does and searches as clean does, with the limits of params.yaml. A pair of a copy and
its own original counts as found where clean removes one of them or keeps both on one side; a pair
of a copy and anything else is false. Beside it stands what a perceptual hash alone would say: pHash
within the radius, mirrored ones included.
"""

import argparse
import hashlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.clean import Params  # noqa: E402
from stages.lib.clusters import connect  # noqa: E402
from stages.lib.decoding import READABLE  # noqa: E402
from stages.lib.duplicates import SearchParams, find_duplicates  # noqa: E402
from stages.lib.formats import SUFFIXES  # noqa: E402
from stages.lib.hamming import hamming_join  # noqa: E402
from stages.lib.images import THUMBNAIL_BYTES, read_picture  # noqa: E402
from stages.lib.measuring import columns_of, measure  # noqa: E402
from stages.lib.params import load_params  # noqa: E402
from stages.lib.thumbnails import Thumbnails  # noqa: E402

MAX_PIXELS = 100_000_000
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def resized(share: float) -> Change:
    def change(image: Image.Image, _: np.random.Generator) -> Image.Image:
        size = (max(round(image.width * share), 8), max(round(image.height * share), 8))
        return image.resize(size, Image.Resampling.BICUBIC)

    return change


def cropped(share: float) -> Change:
    """Cut this share off the width and the height, at a random place."""

    def change(image: Image.Image, random: np.random.Generator) -> Image.Image:
        width, height = round(image.width * (1 - share)), round(image.height * (1 - share))
        left = int(random.integers(0, image.width - width + 1))
        top = int(random.integers(0, image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return change


def noisy(deviation: float) -> Change:
    def change(image: Image.Image, random: np.random.Generator) -> Image.Image:
        pixels = np.asarray(image) + random.normal(0, deviation, (image.height, image.width, 3))
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    return change


def blurred(share: float) -> Change:
    return lambda image, _: image.filter(ImageFilter.GaussianBlur(share * min(image.size)))


def framed(share: float) -> Change:
    return lambda image, _: ImageOps.expand(image, round(share * min(image.size)), "white")


def captioned(image: Image.Image, _: np.random.Generator) -> Image.Image:
    """Write a line of white on a black bar over the lowest eighth."""
    image = image.copy()
    draw, bar = ImageDraw.Draw(image), max(image.height // 8, 4)
    draw.rectangle((0, image.height - bar, image.width, image.height), fill="black")
    for at in range(bar, image.width - bar, max(bar // 2, 2)):
        draw.rectangle(
            (at, image.height - bar * 3 // 4, at + bar // 4, image.height - bar // 4), fill="white"
        )
    return image


def same(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image


# Name: change and JPEG quality of the copy.
CHANGES: dict[str, tuple[Change, int]] = {
    **{f"re-encode, quality {q}": (same, q) for q in (95, 80, 60, 40, 20, 10)},
    **{f"resize to {share:.0%}": (resized(share), 85) for share in (1.5, 0.75, 0.5, 0.25)},
    **{f"crop {share:.0%}": (cropped(share), 85) for share in (0.02, 0.05, 0.1, 0.2)},
    **{
        f"rotate {angle}°": (lambda i, _, a=angle: i.rotate(a, Image.Resampling.BICUBIC), 85)
        for angle in (1, 2, 5)
    },
    **{
        f"brightness × {by}": (lambda i, _, b=by: ImageEnhance.Brightness(i).enhance(b), 85)
        for by in (0.6, 1.4)
    },
    **{
        f"contrast × {by}": (lambda i, _, b=by: ImageEnhance.Contrast(i).enhance(b), 85)
        for by in (0.6, 1.4)
    },
    **{f"blur, {share:.0%} of the side": (blurred(share), 85) for share in (0.01, 0.03)},
    **{f"noise, deviation {level}": (noisy(level), 85) for level in (10, 20)},
    "grey": (lambda i, _: i.convert("L").convert("RGB"), 85),
    "mirror": (lambda i, _: ImageOps.mirror(i), 85),
    **{f"border of {share:.0%}": (framed(share), 85) for share in (0.05, 0.1)},
    "caption": (captioned, 85),
}


def search_files(
    rows: pd.DataFrame, thumbnails: Thumbnails, how: SearchParams
) -> tuple[pd.DataFrame, float]:
    """Return the judged pairs among distinct readable files (positions in `rows`), and seconds."""
    kept = np.flatnonzero(~rows["image_id"].duplicated() & (rows["verdict"] == "ok"))
    details = rows["detail"].tolist()

    def read(wanted: Sequence[int]) -> dict[int, bytes]:
        return {at: details[at] for at in wanted}

    started = time.perf_counter()
    pairs = find_duplicates(rows.iloc[kept], thumbnails, read, how)
    took = time.perf_counter() - started
    return pairs.assign(**{side: kept[pairs[side]] for side in ("left", "right")}), took


def rows_of(files: list[bytes]) -> tuple[pd.DataFrame, Thumbnails]:
    """Return what scan measures of files, as the search reads it."""
    records = [measure(data, hashlib.sha256(data).digest(), MAX_PIXELS) for data in files]
    rows = pd.DataFrame(columns_of(records, [f"{at}.jpg" for at in range(len(files))]))
    blank = bytes(THUMBNAIL_BYTES)
    pixels = b"".join(thumbnail or blank for thumbnail in rows["thumbnail"])
    thumbnails = np.frombuffer(pixels, np.uint8).reshape(-1, THUMBNAIL_BYTES)
    return rows.assign(thumbnail=np.arange(len(rows))), thumbnails


def choose_originals(folder: Path, count: int, seed: int, how: SearchParams) -> list[bytes]:
    """Return files of the folder that can be read and are no copies of each other."""
    suffixes = {suffix for kind in READABLE for suffix in SUFFIXES[kind]}
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    order = np.random.default_rng(seed).permutation(len(files))[: 2 * count]
    found = {
        hashlib.sha256(data).digest(): data for data in (files[at].read_bytes() for at in order)
    }
    data = list(found.values())
    rows, thumbnails = rows_of(data)
    pairs, _ = search_files(rows, thumbnails, how)
    groups = connect(len(rows), pairs[pairs["level"] != "look_alike"])
    _, first = np.unique(groups, return_index=True)
    readable = (rows["verdict"] == "ok").to_numpy()
    return [data[at] for at in sorted(first) if readable[at]][:count]


def changed(data: bytes, change: Change, quality: int, seed: int) -> bytes:
    """Return a copy of an image with one change, as a JPEG file; transparent parts become white."""
    upright = Image.fromarray(read_picture(data))
    buffer = io.BytesIO()
    copy = change(upright, np.random.default_rng(seed))
    copy.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def shares(left: np.ndarray, right: np.ndarray, count: int) -> tuple[float, float]:
    """Return recall and precision of pairs among `count` originals and, after them, their
    copies."""
    concerns = (left >= count) | (right >= count)
    left, right = left[concerns], right[concerns]
    true = np.abs(left - right) == count
    return true.sum() / count, true.sum() / max(len(left), 1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    params = load_params(Params, "clean", ROOT / "params.yaml")
    how = params.search
    originals = choose_originals(arguments.folder, arguments.images, arguments.seed, how)
    count = len(originals)
    print(f"{count:,} images of {arguments.folder.name}, one changed copy of each at a time\n")
    print("| change | found | of these removed | precision | pHash alone | its precision |")
    print("|---|---|---|---|---|---|")
    for name, (change, quality) in CHANGES.items():
        copies = [changed(data, change, quality, at) for at, data in enumerate(originals)]
        rows, thumbnails = rows_of([*originals, *copies])
        pairs, _ = search_files(rows, thumbnails, how)
        pairs = pairs[pairs["level"] != "look_alike"]
        left, right = pairs["left"].to_numpy(), pairs["right"].to_numpy()
        recall, precision = shares(left, right, count)
        sure = pairs["level"].to_numpy() == "remove"
        removed, _ = shares(left[sure], right[sure], count)
        hashes, mirrored = (rows[name].to_numpy(np.uint64) for name in ("phash", "phash_mirrored"))
        near = np.concatenate(
            [hamming_join(q, hashes, how.hash_radius) for q in (hashes, mirrored)]
        )
        near = np.unique(np.sort(near[near[:, 0] != near[:, 1]], axis=1), axis=0)
        hashed, hash_precision = shares(near[:, 0], near[:, 1], count)
        print(
            f"| {name} | {recall:.1%} | {removed:.1%} | {precision:.1%} | {hashed:.1%} | "
            f"{hash_precision:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
