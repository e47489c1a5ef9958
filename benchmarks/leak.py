"""Publishes what a leaky split is worth: the accuracy that it claims, and what is left of it.

    python benchmarks/leak.py egypt-monuments.zip --weights mobilenet_v2.weights.h5

Runs download, scan and clean in a folder of its own, then comes to a figure by three protocols:

- honest: duplicates removed, whole groups, as the pipeline does;
- by file: each file by itself, duplicates put back (`split.unit: image`), the usual way;
- augmented first: each class is filled up with augmented children, then divided by file, so that
  test holds children as well, and parent and child may lie on two sides.

Before each division one of k parts, of whole groups, is laid aside. The rest is divided into train
and test: test gives the figure that a report would claim, and the part laid aside, new to every
model, what the same model gets. So all are judged by the same new pictures.

The classifiers are a linear head (logistic regression) and the nearest neighbour, both on features
of a frozen MobileNetV2, which are remembered by content below --cache. Intervals are those of a
bootstrap over groups and repeats, the same draws for all figures, so that differences are paired.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from ruamel.yaml import YAML
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.transforms import CHANGES, changed  # noqa: E402
from stages import augment, split  # noqa: E402
from stages.lib.augmentation import augment_picture, policy_from_json  # noqa: E402
from stages.lib.clusters import connect  # noqa: E402
from stages.lib.files import replacing  # noqa: E402
from stages.lib.images import Picture, Preprocessing, prepare_picture  # noqa: E402
from stages.lib.params import load_params, read_params_file  # noqa: E402
from stages.lib.seeds import derive_seed, rng_for  # noqa: E402
from stages.lib.sources import (  # noqa: E402
    SourceFile,
    list_source,
    sha256_of_file,
    unpack_archive,
)
from stages.lib.table import CLEAN, REMOVED, read_table  # noqa: E402
from stages.lib.thumbnails import read_scan  # noqa: E402

Features = NDArray[np.float32]  # (items, 1280)
Mask = NDArray[np.bool_]
Verdicts = NDArray[np.float32]  # (repeats, items): 1 right, 0 wrong, not a number: not asked
Unit = Literal["group", "image"]
Head = Callable[[Features, NDArray[np.int64], Features], NDArray[np.int64]]

PLANTED = ("re-encode, quality 60", "mirror", "resize to 75%", "crop 5%", "brightness × 1.4")
COPY = ".copy-"  # in a planted copy's name, after its original's, before its change's number
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # of the linear head's C, of which one is chosen
HONEST, BY_FILE, AUGMENTED = "honest", "by file", "augmented first"
ABSENT = -2  # the part of items that a protocol does not have
BATCH = 64  # pictures that go through the network at once
SAVE_EVERY = 64  # batches; what a kill can cost
DRAWS = 5_000
DRAWS_AT_ONCE = 250
INTERVAL = [2.5, 97.5]  # percent
FEWEST_GROUPS = 30  # that a figure is given of


def choose_files(files: list[SourceFile], count: int, seed: int) -> list[SourceFile]:
    """Return so many files, equally many of each class as far as it has them, none of an official
    val or test set; 0 returns all.
    """
    if not count:
        return files
    files = [file for file in files if file.official_split in ("", "train")]
    classes: dict[str, list[SourceFile]] = {file.label: [] for file in files}
    for file in files:
        classes[file.label].append(file)
    chosen: list[SourceFile] = []
    for label, members in classes.items():
        order = rng_for(seed, "choose", label).permutation(len(members))
        chosen += [members[at] for at in sorted(order[: count // len(classes)])]
    return chosen


def place_files(files: list[SourceFile], folder: Path, planted: float, seed: int) -> None:
    """Copy files into class folders, and beside a share of them one changed copy each."""
    drawn = rng_for(seed, "plant").permutation(len(files))[: round(planted * len(files))]
    numbers = {int(at): number % len(PLANTED) for number, at in enumerate(drawn)}
    for at, file in enumerate(files):
        target = folder / file.label / file.place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, target)
        if at in numbers:
            change, quality = CHANGES[PLANTED[numbers[at]]]
            copy = changed(file.path.read_bytes(), change, quality, derive_seed(seed, at))
            target.with_name(f"{target.name}{COPY}{numbers[at]}.jpg").write_bytes(copy)


def gather(options: argparse.Namespace, place: Path) -> Path:
    """Return a folder of class folders with the pictures asked for."""
    source = options.data
    if source.is_file():
        unpack_archive(source, place / "unpacked")
        source = place / "unpacked"
    files = choose_files(
        list_source(source, {}, tuple(options.exclude)), options.images, options.seed
    )
    place_files(files, place / "pictures", options.planted, options.seed)
    return place / "pictures"


def run_stages(project: Path, pictures: Path) -> None:
    """Run download, scan and clean on a folder, with the limits of params.yaml; print what they
    say.
    """
    params = read_params_file(ROOT / "params.yaml")
    source = {"source": str(pictures), "watch": str(pictures), "sha256": "", "clip_pattern": ""}
    params["download"] |= {**source, "class_names": {}, "exclude": []}
    project.mkdir()
    with (project / "params.yaml").open("w", encoding="utf-8") as stream:
        YAML(typ="safe", pure=True).dump(params, stream)
    shutil.copy(ROOT / "overrides.csv", project)
    for name in ("download", "scan", "clean"):
        done = subprocess.run(
            [sys.executable, "-m", f"stages.{name}"],
            cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"stage {name} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        print(f"- {done.stdout.splitlines()[-1]}", flush=True)


def read_files(project: Path) -> pd.DataFrame:
    """Return every usable file, duplicates included: columns uri, image_id, label, group_id,
    official_split, kept (by clean), original (the uri that a copy was planted of) and scene (the
    group, and with it the original and its copy even where clean did not tie them).
    """
    data = project / "data"
    kept = read_table(data / "clean.parquet", CLEAN)
    scan, _ = read_scan(data / "scan.parquet")
    rows = split.restore_duplicates(kept, scan, read_table(data / "removed.csv", REMOVED))
    rows = rows[["uri", "image_id", "label", "group_id"]].assign(official_split="")
    originals = rows["uri"].str.rpartition(COPY)[0]
    originals = originals.where(originals.isin(rows["uri"]), "")
    place = pd.Series(np.arange(len(rows)), rows["uri"])
    copies = np.flatnonzero(originals != "")
    truth = pd.DataFrame({"left": copies, "right": place[originals.iloc[copies]].to_numpy()})
    first = place.groupby(rows["group_id"].to_numpy()).transform("min").to_numpy()
    ties = pd.concat([truth, pd.DataFrame({"left": place.to_numpy(), "right": first})])
    return rows.assign(
        kept=rows["uri"].isin(kept["uri"]), original=originals, scene=connect(len(rows), ties)
    )


def add_children(rows: pd.DataFrame, target: int) -> pd.DataFrame:
    """Return the items: files and, up to so many per class, children, by the plan of augment.

    A child's uri is its own, the column file says what it is made of; parent_id and augment_seed
    are as in the index.
    """
    params = load_params(augment.Params, "augment", ROOT / "params.yaml")
    params = replace(params, target_per_class=target or "none", larger_classes="keep")
    items = augment.plan_rows(rows.assign(split="train"), params)
    number = items.groupby("uri").cumcount().astype(str)
    child = items["parent_id"] != ""
    own = items["uri"].where(~child, items["uri"] + "#" + number)
    return items.assign(child=child, file=items["uri"], uri=own)


def draw_pictures(items: pd.DataFrame, project: Path, size: int) -> Iterator[Picture]:
    """Yield each item's pixels, (size, size, 3)."""
    how = Preprocessing(size, size, fit="crop", interpolation="auto", colour="rgb")
    params = load_params(augment.Params, "augment", ROOT / "params.yaml")
    transforms = policy_from_json(json.dumps(params.transforms))
    of_file = zip(items["file"], items["augment_seed"], strict=True)
    for uri, group in groupby(of_file, key=itemgetter(0)):
        picture = prepare_picture((project / uri).read_bytes(), how)
        for _, seed in group:
            yield augment_picture(transforms, picture, int(seed)) if seed else picture


