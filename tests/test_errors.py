"""A stage ends on bad input with one sentence, on a defect of ours with its traceback."""

import errno

import pytest

from stages.lib.errors import InputError, run_stage


def ending(error: BaseException) -> object:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_stage("scan", main)
    return caught.value.code


def test_bad_input_ends_with_the_stages_name_and_the_sentence() -> None:
    assert ending(InputError("no such file")) == "scan: error: no such file"


def test_a_full_disk_ends_with_a_remedy() -> None:
    code = ending(OSError(errno.ENOSPC, "No space left on device"))

    assert str(code).startswith("scan: error: the disk is full")
    assert "dvc gc" in str(code)


def test_the_keyboard_ends_without_a_traceback() -> None:
    assert ending(KeyboardInterrupt()) == "scan: stopped by the keyboard"


@pytest.mark.parametrize("defect", [ValueError("ours"), OSError(errno.EACCES, "no"), KeyError("k")])
def test_any_other_error_keeps_its_traceback(defect: Exception) -> None:
    def main() -> None:
        raise defect

    with pytest.raises(type(defect)) as caught:
        run_stage("scan", main)

    assert caught.value is defect


def test_a_stage_that_ends_well_returns() -> None:
    ran = []

    run_stage("scan", lambda: ran.append(True))

    assert ran == [True]


def test_bad_input_is_a_value_error() -> None:
    assert issubclass(InputError, ValueError)
