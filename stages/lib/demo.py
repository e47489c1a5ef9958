"""Plans and writes the demo data set: drawn pictures, and faults planted among them.

Nothing is downloaded. Every file is planned from one seed and drawn from a seed of its own, so the
bytes depend neither on the order of writing nor on the number of workers. What was planted is
known, so whatever a cleaning step finds can be checked against `truth_table`.
"""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from stages.lib.drawing import draw_picture
from stages.lib.seeds import derive_seed, rng_for

# fmt: off
CLASS_COUNTS = {"leaf": 400, "fish": 340, "cup": 290, "house": 240, "key": 190, "umbrella": 140,
                "lamp": 100, "bicycle": 40}
DAMAGES = {"truncated": 12, "zeroed": 10, "empty": 4, "html": 4}
COPIES = {"exact_copy": 30, "reencoded": 20, "resized": 15, "brightened_shifted": 15,
          "mirrored": 8, "other_label": 6}
FAULT_COUNTS = {**DAMAGES, "wrong_extension": 8, **COPIES}
ENCODING_SHARES = {"jpeg": 0.52, "progressive_jpeg": 0.12, "grey_jpeg": 0.04,
                   "rotated_jpeg": 0.03, "png": 0.20, "grey_png": 0.03, "palette_png": 0.03,
                   "alpha_png": 0.03}
# fmt: on
SMALLEST_SIDE, LARGEST_SIDE = 64, 160  # pixels
HTML_PAGE = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n"


# --- Files: how a picture is stored, and what goes wrong with it ---------------------------------


@dataclass(frozen=True)
class DemoFile:
    """One file of the demo: what is drawn, how it is stored, which fault is planted.

    A copy repeats the drawing of its original (`drawn`, `seed`, size, encoding), so it can be
    written without it. `uri` is "<label>/<file name>"; `fault` is "" for a clean picture.
    """

    uri: str
    drawn: str
    seed: int
    width: int
    height: int
    encoding: str
    quality: int
    fault: str = ""
    original_uri: str = ""


def encode(picture: Image.Image, encoding: str, quality: int) -> bytes:
    """Return the bytes of a file; `encoding` is a key of `ENCODING_SHARES`."""
    options: dict[str, object] = {"format": "PNG", "compress_level": 3}
    if encoding.endswith("jpeg"):
        progressive = encoding == "progressive_jpeg"
        options = {"format": "JPEG", "quality": quality, "progressive": progressive}
    if encoding.startswith("grey"):
        picture = picture.convert("L")
    elif encoding == "palette_png":
        picture = picture.quantize(128, Image.Quantize.FASTOCTREE)
    elif encoding == "alpha_png":
        picture = picture.copy()
        picture.putalpha(255)
    elif encoding == "rotated_jpeg":
        exif = Image.Exif()
        exif[0x0112] = 6  # the viewer turns the picture a quarter clockwise
        options["exif"] = exif.tobytes()
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    buffer = io.BytesIO()
    picture.save(buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def damage(data: bytes, item: DemoFile) -> bytes:
    """Return the bytes of a file after a planted damage."""
    rng = rng_for(item.seed, item.fault)
    if item.fault == "empty":
        return b""
    if item.fault == "html":
        return HTML_PAGE
    if item.fault == "truncated":
        return data[: int(len(data) * rng.uniform(0.3, 0.8))]
    # Zeros decode as about 96 bytes per 16 x 16 block of a JPEG; real data takes 15 to 50 bytes at
    # quality 50 to 60. So the picture runs out of data, and too little follows the zeros to make
    # up for it by chance: of 24,960 such files a strict decoder took none for whole.
    start = data.index(b"\xff\xda" if item.encoding.endswith("jpeg") else b"IDAT") + 16
    length = len(data) - start
    first = start + int(length * rng.uniform(0.5, 0.6))
    run = int(length * rng.uniform(0.25, 0.3))
    return data[:first] + bytes(run) + data[first + run :]


def is_byte_copy(item: DemoFile) -> bool:
    """Return whether a copy keeps its bytes; every other `other_label` is re-encoded instead."""
    return item.fault == "exact_copy" or (item.fault == "other_label" and item.seed % 2 == 0)


def edit_copy(picture: Image.Image, item: DemoFile) -> bytes:
    """Return the bytes of a changed copy of `picture`."""
    rng = rng_for(item.seed, item.fault)
    encoding, quality = item.encoding.split("_")[-1], int(rng.integers(80, 96))
    if item.fault in ("reencoded", "other_label"):
        encoding, quality = "jpeg", int(rng.integers(30, 86))
    elif item.fault == "mirrored":
        picture = ImageOps.mirror(picture)
    elif item.fault == "resized":
        factor = rng.choice([rng.uniform(0.5, 0.85), rng.uniform(1.15, 1.5)])
        size = (round(picture.width * factor), round(picture.height * factor))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    else:
        pixels = np.asarray(picture, dtype=np.float32)
        gain, offset = rng.uniform(0.85, 1.15), rng.uniform(-0.1, 0.1) * 255
        reach = np.array([max(int(picture.width * part), 1) for part in (0.03, 0.015)])
        right, down = rng.integers(-reach, reach + 1).tolist()
        rows = np.clip(np.arange(picture.height) - down, 0, picture.height - 1)
        columns = np.clip(np.arange(picture.width) - right, 0, picture.width - 1)
        moved = np.clip(128 + (pixels[rows][:, columns] - 128) * gain + offset, 0, 255)
        picture = Image.fromarray(moved.round().astype(np.uint8))
    return encode(picture, encoding, quality)


def file_bytes(item: DemoFile) -> bytes:
    """Return the bytes of one planned file."""
    picture = draw_picture(item.drawn, item.seed, item.width, item.height)
    data = encode(picture, item.encoding, item.quality)
    if item.fault in DAMAGES:
        return damage(data, item)
    if item.fault in COPIES and not is_byte_copy(item):
        with Image.open(io.BytesIO(data)) as stored:
            return edit_copy(ImageOps.exif_transpose(stored).convert("RGB"), item)
    return data


def write_demo_file(folder: Path, item: DemoFile) -> None:
    """Draw and write one file under `folder`; the bytes depend on `item` alone."""
    target = folder / item.uri
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file_bytes(item))


