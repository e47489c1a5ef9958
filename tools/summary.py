"""Prints the metrics that matter and where the report is: `python -m tools.summary`."""

from pathlib import Path
from typing import Any

from stages.lib import tally
from stages.lib.metrics import METRICS, read_metrics

REPORT = Path("report/index.html")


def summary_lines(metrics: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Return pairs of what and how much, from the metrics of each stage by name."""
    split, evaluate = metrics["split"], metrics["evaluate"]
    return [
        (
            "test accuracy",
            f"{evaluate['accuracy']:.2%}  ({evaluate['correct']:,} of {evaluate['n']:,}; "
            f"interval {evaluate['accuracy_low']:.2%} to {evaluate['accuracy_high']:.2%})",
        ),
        ("macro F1", f"{evaluate['macro_f1']:.4f}"),
        ("leaks", f"{split['leaks']}  between train, val and test"),
        ("images", tally.summary(metrics["clean"])),
        ("split", f"train {split['train']:,}, val {split['val']:,}, test {split['test']:,}"),
        (
            "model",
            f"{metrics['train']['parameters']:,} parameters, best epoch "
            f"{metrics['train']['best_epoch']} of {metrics['train']['epochs']}",
        ),
        ("test set", f"{evaluate['test_fingerprint']}"),
    ]


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
