"""Compares models: `python -m tools.compare REV [REV…] [--markdown FILE] [--html FILE]`.

REV is a commit, branch, tag, DVC experiment, or "workspace"; the others are held against the first,
and a single one against the workspace. Their test sets must be equal: else the exit status is 2,
unless --re-evaluate lets each model answer those test pictures of the workspace that it never saw.

Reads:  the metrics, params and plots of each revision; its predictions from DVC's cache, if there
Writes: lines; with --markdown and --html the same as a file, the page with training curves
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stages.lib.charts import interval_bar
from stages.lib.errors import InputError, run_stage
from stages.lib.files import replacing
from stages.lib.progress import summarise
from tools.curves import many_curves
from tools.folds import read_history
from tools.pages import write_page
from tools.revisions import WORKSPACE, Revision, metrics, params, resolve
from tools.same_pictures import of_one_test_set, of_the_heads_test_set
from tools.side_by_side import (
    Contender,
    Pair,
    changed_params,
    holm,
    pair_up,
    require_test_figures,
    table_rows,
)

CONFIDENCE = 0.95
NOT_COMPARABLE = 2  # exit status
CURVES = {"Accuracy on val": ("val_accuracy", True), "Loss on val": ("val_loss", False)}
OWN_FIGURES = "The test sets differ: in the table each has its own, only what follows compares"

Table = list[tuple[str, list[str]]]


def read_contender(revision: Revision) -> Contender:
    """Return what a revision says of its model; raises InputError where it has no test figure."""
    found = metrics(revision)
    if broken := found.broken:
        stage, problem = next(iter(broken.items()))
        raise InputError(f"metrics/{stage}.json of {revision} is no JSON object: {problem}")
    one = Contender(str(revision), found.figures, params(revision), read_history(revision))
    require_test_figures(one)
    return one


def different_test_sets(contenders: Sequence[Contender]) -> str:
    """Return a sentence that says which test sets differ, "" where they are all the same."""
    first = contenders[0]
    for other in contenders[1:]:
        if other.fingerprint != first.fingerprint:
            return (
                f"{first.name} was tested on {first.fingerprint}, {other.name} on "
                f"{other.fingerprint}: figures of different test sets cannot be compared; "
                "--re-evaluate lets each model answer the workspace's test pictures anew"
            )
    return ""


def compare_pairs(
    revisions: Sequence[Revision], contenders: Sequence[Contender], re_evaluate: bool
) -> tuple[list[Pair], list[str]]:
    """Return each pair that can be held against each other picture by picture, p values adjusted
    for their number, and a sentence for each that cannot.

    The first is held against the others; with re_evaluate all are held against the last.
    """
    last = len(revisions) - 1
    places = (
        [(at, last) for at in range(last)]
        if re_evaluate
        else [(0, at) for at in range(1, last + 1)]
    )
    pairs, absent = [], []
    for left, right in places:
        names = contenders[left].name, contenders[right].name
        equal = contenders[left].fingerprint == contenders[right].fingerprint
        bring = of_one_test_set if equal else of_the_heads_test_set
        try:
            with tempfile.TemporaryDirectory() as folder:
                same = bring(revisions[left], revisions[right], Path(folder))
        except InputError as error:
            absent.append(f"{names[1]} against {names[0]}: not comparable: {error}")
            continue
        if same is None:
            absent.append(
                f"{names[1]} against {names[0]}: the predictions of both are not in DVC's cache, "
                "so only the intervals above can be compared; `dvc repro` or `dvc fetch` there"
            )
        else:
            pairs.append(pair_up(*names, same, CONFIDENCE))
    adjusted = holm([pair.p_value for pair in pairs])
    return [replace(pair, p_value=p) for pair, p in zip(pairs, adjusted, strict=True)], absent


def pair_sentences(pair: Pair, pairs: int) -> list[str]:
    """Return what is said of a pair: a title, accuracy, macro F1."""
    level = f"{pair.confidence:.0%} interval"
    accuracy = " to ".join(f"{100 * value:+.2f}" for value in pair.accuracy[1:])
    macro_f1 = " to ".join(f"{value:+.4f}" for value in pair.macro_f1[1:])
    times = f", adjusted for {pairs} pairs (Holm)" if pairs > 1 else ""
    return [
        f"{pair.right} against {pair.left}: {pair.verdict}; {pair.how}",
        f"accuracy {100 * pair.accuracy[0]:+.2f} points ({level} {accuracy}): "
        f"{pair.gained:,} newly right, {pair.lost:,} newly wrong; "
        f"McNemar p = {pair.p_value:.4g}{times}",
        f"macro F1 {pair.macro_f1[0]:+.4f} ({level} {macro_f1}, bootstrap)",
    ]


def as_text(names: Sequence[str], tables: Sequence[Table]) -> list[str]:
    """Return tables for the terminal, columns lined up."""
    rows = [("", list(names))]
    for table in tables:
        rows += table and [("", [""] * len(names)), *table]
    rows.pop(1)
    first = max(len(name) for name, _ in rows)
    widths = [max(len(cells[at]) for _, cells in rows) for at in range(len(names))]
    lines = [
        "  ".join(
            [name.ljust(first), *(cell.ljust(w) for cell, w in zip(cells, widths, strict=True))]
        )
        for name, cells in rows
    ]
    return [line.rstrip() for line in lines]


def as_markdown(names: Sequence[str], tables: Sequence[Table], sentences: list[list[str]]) -> str:
    """Return tables and sentences as Markdown."""
    rows = [("", list(names)), ("---", ["---:"] * len(names))]
    rows += [row for table in tables for row in table]
    lines = [
        "| " + " | ".join(_cell(text) for text in (name, *cells)) + " |" for name, cells in rows
    ]
    for title, *details in sentences:
        lines += ["", f"**{_cell(title)}**", "", *(f"- {_cell(text)}" for text in details)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def write_html(
    path: Path, contenders: Sequence[Contender], tables: Sequence[Table], sentences: list[list[str]]
) -> None:
    """Write the page: tables, sentences, training curves."""
    drawn = {}
    for title, (column, shares) in CURVES.items():
        curves = {one.name: one.history.get(column, []) for one in contenders}
        drawn[title] = many_curves(title, {n: list(values) for n, values in curves.items()}, shares)
    evaluated = [one.figures["evaluate"] for one in contenders]
    write_page(
        path,
        "compare.html",
        names=[one.name for one in contenders],
        bars=[
            interval_bar(row["accuracy_low"], row["accuracy"], row["accuracy_high"])
            for row in evaluated
        ],
        figures=tables[0],
        changes=tables[1],
        sentences=sentences,
        drawn=drawn,
    )


def read_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description="Compare models.")
    parser.add_argument("revisions", nargs="+", metavar="REV", help="commit, experiment, workspace")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--html", type=Path, metavar="FILE")
    parser.add_argument(
        "--re-evaluate",
        action="store_true",
        help="let each model answer the workspace's test pictures, where test sets differ",
    )
    return parser.parse_args()


def main() -> None:
    """Compare, print, and write what was asked for."""
    wanted = read_arguments()
    names = list(dict.fromkeys(wanted.revisions))
    if len(names) == 1 or wanted.re_evaluate:
        names = [name for name in names if name != WORKSPACE] + [WORKSPACE]
    if len(names) == 1:
        raise InputError("name a revision beside the workspace, such as HEAD or an experiment")
    revisions = [resolve(name) for name in names]
    contenders = [read_contender(revision) for revision in revisions]
    if (problem := different_test_sets(contenders)) and not wanted.re_evaluate:
        print(f"compare: {problem}", file=sys.stderr)
        sys.exit(NOT_COMPARABLE)
    pairs, absent = compare_pairs(revisions, contenders, wanted.re_evaluate)
    if wanted.re_evaluate and not pairs:
        print(*(f"compare: {text}" for text in absent), sep="\n", file=sys.stderr)
        sys.exit(NOT_COMPARABLE)
    tables = [table_rows(contenders), changed_params(contenders)]
    sentences = [pair_sentences(pair, len(pairs)) for pair in pairs] + [[text] for text in absent]
    if problem:
        sentences.insert(0, [OWN_FIGURES])
    columns = [one.name for one in contenders]
    print(*as_text(columns, tables), sep="\n")
    for title, *details in sentences:
        print("", title, *(f"  {text}" for text in details), sep="\n")
    if wanted.markdown:
        with replacing(wanted.markdown) as unfinished:
            unfinished.write_text(as_markdown(columns, tables, sentences), encoding="utf-8")
    if wanted.html:
        write_html(wanted.html, contenders, tables, sentences)
        summarise("compare", f"{wanted.html} shows it")


if __name__ == "__main__":
    run_stage("compare", main)