def build_network(weights: Path, size: int) -> Callable[[NDArray[np.float32]], Features]:
    """Return what turns pictures of -1 to 1 into features."""
    # Here and not above: a run whose features are all remembered needs no TensorFlow.
    from stages.lib.keras_runtime import keras, tf

    network = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), include_top=False, weights=str(weights), pooling="avg"
    )
    traced = tf.function(lambda pictures: network(pictures, training=False))
    return lambda pictures: traced(tf.constant(pictures)).numpy()


class Memory:
    """Features by the sha256 of the pixels that they are of, kept in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known: dict[str, NDArray[np.float32]] = {}
        if path.is_file():
            with np.load(path) as saved:
                self.known = dict(zip(saved["keys"].tolist(), saved["features"], strict=True))

    def save(self) -> None:
        """Write all that is known."""
        features = np.stack(list(self.known.values()))
        with replacing(self._path) as unfinished, unfinished.open("wb") as stream:
            np.savez(stream, keys=np.array(list(self.known)), features=features)


def extract_features(pictures: Iterable[Picture], options: argparse.Namespace) -> Features:
    """Return the features of pictures, from memory where they are known."""
    name = f"mobilenet_v2-{sha256_of_file(options.weights)[:12]}-{options.size}.npz"
    memory = Memory(options.cache / name)
    network = None
    keys: list[str] = []
    waiting: dict[str, Picture] = {}
    batches = 0
    for picture in chain(pictures, [None]):  # nothing more comes: what waits goes as it is
        if picture is not None:
            keys.append(hashlib.sha256(picture.tobytes()).hexdigest())
            if keys[-1] not in memory.known:
                waiting[keys[-1]] = picture
        if waiting and (picture is None or len(waiting) == BATCH):
            network = network or build_network(options.weights, options.size)
            pixels = np.stack(list(waiting.values())).astype(np.float32) / 127.5 - 1
            memory.known.update(zip(waiting, network(pixels), strict=True))
            waiting = {}
            batches += 1
            if picture is None or batches % SAVE_EVERY == 0:
                memory.save()
                print(f"features of {len(keys):,} pictures", file=sys.stderr, flush=True)
    return np.stack([memory.known[key] for key in keys])


def linear_head(strength: float) -> Head:
    """Return logistic regression on standardised features, with C = strength."""

    def predict(
        features: Features, classes: NDArray[np.int64], asked: Features
    ) -> NDArray[np.int64]:
        head = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
        found: NDArray[np.int64] = head.fit(features, classes).predict(asked)
        return found

    return predict


def nearest_neighbour(
    features: Features, classes: NDArray[np.int64], asked: Features
) -> NDArray[np.int64]:
    """Return the class of the training picture whose features point most nearly the same way."""
    known, wanted = (
        part / np.linalg.norm(part, axis=1, keepdims=True) for part in (features, asked)
    )
    nearest: NDArray[np.int64] = classes[(wanted @ known.T).argmax(axis=1)]
    return nearest


@dataclass(frozen=True)
class Protocol:
    """One way to come to a figure: which items it has, and what it keeps together."""

    name: str
    members: Mask
    unit: Unit


@dataclass(frozen=True)
class Division:
    """One repeat of a protocol: the part that each item is in, -1 for always train.

    aside: the parts laid aside in turn, whole scenes, the same for all protocols; own: its own.
    """

    aside: NDArray[np.int64]
    own: NDArray[np.int64]
    n_folds: int

    def sides(self, fold: int) -> tuple[Mask, Mask, Mask, Mask]:
        """Return the masks of train, val, test and new items, when part `fold` is laid aside.

        Val, a part of its own, belongs to train but where a strength is chosen.
        """
        new = self.aside == fold
        test = ~new & (self.own == (fold + 1) % self.n_folds)
        val = ~new & (self.own == (fold + 2) % self.n_folds)
        absent = self.own == ABSENT
        return ~(new | test | val | absent), val, test, new


def protocols_of(items: pd.DataFrame) -> list[Protocol]:
    """Return the protocols that these items allow."""
    child, kept = items["child"].to_numpy(bool), items["kept"].to_numpy(bool)
    protocols = [Protocol(HONEST, kept & ~child, "group"), Protocol(BY_FILE, ~child, "image")]
    return (
        [*protocols, Protocol(AUGMENTED, np.ones(len(items), bool), "image")]
        if child.any()
        else protocols
    )


def parts_of(rows: pd.DataFrame, unit: Unit, n_folds: int, seed: int) -> NDArray[np.int64]:
    """Return the part of each row, as split makes its folds."""
    params = load_params(split.Params, "split", ROOT / "params.yaml")
    params = replace(
        params, seed=seed, unit=unit, n_folds=n_folds, fold=0, val=0.5 / n_folds,
        small_classes="train",
    )  # fmt: skip
    sides, _ = split.assign_splits(rows, params)
    parts: NDArray[np.int64] = sides["fold"].to_numpy(np.int64)
    return parts


def divide(
    items: pd.DataFrame, protocol: Protocol, n_folds: int, seed: int, repeat: int
) -> Division:
    """Return one repeat of a protocol."""
    files = items[~items["child"]]
    scenes = files.assign(group_id=files["scene"].astype(str))
    aside = parts_of(scenes, "group", n_folds, derive_seed(seed, "aside", repeat))
    by_scene = pd.Series(aside, files["scene"]).groupby(level=0).first()
    own = np.full(len(items), ABSENT)
    drawn = derive_seed(seed, protocol.name, repeat)
    own[protocol.members] = parts_of(items[protocol.members], protocol.unit, n_folds, drawn)
    return Division(items["scene"].map(by_scene).to_numpy(np.int64), own, n_folds)


@dataclass(frozen=True)
class Answers:
    """What the models of one protocol said, repeat by repeat.

    claimed: of items in its own test sets; new: of items laid aside; related: whether train held
    another item of the same scene when the item was in test.
    """

    claimed: Verdicts
    new: Verdicts
    related: Mask


def ask(items: pd.DataFrame, features: Features, divisions: list[Division], head: Head) -> Answers:
    """Train one model per repeat and part, and hold its answers against the labels."""
    classes = pd.factorize(items["label"], sort=True)[0]
    scene = items["scene"].to_numpy()
    shape = (len(divisions), len(items))
    claimed, new = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    related = np.zeros(shape, bool)
    for repeat, division in enumerate(divisions):
        for fold in range(division.n_folds):
            train, val, test, aside = division.sides(fold)
            train = train | val
            right = np.zeros(len(items), bool)
            asked = test | aside
            right[asked] = head(features[train], classes[train], features[asked]) == classes[asked]
            claimed[repeat, test], new[repeat, aside] = right[test], right[aside]
            related[repeat, test] = np.isin(scene[test], scene[train])
    return Answers(claimed, new, related)


def choose_strength(items: pd.DataFrame, features: Features, division: Division) -> float:
    """Return the C that is best on val of the first honest division, whose test is not looked
    at."""
    classes = pd.factorize(items["label"], sort=True)[0]
    train, val, _, _ = division.sides(0)
    right = {}
    for strength in STRENGTHS:
        found = linear_head(strength)(features[train], classes[train], features[val])
        right[strength] = int((found == classes[val]).sum())
    return max(right, key=lambda strength: (right[strength], -strength))


class Bootstrap:
    """Accuracies with intervals: groups and repeats are drawn with replacement, the same for all
    figures.
    """

    def __init__(self, scene: NDArray[np.int64], repeats: int, seed: int) -> None:
        random = rng_for(seed, "bootstrap")
        self._scene = scene
        self._count = int(scene.max()) + 1

        def draw(count: int) -> NDArray[np.float32]:
            chances = np.full(count, 1 / count)
            return random.multinomial(count, chances, DRAWS_AT_ONCE).astype(np.float32)

        self._draws = [(draw(self._count), draw(repeats)) for _ in range(DRAWS // DRAWS_AT_ONCE)]

    def accuracy(self, verdicts: Verdicts) -> NDArray[np.float64]:
        """Return the share that is right, in percent: first as it is, then of every draw."""
        asked = ~np.isnan(verdicts)
        right, all_asked = (self._per_scene(part) for part in (np.where(asked, verdicts, 0), asked))
        each = [
            ((scenes @ right) * repeats).sum(axis=1) / ((scenes @ all_asked) * repeats).sum(axis=1)
            for scenes, repeats in self._draws
        ]
        return 100 * np.concatenate([[right.sum() / all_asked.sum()], *each])

    def _per_scene(self, values: NDArray[np.float32] | Mask) -> NDArray[np.float32]:
        """Return sums over the items of each scene, (scenes, repeats)."""
        sums = [np.bincount(self._scene, row, self._count) for row in values]
        return np.stack(sums, axis=1).astype(np.float32)


def figure(values: NDArray[np.float64], sign: str = "") -> str:
    """Return a figure and its interval in words."""
    low, high = np.percentile(values[1:], INTERVAL)
    return f"{values[0]:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def print_claims(answers: dict[str, Answers], kept: Mask, bootstrap: Bootstrap) -> None:
    """Print what each protocol claims, and what the same models get."""
    print(
        "\n| split | n | claimed, % | above honest | the same models on new pictures, % | "
        "overclaimed |\n|---|---|---|---|---|---|"
    )
    honest = bootstrap.accuracy(answers[HONEST].claimed)
    for name, said in answers.items():
        claimed = bootstrap.accuracy(said.claimed)
        got = bootstrap.accuracy(np.where(kept, said.new, np.nan))
        above = "–" if name == HONEST else figure(claimed - honest, "+")
        over = figure(claimed - got, "+")
        count = int((~np.isnan(said.claimed)).any(axis=0).sum())
        print(
            f"| {name} | {count:,} | {figure(claimed)} | {above} | {figure(got)} | {over} |",
            flush=True,
        )


def print_sources(
    answers: dict[str, Answers], scene: NDArray[np.int64], bootstrap: Bootstrap
) -> None:
    """Print where a leaky figure comes from: the very same pictures, in test and when new."""
    print(
        "\n| split | its test pictures | share | in its test, % | the same when new, % | gained |"
    )
    print("|---|---|---|---|---|---|")
    for name, said in answers.items():
        if name == HONEST:
            continue
        both = ~np.isnan(said.claimed) & ~np.isnan(said.new)
        for words, of_kind in (("with", said.related), ("without", ~said.related)):
            cells = both & of_kind
            start = f"| {name} | {words} a relative in train | {cells.sum() / both.sum():.1%} |"
            if len(np.unique(scene[cells.any(axis=0)])) < FEWEST_GROUPS:
                print(f"{start} too few to say | | |", flush=True)
                continue
            in_test, when_new = (
                bootstrap.accuracy(np.where(cells, verdicts, np.nan))
                for verdicts in (said.claimed, said.new)
            )
            gained = figure(in_test - when_new, "+")
            print(f"{start} {figure(in_test)} | {figure(when_new)} | {gained} |", flush=True)


def print_planted(rows: pd.DataFrame, own: NDArray[np.int64]) -> None:
    """Print how many planted copies clean found, and how many a split by file divides."""
    place = pd.Series(np.arange(len(rows)), rows["uri"])
    copies = np.flatnonzero(rows["original"] != "")
    originals = place[rows["original"].iloc[copies]].to_numpy()
    group, kept = rows["group_id"].to_numpy(), rows["kept"].to_numpy(bool)
    kind = rows["uri"].iloc[copies].str.rpartition(COPY)[2].str.removesuffix(".jpg")
    table = pd.DataFrame(
        {
            "change": [PLANTED[int(number)] for number in kind],
            "copies": 1,
            "tied": group[copies] == group[originals],
            "removed": ~(kept[copies] & kept[originals]),
            "divided": own[copies] != own[originals],
        }
    )
    sums = table.groupby("change").sum()
    sums.loc["all"] = sums.sum()
    print(
        "\n| planted | copies | tied to its original | one of the two removed | divided by file |"
    )
    print("|---|---|---|---|---|")
    for change, found in sums.iterrows():
        shares = " | ".join(
            f"{found[name]:,} ({found[name] / found['copies']:.1%})"
            for name in ("tied", "removed", "divided")
        )
        print(f"| {change} | {found['copies']:,} | {shares} |")


def print_setting(items: pd.DataFrame, division: Division, options: argparse.Namespace) -> None:
    """Print what the figures are of."""
    files = items[~items["child"]]
    kept = files["kept"].to_numpy(bool)
    tested = kept & (division.aside[~items["child"]] >= 0)
    print(
        f"\n{len(files):,} files, {kept.sum():,} kept ({tested.sum():,} of them tested), "
        f"{items['scene'].nunique():,} groups; k = {options.folds}, repeats: {options.repeats}; "
        f"{options.size} × {options.size} pixels"
    )
    if len(files) < len(items):
        print(
            f"augmented first: at least {options.target} a class, {len(items):,} pictures, "
            f"{1 - len(files) / len(items):.1%} of them children",
            flush=True,
        )


def print_all(items: pd.DataFrame, features: Features, options: argparse.Namespace) -> None:
    """Divide, ask and print."""
    divisions = {
        protocol.name: [
            divide(items, protocol, options.folds, options.seed, repeat)
            for repeat in range(options.repeats)
        ]
        for protocol in protocols_of(items)
    }
    files = ~items["child"].to_numpy(bool)
    if (items["original"] != "").any():
        print_planted(items[files].reset_index(drop=True), divisions[BY_FILE][0].own[files])
    print_setting(items, divisions[HONEST][0], options)
    strength = choose_strength(items, features, divisions[HONEST][0])
    scene = items["scene"].to_numpy(np.int64)
    bootstrap = Bootstrap(scene, options.repeats, options.seed)
    heads: dict[str, Head] = {
        f"Linear head, C = {strength:g}": linear_head(strength),
        "Nearest neighbour": nearest_neighbour,
    }
    for words, head in heads.items():
        answers = {name: ask(items, features, each, head) for name, each in divisions.items()}
        print(f"\n#### {words}")
        print_claims(answers, files & items["kept"].to_numpy(bool), bootstrap)
        print_sources(answers, scene, bootstrap)


def read_options() -> argparse.Namespace:
    """Return the command line; a wrong value is an error before any work."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, help="a folder of class folders, or an archive of one")
    parser.add_argument("--weights", type=Path, required=True, help="of MobileNetV2, without top")
    parser.add_argument("--size", type=int, default=96, help="pixels of a side")
    parser.add_argument("--images", type=int, default=0, help="to draw, 0: all")
    parser.add_argument("--planted", type=float, default=0.0, help="share that gets a copy")
    parser.add_argument("--target", type=int, default=200, help="of augmented first, 0: without")
    parser.add_argument("--folds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--exclude", nargs="*", default=[], help="class folders to leave out")
    parser.add_argument("--cache", type=Path, default=Path(".cache/leak"))
    options = parser.parse_args()
    for path, name in ((options.data, "data"), (options.weights, "--weights")):
        if not path.exists():
            parser.error(f"{name}: {str(path)!r} does not exist")
    if options.folds < 4:
        parser.error(f"--folds must be at least 4 (train, val, test, new), got {options.folds}")
    if not 0 <= options.planted <= 1:
        parser.error(f"--planted must be a share from 0 to 1, got {options.planted}")
    for name in ("images", "target", "repeats"):
        if getattr(options, name) < (name == "repeats"):
            parser.error(f"--{name} is too small: {getattr(options, name)}")
    return options


def main() -> None:
    """Print the tables."""
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        run_stages(project, gather(options, Path(folder)))
        items = add_children(read_files(project), options.target)
        features = extract_features(draw_pictures(items, project, options.size), options)
    print_all(items, features, options)


if __name__ == "__main__":
    main()
