"""Says what pictures show: `python -m tools.predict IMAGE… [--top N] [--json] [--model FOLDER]`.

IMAGE is a file, or a folder for all files below it. A picture goes through the strict decoder of
scan and the very preprocessing of training. One that cannot be read is a line with its reason; the
exit status is 1 only where no picture could be read.

Reads:  models/exported, the pictures
Writes: nothing but lines, or with --json one list of objects
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.lib.decoding import inspect_bytes
from stages.lib.errors import InputError, run_stage
from stages.lib.exported import EXPORTED, ExportedClassifier
from stages.lib.images import Preprocessing, prepare_picture
from stages.lib.isolation import Limits, Lost, end_all, pack, run_isolated
from stages.lib.measuring import read_bytes
from stages.lib.value_ranges import TYPE_RANGES

AT_ONCE = 64  # pictures that the model answers together
# As presets/demo.yaml has them for scan: the model is used where there may be no params.yaml.
MAX_PIXELS = 100_000_000
LIMITS = Limits(seconds=30, megabytes=4096)
# What is said of an image of more than 8 bits; {0} and {1}: the range that applies.
RANGE_REASONS = {
    "no_value_range": "the model was trained on no such images; convert to 8 bits",
    "too_few_levels": "the model reads {0:g} to {1:g}; bring them to that range, or to 8 bits",
}
FILES = ("labels.json", "class_info.json", "preprocessing.json", "model.onnx")


@dataclass(frozen=True)
class Read:
    """One file as the model gets it.

    reason: why there is no picture, or what damage it has; "" where it is sound.
    """

    path: str
    picture: NDArray[np.uint8] | None
    reason: str


@dataclass(frozen=True)
class Prediction:
    """One file's answer: the most probable labels first; none where it could not be read."""

    path: str
    reason: str
    top: list[dict[str, Any]]


def load_model(folder: Path) -> ExportedClassifier:
    """Return the exported model; raises InputError where one of its files is missing."""
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(
                f"{folder / name} is missing: run `dvc repro export`, which makes it, or name "
                "another folder with --model"
            )
    return ExportedClassifier(folder)


def find_files(names: Iterable[str]) -> list[str]:
    """Return the files, and in place of a folder all files below it, sorted; hidden ones stay out.

    Raises InputError for a folder that holds none.
    """
    files = []
    for name in names:
        if not Path(name).is_dir():
            files.append(name)
            continue
        below = [path for path in Path(name).rglob("*") if path.is_file()]
        shown = [path for path in below if not _is_hidden(path.relative_to(name))]
        if not shown:
            raise InputError(f"the folder {name} holds no file; name one with pictures")
        files += sorted(path.as_posix() for path in shown)
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def read_file(path: str, how: Preprocessing) -> Read:
    """Return a file's picture prepared as in training, or the reason why there is none.

    The first look is taken in a child process, which a decoder may crash; see
    `stages.lib.isolation`.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        return Read(path, None, (error.strerror or "no regular file").lower())
    ranges = {**TYPE_RANGES, **how.value_ranges}
    first_look = partial(inspect_bytes, max_pixels=MAX_PIXELS, value_ranges=ranges)
    (found,) = run_isolated(pack(first_look, LIMITS), [data])
    if isinstance(found, Lost) or found.verdict in ("corrupt", "unsupported"):
        reason = found.reason.replace("_", " ")
        if found.reason in RANGE_REASONS:
            low, high = ranges.get(found.sample_kind, (0, 0))
            values = f"{found.sample_kind} values {found.lowest:g} to {found.highest:g}"
            reason = f"{reason}: {values}; {RANGE_REASONS[found.reason].format(low, high)}"
        return Read(path, None, reason)
    return Read(path, prepare_picture(data, how), found.reason.replace("_", " "))


def top_labels(
    probabilities: NDArray[np.float32], classifier: ExportedClassifier, top: int
) -> list[dict[str, Any]]:
    """Return label, probability and class info of the `top` most probable classes.

    probabilities: (classes,). Equal ones stay in the order of the classes.
    """
    names = classifier.class_names
    best = np.argsort(-probabilities, kind="stable")[:top]
    return [
        {
            "label": names[number],
            "probability": round(float(probabilities[number]), 6),
            **classifier.class_info.get(names[number], {}),
        }
        for number in best
    ]


def predict_files(
    files: Iterable[str], classifier: ExportedClassifier, top: int
) -> Iterator[Prediction]:
    """Yield an answer for every file, in order; AT_ONCE pictures are in memory at a time."""
    reads = (read_file(path, classifier.preprocessing) for path in files)
    while batch := list(islice(reads, AT_ONCE)):
        pictures = [read.picture for read in batch if read.picture is not None]
        answers = iter(classifier.predict_arrays(np.stack(pictures)) if pictures else ())
        for read in batch:
            known = read.picture is not None
            best = top_labels(next(answers), classifier, top) if known else []
            yield Prediction(read.path, read.reason, best)


def text_lines(prediction: Prediction) -> list[str]:
    """Return what the terminal shows of one file: its path, then a line for each label."""
    if not prediction.top:
        return [f"{prediction.path}: cannot be read: {prediction.reason}"]
    damage = f" (damaged: {prediction.reason})" if prediction.reason else ""
    width = max(len(row["label"]) for row in prediction.top)
    rows = [
        f"  {row['label']:<{width}}  {row['probability']:7.2%}  {row.get('description', '')}"
        for row in prediction.top
    ]
    return [f"{prediction.path}{damage}", *(row.rstrip() for row in rows)]


def read_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict", description="Say what pictures show."
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file or a folder of files")
    parser.add_argument("--top", type=int, default=3, help="labels for each picture (3)")
    parser.add_argument("--json", action="store_true", help="print one list of objects")
    parser.add_argument("--model", type=Path, default=EXPORTED, help=f"folder ({EXPORTED})")
    return parser.parse_args()


def main() -> None:
    """Answer for every picture; exit with status 1 where none could be read."""
    wanted = read_arguments()
    if wanted.top < 1:
        raise InputError(f"--top must be at least 1, got {wanted.top}")
    classifier = load_model(wanted.model)
    answered, shown = 0, []
    try:
        for prediction in predict_files(find_files(wanted.images), classifier, wanted.top):
            answered += bool(prediction.top)
            if wanted.json:
                shown.append(asdict(prediction))
            else:
                print(*text_lines(prediction), sep="\n", flush=True)
    finally:
        end_all()
    if wanted.json:
        print(json.dumps(shown, ensure_ascii=False, indent=1))
    sys.exit(0 if answered else 1)


if __name__ == "__main__":
    run_stage("predict", main)
