"""tools.summary: what it prints are the numbers of the metrics."""

from tools.summary import summary_lines

METRICS = {
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
        "removed_flagged": 0,
        "flagged": 3,
        "dropped": 1,
        "beside_official_set": 47,
    },
    "split": {"leaks": 0, "train": 1192, "val": 340, "test": 170},
    "train": {"parameters": 281576, "best_epoch": 19, "epochs": 20},
    "evaluate": {
        "accuracy": 0.988235,
        "accuracy_low": 0.958,
        "accuracy_high": 0.9968,
        "correct": 168,
        "n": 170,
        "macro_f1": 0.98,
        "test_fingerprint": "0123456789abcdef",
    },
}


def test_every_line_says_what_the_metrics_say() -> None:
    lines = dict(summary_lines(METRICS))

    assert lines["test accuracy"].startswith("98.82%  (168 of 170; interval 95.80% to 99.68%)")
    assert lines["leaks"].startswith("0 ")
    assert lines["images"] == (
        "kept 1,702 of 1,893: 41 corrupt, 2 unsupported, 96 duplicates, "
        "4 in conflict over their label, 1 dropped by hand, 47 too like the official test set; "
        "3 kept but flagged"
    )
    assert lines["split"] == "train 1,192, val 340, test 170"
    assert lines["model"] == "281,576 parameters, best epoch 19 of 20"
    assert lines["test set"] == "0123456789abcdef"
