"""Stops a regression: compares the metrics of the head with those of the base, and fails closed.

`python -m tools.gate --base main` exits with 0 where nothing got worse, with 1 for a regression and
with 2 where the two cannot be compared; 2 is also for bad input. The section gate of params.yaml
has the rules, and those of the base count.
"""

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from stages.lib.errors import InputError
from stages.lib.files import replacing
from tools.data_health import judge_data, judge_health, judge_leak_search, leaky_stage
from tools.figures import Tests, compare_tests, judge_class_recall, judge_metrics
from tools.freshness import doubts
from tools.gate_rules import rules_that_count
from tools.gate_words import NOT_COMPARABLE, Result, markdown, terminal
from tools.revisions import WORKSPACE, Revision, merge_base, metrics, params, resolve
from tools.verdicts import Verdict


def base_of(name: str, head: Revision) -> tuple[Revision | None, list[str]]:
    """Return the commit to compare with, where head and the revision of this name part, and notes.

    An experiment is itself what is compared with. None where nothing was measured there yet.
    Raises InputError where the two have no history in common.
    """
    if not name.strip("0"):
        return None, ["there is no base yet"]
    given = resolve(name)
    if given.experiment or not given.commit:
        return given, []
    commit = merge_base(given, head)
    if not commit:
        raise InputError(
            f"{given} and {head} have no history in common; in CI, fetch all of it (fetch-depth: 0)"
        )
    base = Revision(name, commit)
    measured = metrics(base)
    if not measured.figures and not measured.broken:
        return None, [f"{base} has no metrics yet"]
    moved = f"{given} has moved on since: the base is {commit[:7]}, where the head left it"
    return base, [moved] if commit != given.commit else []


def judge(base_name: str, head: Revision, folder: Path) -> Result:
    """Return what the gate finds; folder: for what is fetched from DVC."""
    base, notes = base_of(base_name, head)
    rules, about_rules = rules_that_count(base, head)
    after = metrics(head)
    stages = {rule.metric.partition(".")[0] for rule in rules.metrics}
    stale = doubts(head, stages | {"clean", "download", "split"})
    before = metrics(base) if base else None
    if before and leaky_stage(before) and not leaky_stage(after):
        notes.append("the split of the base leaks, so its test figures are no yardstick")
    judged_against = None if before and leaky_stage(before) else before
    tests = Tests()
    verdicts: list[Verdict] = []
    if base and judged_against:
        tests = compare_tests(base, head, judged_against, after, folder)
        notes += [tests.same.how] if tests.same else []
    if not judged_against:
        notes.append("FLOORS ONLY: test figures are held to their limits, not to a base")
    verdicts += judge_metrics(rules, judged_against, after, tests)
    if base and judged_against:
        verdicts += judge_class_recall(rules, base, head, tests)
    verdicts += judge_health(rules.health, before, after)
    if base:
        of_classes, about_classes = judge_data(rules.health, base, head, folder)
        verdicts += of_classes + judge_leak_search(params(base), params(head))
        notes += about_classes
    shown_base = str(base) if base else "nothing"
    return Result(shown_base, str(head), verdicts, stale, about_rules + notes)


def main(arguments: list[str] | None = None) -> int:
    """Compare, print the table and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.gate", description=__doc__)
    parser.add_argument("--base", required=True, metavar="REV", help="what must not get worse")
    parser.add_argument("--head", default=WORKSPACE, metavar="REV", help="default: the workspace")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the result there too")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = judge(options.base, resolve(options.head), Path(folder))
        code, text, page = result.exit_code, terminal(result), markdown(result)
    except InputError as error:
        code, text, page = (
            NOT_COMPARABLE,
            f"gate: error: {error} (exit 2)",
            f"## Gate: error\n\n{error}\n",
        )
    print(text)
    if options.markdown:
        with replacing(options.markdown) as unfinished:
            unfinished.write_text(page, encoding="utf-8")
    return code


if __name__ == "__main__":
    # Python ends on a defect of ours with 1, which here would say "regression".
    exit_code = NOT_COMPARABLE
    try:
        exit_code = main()
    except Exception:
        traceback.print_exc()
    sys.exit(exit_code)
