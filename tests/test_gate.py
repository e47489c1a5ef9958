"""tools.gate: lets pass what is not worse, stops what is, and never passes what it cannot judge."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML
from toy_project import ToyProject, evaluated

from tools.gate import main

Gate = Callable[..., tuple[int, str]]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ToyProject:
    """A project in which everything has run and is committed on main: accuracy 0.9 of 200."""
    project = ToyProject(tmp_path_factory.mktemp("toy") / "base")
    project.start()
    return project


@pytest.fixture
def project(template: ToyProject, tmp_path: Path) -> ToyProject:
    """A copy of it, on a branch of its own."""
    project = template.copy_to(tmp_path / "project")
    project.git("checkout", "--quiet", "-b", "change")
    return project


@pytest.fixture
def gate(project: ToyProject, capsys: pytest.CaptureFixture[str]) -> Gate:
    """Return a function that runs the gate in the project, and gives exit code and output."""

    def run(*arguments: str) -> tuple[int, str]:
        with project.inside():
            code = main(list(arguments) or ["--base", "main"])
        return code, capsys.readouterr().out

    return run


def test_no_change_passes(gate: Gate) -> None:
    code, said = gate()

    assert code == 0
    assert "gate: passed" in said
    assert "evaluate.accuracy" in said
    assert "FAILED" not in said


def test_an_improvement_passes(project: ToyProject, gate: Gate) -> None:
    project.params["evaluate"] = evaluated(58, 138)
    project.run()

    assert gate()[0] == 0


def test_a_fall_within_the_noise_passes_though_it_exceeds_the_tolerance(
    project: ToyProject, gate: Gate
) -> None:
    project.params["evaluate"] = evaluated(52, 122)
    project.run()

    code, said = gate()

    assert code == 0
    assert "-0.0300" in said


def test_a_true_regression_fails_and_is_named(project: ToyProject, gate: Gate) -> None:
    project.params["evaluate"] = evaluated(45, 105)
    project.run()
    project.commit("worse")

    for head in ("workspace", "HEAD"):
        code, said = gate("--base", "main", "--head", head)

        assert code == 1
        assert "FAILED: evaluate.accuracy fell from 0.9000 to 0.7500, by 0.1500" in said
        assert "2 standard errors, 200 and 200 test pictures as separate samples" in said


def test_a_floor_holds_whatever_the_base(project: ToyProject, gate: Gate) -> None:
    project.params["gate"]["metrics"][0]["floor"] = 0.95
    project.write_params()
    project.git("checkout", "--quiet", "-B", "main")
    project.commit("a higher floor")

    code, said = gate()

    assert code == 1
    assert "evaluate.accuracy is 0.9000, below the least that passes, 0.9500" in said


def test_a_class_that_is_no_longer_recognised_fails_by_its_name(
    project: ToyProject, gate: Gate
) -> None:
    project.params["evaluate"] = evaluated(33, 140)
    project.run()

    code, said = gate()

    assert code == 1
    assert "the recall of class cup fell from 0.9000 to 0.5500 (54 and 33 right of 60)" in said
    assert "class bowl" not in said


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "metrics/evaluate.json is missing in the head"),
        ('{"n": 200}', "evaluate.accuracy is missing in the head"),
        ('{"accuracy": NaN}', "evaluate.accuracy of the head must be finite, found nan"),
        ('{"accuracy": Infinity}', "evaluate.accuracy of the head must be finite, found inf"),
        ('{"accuracy": true}', "evaluate.accuracy of the head must be a number, found True"),
        ('{"accuracy": 0.9', "metrics/evaluate.json of the head is no JSON object"),
        ('{"accuracy": 0.1, "accuracy": 1}', "names a key twice"),
        ("[0.9]", "must be a JSON object, found list"),
    ],
)
def test_a_metric_that_is_no_number_is_never_passed(
    project: ToyProject, gate: Gate, content: str | None, sentence: str
) -> None:
    path = project.folder / "metrics/evaluate.json"
    path.unlink()
    if content is not None:
        path.write_text(content)

    code, said = gate()

    assert code == 2
    assert sentence in said


def test_a_base_without_the_metric_cannot_be_compared(project: ToyProject, gate: Gate) -> None:
    project.git("checkout", "--quiet", "main")
    (project.folder / "metrics/evaluate.json").unlink()
    project.commit("no figure")
    project.git("checkout", "--quiet", "-b", "later")
    project.run()

    code, said = gate()

    assert code == 2
    assert "metrics/evaluate.json is missing in the base" in said


def test_a_figure_edited_by_hand_is_not_believed(project: ToyProject, gate: Gate) -> None:
    path = project.folder / "metrics/evaluate.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "accuracy": 1.0}))
    project.commit("better by hand")

    code, said = gate("--base", "main", "--head", "change")

    assert code == 2
    assert "metrics/evaluate.json is not what its stage wrote" in said


@pytest.mark.parametrize("with_data", [True, False])
def test_params_that_were_not_run_are_not_believed(
    project: ToyProject, gate: Gate, with_data: bool
) -> None:
    project.params["split"]["seed"] = 8
    project.write_params()
    project.commit("no run")
    if not with_data:
        project.git("clean", "-dfxq")

    code, said = gate()

    assert code == 2
    assert "split is out of date (params changed: split.seed 7 → 8)" in said


def test_code_that_was_not_run_is_not_believed(project: ToyProject, gate: Gate) -> None:
    (project.folder / "toy.py").write_text("raise SystemExit\n")

    code, said = gate()

    assert code == 2
    assert "evaluate is out of date (deps modified: toy.py)" in said


def test_a_frozen_stage_cannot_hide_a_change(project: ToyProject, gate: Gate) -> None:
    pipeline = project.folder / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("  split:\n", "  split:\n    frozen: true\n"))

    code, said = gate()

    assert code == 2
    assert "split is frozen in dvc.yaml" in said


def test_a_dependency_struck_from_the_pipeline_is_noticed(project: ToyProject, gate: Gate) -> None:
    pipeline = project.folder / "dvc.yaml"
    stages = YAML(typ="safe").load(pipeline.read_text())
    stages["stages"]["evaluate"]["deps"] = []
    YAML(typ="safe").dump(stages, pipeline)
    (project.folder / "toy.py").write_text("raise SystemExit\n")
    project.commit("code that dvc.yaml does not name")

    code, said = gate()

    assert code == 2
    assert "evaluate has other deps, params or outputs in dvc.yaml than in dvc.lock" in said


def test_a_stage_that_read_another_version_than_was_written_is_not_believed(
    project: ToyProject, gate: Gate
) -> None:
    project.params["clean"]["files"]["data/clean.txt"] = "other"
    project.write_params()
    with project.inside(), Repo() as repo:
        repo.reproduce(targets="clean")
    project.commit("half a run")
    project.git("clean", "-dfxq")

    code, said = gate()

    assert code == 2
    assert "split read another data/clean.txt than dvc.lock says was written" in said


def test_no_data_are_needed(project: ToyProject, gate: Gate) -> None:
    project.git("clean", "-dfxq")

    assert not (project.folder / "data").exists()
    assert gate()[0] == 0


def test_another_test_set_cannot_be_compared_without_the_bases_model(
    project: ToyProject, gate: Gate
) -> None:
    project.params["evaluate"] = evaluated(60, 140, fingerprint="b2")
    project.run()

    code, said = gate()

    assert code == 2
    assert "the test set is another one (a1 → b2)" in said
    assert "`dvc push`" in said


def test_the_bases_rules_count_and_a_looser_one_is_told(project: ToyProject, gate: Gate) -> None:
    project.params["evaluate"] = evaluated(45, 105)
    project.params["gate"]["metrics"][0]["tolerance"] = 0.9
    project.params["gate"]["recall_tolerance"] = 1.0
    project.run()

    code, said = gate()

    assert code == 1
    assert "gate.metrics.evaluate.accuracy.tolerance (0.01 → 0.9)" in said
    assert "gate.recall_tolerance (0.1 → 1.0)" in said


def test_without_rules_in_the_base_those_of_the_head_count_and_it_is_told(
    project: ToyProject, gate: Gate
) -> None:
    rules = project.params.pop("gate")
    project.write_params()
    project.git("checkout", "--quiet", "-B", "main")
    project.commit("no rules")
    project.params["gate"] = rules
    project.write_params()

    code, said = gate()

    assert code == 0
    assert "the base has no rules of its own (no gate section): the head's count" in said


def test_without_rules_anywhere_nothing_passes(project: ToyProject, gate: Gate) -> None:
    del project.params["gate"]
    project.write_params()
    project.git("checkout", "--quiet", "-B", "main")
    project.commit("no rules")

    code, said = gate()

    assert code == 2
    assert "section 'gate' is missing" in said


@pytest.mark.parametrize("base", ["0" * 40, "empty"])
@pytest.mark.parametrize(("cup", "bowl", "code"), [(54, 126, 0), (40, 50, 1)])
def test_a_first_run_is_held_to_the_floors_and_says_so(
    project: ToyProject, gate: Gate, base: str, cup: int, bowl: int, code: int
) -> None:
    project.git("checkout", "--quiet", "--orphan", "empty")
    project.git("rm", "-rq", "--cached", "metrics", "dvc.lock")
    project.git("commit", "--quiet", "-m", "before the first run")
    project.params["evaluate"] = evaluated(cup, bowl)
    project.run()

    found, said = gate("--base", base)

    assert found == code
    assert "FLOORS ONLY" in said


def test_only_what_the_branch_did_is_compared(project: ToyProject, gate: Gate) -> None:
    project.git("checkout", "--quiet", "main")
    project.params["evaluate"] = evaluated(60, 140)
    project.run()
    project.commit("main got better")
    project.git("checkout", "--quiet", "change")

    code, said = gate("--base", "main", "--head", "change")

    assert code == 0
    assert "main" in said
    assert "has moved on since" in said


def test_an_experiment_is_compared_with_itself_not_with_where_it_came_from(
    project: ToyProject, gate: Gate
) -> None:
    project.params["evaluate"] = evaluated(60, 140)
    project.run()
    commit = project.commit("an experiment")
    project.git("update-ref", f"refs/exps/ab/{'c' * 38}/tall-tree", commit)
    project.git("checkout", "--quiet", "main")

    assert gate("--base", "tall-tree", "--head", "main")[0] == 1
    assert gate("--base", "main", "--head", "tall-tree")[0] == 0


@pytest.mark.parametrize("base", ["nowhere", "--head", "-x"])
def test_an_unknown_base_is_an_error_of_two(gate: Gate, base: str) -> None:
    try:
        code = gate(f"--base={base}")[0]
    except SystemExit as ended:
        code = int(str(ended.code))

    assert code == 2


def test_a_history_of_its_own_is_an_error_of_two(project: ToyProject, gate: Gate) -> None:
    project.git("checkout", "--quiet", "--orphan", "other")
    project.commit("unrelated")

    code, said = gate()

    assert code == 2
    assert "no history in common" in said


def change(section: str, key: str, value: Any) -> Callable[[ToyProject], None]:
    def apply(project: ToyProject) -> None:
        project.params[section]["metrics"][key] = value

    return apply


def shrink_a_class(project: ToyProject) -> None:
    text = "label,files,kept\nbowl,900,820\ncup,100,130\n"
    project.params["clean"]["files"]["metrics/plots/classes.csv"] = text


def look_less_for_leaks(project: ToyProject) -> None:
    project.params["clean"]["group_similarity"] = 0.99


@pytest.mark.parametrize(
    ("apply", "sentence"),
    [
        (change("split", "leaks", 3), "3 pairs show the same on two sides of the split"),
        (change("evaluate", "leaky", True), "the split of the head leaks on purpose"),
        (change("clean", "removed", 400), "clean leaves out 400 files, 29.6%; at most 20.0%"),
        (change("clean", "kept", 700), "26.3% of the pictures that clean keeps are gone"),
        (change("download", "files", 700), "30.0% of the files of the source are gone"),
        (change("split", "test", 100), "50.0% of the test pictures are gone"),
        (change("split", "smallest_train_class", 5), "split.smallest_train_class is 5, and 20"),
        (shrink_a_class, "class cup lost 160 of the 290 pictures that it has in the base: 55.2%"),
        (look_less_for_leaks, "clean.group_similarity went from 0.72 to 0.99"),
    ],
)
def test_data_that_fell_ill_fail_by_a_name(
    project: ToyProject, gate: Gate, apply: Callable[[ToyProject], None], sentence: str
) -> None:
    apply(project)
    project.run()

    code, said = gate()

    assert code == 1
    assert sentence in said
    assert said.count("FAILED") == 1


@pytest.mark.parametrize(("section", "key"), [("split", "leaks"), ("clean", "kept")])
def test_a_health_figure_that_is_missing_is_never_passed(
    project: ToyProject, gate: Gate, section: str, key: str
) -> None:
    del project.params[section]["metrics"][key]
    project.run()

    code, said = gate()

    assert code == 2
    assert f"{section}.{key} is missing in the head" in said


def test_a_base_whose_split_leaks_is_no_yardstick(project: ToyProject, gate: Gate) -> None:
    project.params["evaluate"] = evaluated(60, 140)
    project.params["evaluate"]["metrics"]["leaky"] = True
    project.run()
    project.git("checkout", "--quiet", "-B", "main")
    project.commit("leaky")
    project.params["evaluate"] = evaluated(45, 105)
    project.run()

    code, said = gate()

    assert code == 0
    assert "the split of the base leaks" in said
    assert "FLOORS ONLY" in said


def test_the_markdown_says_what_the_terminal_says(
    project: ToyProject, gate: Gate, tmp_path: Path
) -> None:
    project.params["evaluate"] = evaluated(45, 105)
    project.run()

    code, said = gate("--base", "main", "--markdown", str(tmp_path / "gate.md"))
    page = (tmp_path / "gate.md").read_text()

    assert code == 1
    assert page.startswith("## Gate: REGRESSION\n")
    assert "| evaluate.accuracy | 0.9000 | 0.7500 | -0.1500 | 0.0747 | regression |" in page
    for line in said.splitlines():
        if "FAILED: " in line:
            assert line.partition("FAILED: ")[2] in page.replace("\\", "")


def test_the_gate_leaves_the_repository_as_it_was(project: ToyProject, gate: Gate) -> None:
    before = project.git("status", "--porcelain"), project.git("worktree", "list")

    gate("--base", "main", "--head", "change")

    assert (project.git("status", "--porcelain"), project.git("worktree", "list")) == before
