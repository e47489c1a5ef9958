"""Augment: train, and only train, is balanced; every row of the arrays is what the index says."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages import augment, clean, download, scan, split
from stages.augment import (
    BATCH_ROWS,
    Params,
    balance_metrics,
    balance_table,
    plan_batches,
    plan_rows,
    target_size,
)
from stages.lib import parallel
from stages.lib.augmentation import augment_picture, build_policy
from stages.lib.dataset import DATASET, is_leaky, load_split
from stages.lib.errors import InputError
from stages.lib.images import Preprocessing, load_preprocessing, prepare_picture
from stages.lib.metrics import read_metrics
from stages.lib.table import CLEAN, INDEX, REMOVED, SCAN, SPLIT, SPLITS, read_table, write_table
from stages.lib.value_ranges import write_value_ranges

TRANSFORMS = [
    {"name": "HorizontalFlip", "p": 0.5},
    {"name": "Affine", "rotate": [-15, 15], "scale": [0.85, 1.15], "p": 1.0},
]
Writer = Callable[[Path, Mapping[str, bytes]], None]


def params(target: Any = "max", larger: Any = "keep", seed: int = 7) -> Params:
    return Params(seed, 16, 16, "stretch", "auto", "rgb", target, larger, TRANSFORMS)


def split_table(train: Mapping[str, int], others: int = 2) -> pd.DataFrame:
    """Return a split table with so many training images per class, and some in val and test."""
    counts = [("train", label, count) for label, count in train.items()]
    counts += [(name, label, others) for name in ("val", "test") for label in train]
    rows = [
        (f"{label}/{name}{n:03}", f"{label}-{name}-{n}", label, f"g{label}{name}{n}", name)
        for name, label, count in counts
        for n in range(count)
    ]
    columns = ["uri", "image_id", "label", "group_id", "split"]
    table = pd.DataFrame(rows, columns=columns).sort_values("uri", ignore_index=True)
    return table.assign(fold=-1, unit="group")


# --- The plan -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"), [("max", 9), ("median", 4), ("none", 0), (5, 5), (1, 1), (100, 100)]
)
def test_the_target_is_as_the_word_says(target: Any, expected: int) -> None:
    assert target_size(pd.Series([9, 4, 1]), target) == expected


COUNTS = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=1)
TARGETS = st.sampled_from(["max", "median", "none"]) | st.integers(1, 60)


@settings(max_examples=60, deadline=None)
@given(COUNTS, TARGETS, st.sampled_from(["keep", "cap"]))
def test_1_classes_have_exactly_as_many_images_as_they_are_to_have(
    counts: dict[str, int], target: Any, larger: str
) -> None:
    index = plan_rows(split_table(counts), params(target, larger))

    sizes = index[index["split"] == "train"]["label"].value_counts().to_dict()
    goal = target_size(pd.Series(counts), target)
    if goal == 0:
        assert sizes == counts
    elif larger == "cap":
        assert sizes == dict.fromkeys(counts, goal)
    else:
        assert sizes == {label: max(count, goal) for label, count in counts.items()}


@settings(max_examples=30, deadline=None)
@given(COUNTS, TARGETS, st.sampled_from(["keep", "cap"]))
def test_2_val_and_test_stay_as_they_are(counts: dict[str, int], target: Any, larger: str) -> None:
    table = split_table(counts)

    index = plan_rows(table, params(target, larger))

    for name in ("val", "test"):
        rows = index[index["split"] == name]
        assert rows["uri"].tolist() == table[table["split"] == name]["uri"].tolist()
        assert set(rows["parent_id"]) == {""}
        assert set(rows["augment_seed"]) == {0}


@settings(max_examples=30, deadline=None)
@given(COUNTS, TARGETS, st.sampled_from(["keep", "cap"]))
def test_3_children_are_of_train_carry_their_parents_id_and_have_seeds_of_their_own(
    counts: dict[str, int], target: Any, larger: str
) -> None:
    index = plan_rows(split_table(counts), params(target, larger))

    children = index[index["parent_id"] != ""]
    originals = index[(index["parent_id"] == "") & (index["split"] == "train")]
    assert set(children["split"]) <= {"train"}
    assert (children["parent_id"] == children["image_id"]).all()
    assert set(children["uri"]) <= set(originals["uri"])
    assert children["augment_seed"].is_unique
    assert (children["augment_seed"] > 0).all()
    assert index["augment_seed"].dtype == np.int64


@settings(max_examples=30, deadline=None)
@given(COUNTS, st.integers(1, 120))
def test_4_children_are_dealt_out_evenly(counts: dict[str, int], target: int) -> None:
    index = plan_rows(split_table(counts), params(target))

    train = index[index["split"] == "train"]
    for _, rows in train.groupby("label"):
        copies = rows["uri"].value_counts()
        assert copies.max() - copies.min() <= 1


@pytest.mark.parametrize("larger", ["keep", "cap"])
def test_5_the_order_of_the_rows_has_no_say(larger: str) -> None:
    table = split_table({"a": 30, "b": 4, "c": 11})
    how = params(12, larger)

    plans = [plan_rows(table.sample(frac=1, random_state=seed), how) for seed in range(3)]

    for plan in plans:
        pd.testing.assert_frame_equal(plan, plan_rows(table, how))


@pytest.mark.parametrize("larger", ["keep", "cap"])
def test_6_another_seed_draws_others(larger: str) -> None:
    table = split_table({"a": 30, "b": 7})

    one, other = (plan_rows(table, params(10, larger, seed)) for seed in (1, 2))

    assert one["uri"].tolist() != other["uri"].tolist()
    assert set(one["augment_seed"]) & set(other["augment_seed"]) == {0}


def test_7_equal_files_under_several_names_and_labels_have_children_of_their_own() -> None:
    table = split_table({"a": 3, "b": 2})
    table["image_id"] = table["image_id"].mask(table["split"] == "train", "the same")

    index = plan_rows(table, params(20))

    children = index[index["parent_id"] != ""]
    assert len(children) == 35
    assert children["augment_seed"].is_unique
    alone = plan_rows(
        table[(table["uri"] == "a/train000") | (table["split"] != "train")], params(9)
    )
    seeds = children[children["uri"] == "a/train000"]["augment_seed"].tolist()
    of_alone = alone[alone["parent_id"] != ""]["augment_seed"].tolist()
    assert seeds == of_alone[: len(seeds)], "the first of them draws as if it were the only one"


@settings(max_examples=30, deadline=None)
@given(COUNTS, st.integers(1, 60), st.integers(1, 4))
def test_8_no_seed_stands_twice_in_the_index(
    counts: dict[str, int], target: int, different: int
) -> None:
    table = split_table(counts)
    table["image_id"] = [f"id{at % different}" for at in range(len(table))]

    index = plan_rows(table, params(target))

    assert index.loc[index["parent_id"] != "", "augment_seed"].is_unique


def test_9_rows_are_numbered_from_zero_in_each_split() -> None:
    index = plan_rows(split_table({"a": 5, "b": 2}), params())

    for name in SPLITS:
        rows = index[index["split"] == name]["row"].tolist()
        assert rows == list(range(len(rows)))


@settings(max_examples=30, deadline=None)
@given(COUNTS, st.integers(1, 200))
def test_batches_fill_the_arrays_row_by_row_without_a_gap(
    counts: dict[str, int], target: int
) -> None:
    index = plan_rows(split_table(counts), params(target))
    places = {name: (Path(f"{name}.npy"), 128) for name in SPLITS}

    batches = plan_batches(index, places, 10)

    flat = [(batch.uri, seed) for batch in batches for seed in batch.seeds]
    assert flat == list(zip(index["uri"], index["augment_seed"], strict=True))
    for name in SPLITS:
        start = 128
        for batch in batches:
            if batch.array == f"{name}.npy":
                assert batch.start == start
                start += 10 * len(batch.seeds)
        assert start == 128 + 10 * (index["split"] == name).sum()
    assert max(len(batch.seeds) for batch in batches) <= BATCH_ROWS


def test_the_balance_is_counted_per_class() -> None:
    index = plan_rows(split_table({"a": 5, "b": 2}), params())

    assert balance_table(index).to_numpy().tolist() == [["a", 5, 0], ["b", 2, 3]]


def test_without_children_the_balance_says_none() -> None:
    index = plan_rows(split_table({"a": 5, "b": 2}), params("none"))

    assert balance_table(index).to_numpy().tolist() == [["a", 5, 0], ["b", 2, 0]]


def test_the_imbalance_is_measured_before_and_after() -> None:
    table = split_table({"a": 6, "b": 2})

    kept = balance_metrics(table, plan_rows(table, params("none")))
    balanced = balance_metrics(table, plan_rows(table, params("max")))

    assert (kept["imbalance_ratio"], kept["imbalance_ratio_before"]) == (3, 3)
    assert (balanced["imbalance_ratio"], balanced["imbalance_ratio_before"]) == (1, 3)
    # Shares of 3/4 and 1/4 have an entropy of 0.8113 bits, of the 1 bit that halves would have.
    assert balanced["class_evenness_before"] == pytest.approx(0.8113, abs=1e-4)
    assert balanced["class_evenness"] == pytest.approx(1)
    assert (balanced["children"], balanced["train"]) == (4, 12)


# --- The stages one after another ---------------------------------------------------------------


@pytest.fixture
def run_stages(
    project: Callable[..., Path], picture_file: Callable[..., bytes], write_files: Writer
) -> Callable[..., None]:
    """Return a function that runs download to augment on 28 pictures of two classes."""

    def run(workers: int = 1, **changes: Any) -> None:
        files = {f"cat/{n}.png": picture_file(n) for n in range(16)}
        files |= {f"dog/{n}.jpg": picture_file(100 + n, "jpeg") for n in range(8)}
        files |= {"cat/copy.jpg": picture_file(0, "jpeg"), "cat/page.jpg": b"<html></html>"}
        files |= {"dog/equal.jpg": picture_file(100, "jpeg"), "dog/half.jpg": picture_file(9)[:900]}
        project(
            download={"source": "source"},
            augment={"height": 16, "width": 24, "transforms": TRANSFORMS, **changes},
            parallel={"workers": workers},
        )
        write_files(Path("source"), files)
        for stage in (download, scan, clean, split, augment):
            stage.main()

    return run


def test_download_to_augment_write_what_they_promise(
    run_stages: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run_stages()

    promised = [
        f"metrics/{name}.json" for name in ("download", "scan", "clean", "split", "augment")
    ]
    promised += [f"metrics/plots/{name}.csv" for name in ("classes", "removed", "split", "balance")]
    promised += [f"data/dataset/{name}.npy" for name in SPLITS]
    promised += ["data/dataset/index.parquet", "data/dataset/preprocessing.json"]
    promised += ["data/raw_truth.csv", "data/files.parquet"]
    assert [name for name in promised if not Path(name).is_file()] == []
    assert not list(Path("data").rglob("*partial*"))
    lines = capsys.readouterr().out.splitlines()
    stages = ("download", "scan", "clean", "split", "augment")
    last = [line for line in lines if "warning" not in line and not line.startswith("compiling")]
    assert [line.split(":")[0] for line in last] == list(stages)
    sizes = [
        len(read_table(Path(f"data/{name}"), table))
        for name, table in (
            ("scan.parquet", SCAN),
            ("clean.parquet", CLEAN),
            ("removed.csv", REMOVED),
            ("split.parquet", SPLIT),
        )
    ]
    assert sizes == [28, 24, 4, 24]
    assert read_metrics("split")["leaks"] == 0
    assert load_preprocessing(DATASET) == Preprocessing(16, 24, "stretch", "auto", "rgb")


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_every_original_row_is_the_prepared_picture_of_its_file(
    run_stages: Callable[..., None], fit: Any, colour: Any
) -> None:
    run_stages(fit=fit, colour=colour)

    how, seen = Preprocessing(16, 24, fit, "auto", colour), 0
    for name in SPLITS:
        pictures, index = load_split(name)
        assert pictures.shape == (len(index), *how.shape)
        for row in index[index["parent_id"] == ""].itertuples():
            expected = prepare_picture(Path(row.uri).read_bytes(), how)
            np.testing.assert_array_equal(pictures[row.row], expected)
            seen += 1
    assert seen == 24


def test_the_ranges_of_scan_are_those_of_the_arrays_and_travel_with_them(
    run_stages: Callable[..., None],
) -> None:
    run_stages()
    ranges = {"uint16": (0.0, 4095.0)}
    rows = read_table(Path("data/split.parquet"), SPLIT)
    for uri in rows["uri"]:
        gray = np.asarray(Image.open(uri).convert("L")).astype(np.uint16) * np.uint16(16)
        Image.fromarray(gray).save(uri, "PNG")
    write_value_ranges(ranges)

    augment.main()

    how = load_preprocessing(DATASET)
    assert how == Preprocessing(16, 24, "stretch", "auto", "rgb", ranges)
    pictures, index = load_split("train")
    row = next(index[index["parent_id"] == ""].itertuples())
    expected = prepare_picture(Path(row.uri).read_bytes(), how)
    np.testing.assert_array_equal(pictures[row.row], expected)
    assert pictures[row.row].max() > 100


@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_every_child_is_what_its_seed_makes_of_its_parent(
    run_stages: Callable[..., None], colour: Any
) -> None:
    run_stages(target_per_class=40, colour=colour)

    pictures, index = load_split("train")

    how, policy = Preprocessing(16, 24, "stretch", "auto", colour), build_policy(TRANSFORMS)
    children = index[index["parent_id"] != ""]
    for row in children.itertuples():
        parent = prepare_picture(Path(row.uri).read_bytes(), how)
        expected = augment_picture(policy, parent, row.augment_seed)
        np.testing.assert_array_equal(pictures[row.row], expected)
    assert len(children) > 50


def test_children_are_new_pictures_of_their_own_split_alone(
    run_stages: Callable[..., None],
) -> None:
    run_stages(target_per_class=30)

    pictures, index = load_split("train")

    assert index["label"].value_counts().to_dict() == {"cat": 30, "dog": 30}
    assert len({picture.tobytes() for picture in pictures}) == len(index)
    placed = read_table(Path("data/split.parquet"), SPLIT)
    parents = set(index["parent_id"]) - {""}
    assert parents <= set(placed[placed["split"] == "train"]["image_id"])
    whole = read_table(Path("data/dataset/index.parquet"), INDEX)
    assert set(whole[whole["split"] != "train"]["parent_id"]) == {""}
    assert read_metrics("augment")["children"] == (index["parent_id"] != "").sum()


def test_one_two_and_five_workers_give_the_same_bytes(
    run_stages: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "FEW", 0)
    monkeypatch.setattr(parallel, "CHUNK", 2)  # enough of them for five
    found = []

    for workers in (1, 2, 5):
        run_stages(workers=workers, target_per_class=30)
        files = sorted(Path("data/dataset").iterdir())
        found.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files})

    assert found[0] == found[1] == found[2]
    assert list(found[0]) == [
        "index.parquet", "preprocessing.json", "test.npy", "train.npy", "val.npy"
    ]  # fmt: skip


@pytest.mark.parametrize(("unit", "leaky"), [("group", False), ("image", True)])
def test_a_leaky_split_is_marked_in_metrics_and_in_the_closing_line(
    run_stages: Callable[..., None], capsys: pytest.CaptureFixture[str], unit: str, leaky: bool
) -> None:
    run_stages()
    table = read_table(Path("data/split.parquet"), SPLIT)
    write_table(Path("data/split.parquet"), table.assign(unit=unit), SPLIT)
    capsys.readouterr()

    augment.main()

    assert read_metrics("augment").get("leaky", False) is leaky
    assert capsys.readouterr().out.strip().endswith("(leaky split)") is leaky
    assert is_leaky(load_split("test")[1]) is leaky


def test_a_wrong_policy_is_refused_before_the_arrays_are_touched(
    run_stages: Callable[..., None],
) -> None:
    run_stages()
    before = {path.name: path.read_bytes() for path in Path("data/dataset").iterdir()}

    with pytest.raises(InputError, match=r"augment\.transforms, entry 2 \(Rotat\): name must"):
        run_stages(transforms=[TRANSFORMS[0], {"name": "Rotat"}])

    assert {path.name: path.read_bytes() for path in Path("data/dataset").iterdir()} == before


def test_a_policy_that_does_not_fit_is_refused_before_any_picture_is_read(
    run_stages: Callable[..., None],
) -> None:
    run_stages()
    shutil.rmtree("data/raw")
    changed = Path("params.yaml").read_text().replace("HorizontalFlip", "Transpose")
    Path("params.yaml").write_text(changed)

    with pytest.raises(InputError, match=r"entry 1 \(Transpose\): transforms must keep pictures"):
        augment.main()


def test_a_disk_too_small_is_noticed_and_the_earlier_arrays_stay(
    run_stages: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages()
    before = {path.name: path.read_bytes() for path in Path("data/dataset").iterdir()}
    usage = shutil.disk_usage(".")._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    with pytest.raises(InputError, match="free some space"):
        augment.main()

    assert {path.name: path.read_bytes() for path in Path("data/dataset").iterdir()} == before
