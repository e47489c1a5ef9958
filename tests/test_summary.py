"""tools.summary: what it prints are the numbers of the metrics."""

from typing import Any

from stages.lib.quality import FLAGS
from tools.summary import summary_lines

METRICS: dict[str, dict[str, Any]] = {
    "clean": {
        "kept": 1702,
        "removed": 191,
        "corrupt": 41,
        "unsupported": 2,
        "exact_duplicates": 90,
        "near_duplicates": 6,
        "label_conflicts": 4,
        "too_small": 0,
        "unwanted_format": 0,
        "unwanted_colour": 0,
        "masks": 0,
        "single_color": 0,
        "not_comparable": 0,
        "removed_flagged": 0,
        "flagged": 3,
        **dict.fromkeys((f"flag_{flag}" for flag in FLAGS), 1),
        "dropped": 1,
        "beside_official_set": 47,
    },
    "split": {"leaks": 0, "small_classes": 0, "train": 1192, "val": 340, "test": 170},
    "train": {"parameters": 281576, "best_epoch": 19, "epochs": 20},
    "evaluate": {
        "accuracy": 0.988235,
        "accuracy_low": 0.958,
        "accuracy_high": 0.9968,
        "baseline_accuracy": 0.23,
        "correct": 168,
        "n": 170,
        "macro_f1": 0.98,
        "test_fingerprint": "0123456789abcdef",
        "near_duplicates_across": 0,
        "test_images_with_near_duplicate": 0,
        "test_images_not_compared": 0,
    },
}


def test_every_line_says_what_the_metrics_say() -> None:
    lines = dict(summary_lines(METRICS))

    assert lines["test accuracy"].startswith("98.82%  (168 of 170; interval 95.80% to 99.68%)")
    assert lines["baseline"] == "23.00%  (always the same answer)"
    assert lines["leaks"] == "0  pairs of one group on two sides of the split"
    assert lines["checked"] == (
        "no near-duplicates found across the split by a second search (the model's features "
        "propose, pixels decide); people and objects are known only by the groups you gave"
    )
    assert lines["images"] == (
        "kept 1,702 of 1,893: 41 corrupt, 2 unsupported, 96 duplicates, "
        "4 in conflict over their label, 1 dropped by hand, 47 too like the official test set; "
        "3 kept but flagged"
    )
    assert lines["split"] == "train 1,192, val 340, test 170"
    assert lines["model"] == "281,576 parameters, best epoch 19 of 20"
    assert lines["test set"] == "0123456789abcdef"


def test_a_model_that_may_be_no_better_than_one_answer_says_so() -> None:
    poor = {**METRICS["evaluate"], "accuracy_low": 0.2}
    lines = dict(summary_lines({**METRICS, "evaluate": poor}))

    assert lines["baseline"].endswith("not proven to be better")


def test_a_flag_on_more_than_a_tenth_stands_beside_the_figure() -> None:
    lines = summary_lines({**METRICS, "clean": {**METRICS["clean"], "flag_dark": 171}})

    assert [name for name, _ in lines][:2] == ["test accuracy", "warning"]
    assert lines[1][1].startswith("171 of 1,702 kept images (10.0%) are flagged dark; ")
    assert "warning" not in dict(summary_lines(METRICS))


def test_near_duplicates_across_the_split_are_a_warning() -> None:
    counts = {"near_duplicates_across": 3, "test_images_with_near_duplicate": 2}
    lines = dict(summary_lines({**METRICS, "evaluate": {**METRICS["evaluate"], **counts}}))

    assert lines["warning"].startswith("2 of 170 test images have near-duplicates in train or val")
    assert "checked" not in lines


def test_images_that_cannot_be_compared_are_told_with_the_images() -> None:
    lines = dict(summary_lines({**METRICS, "clean": {**METRICS["clean"], "not_comparable": 1002}}))

    assert lines["images"].endswith("; 1,002 kept but not comparable: too flat, dark or small")


def with_split(**more: int | bool) -> dict[str, dict[str, Any]]:
    return {**METRICS, "split": {**METRICS["split"], **more}}


def test_a_leaky_run_says_so_first_and_beside_its_figures() -> None:
    lines = summary_lines(with_split(leaky=True, leaks=1214, leaked_test_images=23))

    assert lines[0] == (
        "LEAKY",
        "do not trust these figures: split by image, duplicates put back, "
        "23 of 170 test pictures have a twin in train",
    )
    assert dict(lines)["test accuracy"].startswith("98.82% LEAKY  (168 of 170;")
    assert dict(lines)["macro F1"] == "0.9800 LEAKY"
    assert "LEAKY" not in str(summary_lines(METRICS))


def test_folds_and_small_classes_are_told_with_the_split() -> None:
    lines = dict(summary_lines(with_split(n_folds=4, fold=1, small_classes=3)))

    assert lines["split"] == (
        "train 1,192, val 340, test 170; fold 2 of 4 (split.fold 1); "
        "classes too small to divide, all in train: 3"
    )
