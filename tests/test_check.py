"""tools.check: a mistake in params.yaml or overrides.csv is told before anything runs."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.lib.errors import InputError
from stages.lib.params import load_params, read_params_file
from tools import check

ROOT = Path(__file__).parents[1]
PARAMS = Path("params.yaml")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds what the check reads, as it should be."""
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    shutil.copyfile(ROOT / "presets" / "demo.yaml", tmp_path / "params.yaml")
    (tmp_path / "overrides.csv").write_text("image_id,action,value,note\n")
    monkeypatch.chdir(tmp_path)


def test_what_is_right_passes() -> None:
    check.main()


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("  epochs:", "  epoch:", "unknown key train.epoch, did you mean 'epochs'?"),
        ("  parity_images: 256", "  # none", "export.parity_images is missing"),
        ("evaluate:", "evaluation:", "unknown section 'evaluation', did you mean 'evaluate'?"),
        ("min_side: 16", "min_side: 0", "clean.min_side: Input should be greater than"),
        ("source: demo", "source: no/such/folder", "'no/such/folder' does not exist"),
        ("backend: loky", "backend: lokey", "parallel.backend"),
        ("  epochs: ", "  epochs: thirty # ", "train.epochs: Input should be a valid integer"),
        ("model: compact_cnn", "model: compct_cnn", "did you mean 'compact_cnn'?"),
        ("    width: ", "    widht: ", "unknown option 'widht', did you mean 'width'?"),
        ("  top_k: ", "  top_k: 1 # ", "evaluate.top_k"),
        ("  parity_images: ", "  parity_images: many # ", "export.parity_images"),
    ],
)
def test_a_mistake_in_params_is_named(before: str, after: str, sentence: str) -> None:
    text = PARAMS.read_text()
    assert before in text
    PARAMS.write_text(text.replace(before, after, 1))

    with pytest.raises(InputError) as refusal:
        check.main()

    assert sentence in str(refusal.value)


def test_what_the_last_run_has_seen_is_not_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that a run in which nothing has changed does not load TensorFlow."""
    sections = read_params_file(PARAMS)
    lock = {
        stage: {"params": {"params.yaml": {stage: sections[stage]}}} for stage in check.HEAVY_STAGES
    }
    looked: list[str] = []

    def note(params_class: type, section: str) -> object:
        looked.append(section)
        return load_params(params_class, section)

    monkeypatch.setattr(check, "load_params", note)
    YAML().dump({"stages": lock}, Path("dvc.lock"))

    check.check_heavy_stages()
    assert looked == []

    lock["train"]["params"]["params.yaml"]["train"] = {**sections["train"], "epochs": 1}
    YAML().dump({"stages": lock}, Path("dvc.lock"))
    check.check_heavy_stages()
    assert looked == ["evaluate", "export", "train"]


def test_a_mistake_in_overrides_is_named() -> None:
    Path("overrides.csv").write_text("image_id,action,value,note\n12,keep,,\n")

    with pytest.raises(InputError, match="row 1: image_id must be 64 hex digits"):
        check.main()
