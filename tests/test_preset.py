"""tools.preset: puts presets in place, never over a person's own edits."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.lib.errors import InputError
from stages.lib.params import read_params_file
from tools import preset

ROOT = Path(__file__).parents[1]
PARAMS = Path("params.yaml")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the presets, and the demo's params committed."""
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    shutil.copyfile(ROOT / "presets" / "demo.yaml", tmp_path / "params.yaml")
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(monkeypatch: pytest.MonkeyPatch, name: str, source: str = "") -> None:
    monkeypatch.setattr(sys, "argv", ["preset", name, source])
    preset.main()


def test_a_preset_replaces_params(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, "egypt")

    assert PARAMS.read_text() == Path("presets/egypt.yaml").read_text()


def test_a_local_source_becomes_absolute_and_watched(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pictures").mkdir()

    put(monkeypatch, "photos", "pictures")

    download = read_params_file(PARAMS)["download"]
    assert download["source"] == download["watch"] == str(project / "pictures")
    before = read_params_file(Path("presets/photos.yaml"))
    after = read_params_file(PARAMS)
    assert {**after, "download": 0} == {**before, "download": 0}


def test_the_comments_stay(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def comments(path: Path) -> list[str]:
        return [line.split("# ")[1] for line in path.read_text().splitlines() if "# " in line]

    put(monkeypatch, "demo", str(project))

    assert comments(PARAMS) == comments(Path("presets/demo.yaml"))


def test_an_address_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, "photos", "https://example.org/pictures.zip")

    download = read_params_file(PARAMS)["download"]
    assert download["source"] == "https://example.org/pictures.zip"
    assert (ROOT / download["watch"]).is_file()


@pytest.mark.parametrize(
    ("name", "source", "sentence"),
    [
        ("egipt", "", "NAME must be one of .*egypt.*, got 'egipt'"),
        ("", "", "NAME must be one of"),
        ("egypt", "no/such/folder", "SOURCE 'no/such/folder' does not exist"),
        ("photos", "", "photos needs SOURCE="),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, name: str, source: str, sentence: str
) -> None:
    before = PARAMS.read_text()

    with pytest.raises(InputError, match=sentence):
        put(monkeypatch, name, source)

    assert PARAMS.read_text() == before


def test_edits_of_a_person_are_never_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    edited = PARAMS.read_text().replace("epochs: 20", "epochs: 21")
    PARAMS.write_text(edited)

    with pytest.raises(InputError, match="edits that are not committed"):
        put(monkeypatch, "egypt")

    assert PARAMS.read_text() == edited


def test_edits_may_be_lost_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    PARAMS.write_text(PARAMS.read_text().replace("epochs: 20", "epochs: 21"))
    monkeypatch.setattr(sys, "argv", ["preset", "egypt", "", "1"])

    preset.main()

    assert PARAMS.read_text() == Path("presets/egypt.yaml").read_text()


def test_one_preset_may_follow_another_without_a_commit(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, "egypt", str(project))
    put(monkeypatch, "cifar10")

    assert PARAMS.read_text() == Path("presets/cifar10.yaml").read_text()


def test_committed_edits_may_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    PARAMS.write_text(PARAMS.read_text().replace("epochs: 20", "epochs: 21"))
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *identity, "commit", "-qam", "mine"], check=True)

    put(monkeypatch, "egypt")

    assert PARAMS.read_text() == Path("presets/egypt.yaml").read_text()