# --- The plan ------------------------------------------------------------------------------------


def scaled(counts: dict[str, int], share: float, least: int) -> list[str]:
    """Return every key as often as its scaled count says, but at least `least` times."""
    return [key for key, n in counts.items() for _ in range(max(round(n * share), least))]


def stem(label: str, serial: int) -> str:
    """Return a file name as a camera, a browser or a person would give; unique by `serial`."""
    names = (
        f"IMG_{serial:04d}",
        f"DSC{serial:05d}",
        f"{label} ({serial})",
        f"{label}_{serial}",
        f"P{serial:07d}",
        f"photo-{serial}",
        f"image{serial}",
        f"download ({serial})",
    )
    return names[derive_seed(serial, label) % len(names)]


def plan_picture(seed: int, label: str, fault: str, serial: int) -> DemoFile:
    """Plan a picture that is no copy: its size, its storage and a name to match."""
    rng = rng_for(seed, "file", label, serial)
    shares = list(ENCODING_SHARES.values())
    encoding = str(rng.choice(list(ENCODING_SHARES), p=shares))
    if fault:  # damage and wrong suffixes are planted in plain JPEG and PNG files
        encoding = "png" if serial % 3 == 0 else "jpeg"
    looks_like_jpeg = encoding.endswith("jpeg") != (fault == "wrong_extension")
    suffixes = (".jpg", ".jpg", ".JPG", ".jpeg") if looks_like_jpeg else (".png", ".png", ".PNG")
    suffix = ".jpg" if fault == "html" else str(rng.choice(suffixes))
    long_side = int(rng.integers(96, LARGEST_SIDE + 1))
    short_side = max(round(long_side * rng.uniform(0.67, 1.0)), SMALLEST_SIDE)
    width, height = (long_side, short_side) if rng.random() < 0.6 else (short_side, long_side)
    # `damage` relies on the low quality of a file to be zeroed.
    qualities = (50, 61) if fault == "zeroed" else (80, 96)
    return DemoFile(
        uri=f"{label}/{stem(label, serial)}{suffix}",
        drawn=label,
        seed=derive_seed(seed, "picture", label, serial),
        width=width,
        height=height,
        encoding=encoding,
        quality=int(rng.integers(*qualities)),
        fault=fault,
    )


def plan_copy(original: DemoFile, fault: str, serial: int) -> DemoFile:
    """Plan a copy of `original`: same drawing, other name, and for `other_label` other folder."""
    copy = replace(original, fault=fault, original_uri=original.uri)
    label = original.drawn
    if fault == "other_label":
        others = [name for name in CLASS_COUNTS if name != label]
        label = others[serial % len(others)]
    keeps_format = is_byte_copy(copy) or fault not in ("reencoded", "other_label")
    suffix = Path(original.uri).suffix if keeps_format else ".jpg"
    return replace(copy, uri=f"{label}/{stem(label, serial)}{suffix}")


def choose_originals(
    clean: Sequence[DemoFile], count: int, rng: np.random.Generator
) -> list[DemoFile]:
    """Return `count` different pictures in random order, from every class about its share."""
    totals, ranks = Counter(item.drawn for item in clean), Counter[str]()
    places = []
    for k in rng.permutation(len(clean)).tolist():
        label = clean[k].drawn
        ranks[label] += 1
        places.append((ranks[label] / totals[label], k))
    chosen = [clean[k] for _, k in sorted(places)[:count]]
    return [chosen[k] for k in rng.permutation(len(chosen))]


def plan_demo(seed: int, share: float) -> list[DemoFile]:
    """Plan every file of the demo, sorted by uri.

    `share` scales all counts; at least six pictures a class and one file a fault remain.
    """
    if share <= 0:
        raise ValueError(f"share must be above 0, got {share}; 1.0 draws the whole demo")
    rng = rng_for(seed, "plan")
    labels = scaled(CLASS_COUNTS, share, 6)
    fresh = scaled(DAMAGES | {"wrong_extension": FAULT_COUNTS["wrong_extension"]}, share, 1)
    copies = scaled(COPIES, share, 1)
    count = len(labels) + len(fresh) + len(copies)
    serials = iter((rng.permutation(max(9999, 5 * count)) + 1).tolist())
    clean = [plan_picture(seed, label, "", next(serials)) for label in labels]
    places = [str(rng.choice(list(CLASS_COUNTS))) for _ in fresh]
    faulty = [
        plan_picture(seed, label, fault, next(serials))
        for label, fault in zip(places, fresh, strict=True)
    ]
    originals = choose_originals(clean, len(copies), rng)
    copied = [
        plan_copy(original, fault, next(serials))
        for original, fault in zip(originals, copies, strict=True)
    ]
    return sorted([*clean, *faulty, *copied], key=lambda item: item.uri)


def truth_table(items: Sequence[DemoFile]) -> pd.DataFrame:
    """Return the planted faults: columns uri, fault, original_uri; sorted by uri."""
    rows = [(item.uri, item.fault, item.original_uri) for item in items if item.fault]
    return pd.DataFrame(sorted(rows), columns=["uri", "fault", "original_uri"])
