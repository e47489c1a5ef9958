"""What the gate says, on a terminal and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from tools.verdicts import Verdict, shown

MOST_SENTENCES = 12  # against fresh metrics; more say no more
HEADER = ("metric", "base", "head", "difference", "may be worse by", "verdict")
# The exit codes.
NOTHING_WORSE, REGRESSION, NOT_COMPARABLE = 0, 1, 2
CONCLUSION = {
    NOTHING_WORSE: "passed: nothing got worse",
    REGRESSION: "REGRESSION",
    NOT_COMPARABLE: "NOT COMPARABLE, so not passed",
}


@dataclass(frozen=True)
class Result:
    """What the gate found. stale: what speaks against the head's metrics; then nothing counts."""

    base: str
    head: str
    verdicts: list[Verdict]
    stale: list[str]
    notes: list[str]

    @property
    def exit_code(self) -> int:
        """Return 0 for fine, 1 for a regression, 2 for not comparable."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        if self.stale or not outcomes:
            return NOT_COMPARABLE
        if "regression" in outcomes:
            return REGRESSION
        return NOT_COMPARABLE if "not comparable" in outcomes else NOTHING_WORSE


def terminal(result: Result) -> str:
    """Return the table with a sentence for each failure, in plain text."""
    rows = [HEADER, *(_cells(verdict) for verdict in result.verdicts)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADER))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(
        [
            f"gate: {result.base} → {result.head}",
            *(f"  note: {note}" for note in result.notes),
            "",
            *(f"  {line}" for line in table),
            "",
            *(f"  FAILED: {sentence}" for sentence in failures(result)),
            f"gate: {CONCLUSION[result.exit_code]} (exit {result.exit_code})",
        ]
    )


def markdown(result: Result) -> str:
    """Return the same for the summary of a CI run."""
    rows = [HEADER, ("---",) * len(HEADER), *(_cells(verdict) for verdict in result.verdicts)]
    table = ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows]
    return "\n".join(
        [
            f"## Gate: {CONCLUSION[result.exit_code]}",
            "",
            f"`{result.base}` → `{result.head}`",
            "",
            *(f"- **{_escaped(sentence)}**" for sentence in failures(result)),
            *(f"- note: {_escaped(note)}" for note in result.notes),
            "",
            *table,
            "",
        ]
    )


def failures(result: Result) -> list[str]:
    """Return a sentence for all that keeps the head from passing, each once."""
    stale = [f"the metrics are not proven fresh: {doubt}" for doubt in result.stale]
    if len(stale) > MOST_SENTENCES:
        stale[MOST_SENTENCES:] = [f"… and {len(stale) - MOST_SENTENCES} more like it"]
    named = [verdict.sentence for verdict in result.verdicts if verdict.sentence]
    return list(dict.fromkeys(stale + named))


def _cells(verdict: Verdict) -> Sequence[str]:
    difference = ""
    if verdict.base is not None and verdict.head is not None:
        apart = verdict.head - verdict.base
        difference = f"{apart:+,}" if isinstance(apart, int) else f"{apart:+.4f}"
    values = [
        "" if value is None else shown(value)
        for value in (verdict.base, verdict.head, verdict.allowed)
    ]
    return verdict.name, values[0], values[1], difference, values[2], verdict.outcome


def _escaped(text: str) -> str:
    """Return a text that cannot break out of a table's cell or become markup."""
    for sign in "\\`*_|<>[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
