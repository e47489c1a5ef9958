"""Prints the metrics that matter and where the report is: `python -m tools.summary`."""

from pathlib import Path
from typing import Any

from stages.lib import tally
from stages.lib.leak_check import check_sentence
from stages.lib.metrics import METRICS, read_metrics
from stages.lib.quality import flag_warnings

REPORT = Path("report/index.html")


def summary_lines(metrics: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Return pairs of what and how much, from the metrics of each stage by name."""
    split, evaluate = metrics["split"], metrics["evaluate"]
    leaky = " LEAKY" if split.get("leaky", False) else ""
    better = evaluate["accuracy_low"] > evaluate["baseline_accuracy"]
    worse = "" if better else ": this model is not proven to be better"
    lines = [
        (
            "test accuracy",
            f"{evaluate['accuracy']:.2%}{leaky}  ({evaluate['correct']:,} of {evaluate['n']:,}; "
            f"interval {evaluate['accuracy_low']:.2%} to {evaluate['accuracy_high']:.2%})",
        ),
        *(("warning", sentence) for sentence in flag_warnings(metrics["clean"])),
        ("baseline", f"{evaluate['baseline_accuracy']:.2%}  (always the same answer){worse}"),
        ("macro F1", f"{evaluate['macro_f1']:.4f}{leaky}"),
        ("leaks", f"{split['leaks']:,}  pairs of one group on two sides of the split"),
        (
            "warning" if evaluate.get("near_duplicates_across") else "checked",
            check_sentence(evaluate),
        ),
        ("images", tally.summary(metrics["clean"])),
        ("split", _sizes(split)),
        (
            "model",
            f"{metrics['train']['parameters']:,} parameters, best epoch "
            f"{metrics['train']['best_epoch']} of {metrics['train']['epochs']}",
        ),
        ("test set", f"{evaluate['test_fingerprint']}"),
    ]
    return [("LEAKY", _warning(split)), *lines] if leaky else lines


def _sizes(split: dict[str, Any]) -> str:
    parts = [f"train {split['train']:,}, val {split['val']:,}, test {split['test']:,}"]
    if "n_folds" in split:
        parts.append(f"fold {split['fold'] + 1} of {split['n_folds']} (split.fold {split['fold']})")
    if split["small_classes"]:
        parts.append(f"classes too small to divide, all in train: {split['small_classes']:,}")
    return "; ".join(parts)


def _warning(split: dict[str, Any]) -> str:
    return (
        f"do not trust these figures: split by image, duplicates put back, "
        f"{split['leaked_test_images']:,} of {split['test']:,} test pictures have a twin in train"
    )


def main() -> None:
    """Print the table."""
    stages = [path.stem for path in METRICS.glob("*.json")]
    lines = summary_lines({stage: read_metrics(stage) for stage in stages})
    width = max(len(name) for name, _ in lines)
    print()
    for name, value in lines:
        print(f"  {name:<{width}}  {value}")
    print(f"\n  Open {REPORT} in a browser for the pictures behind these figures.")


if __name__ == "__main__":
    main()
