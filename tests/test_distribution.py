"""distribution: replicas and workers learn what one process would; a lost worker is no hang."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from trainable import MANY_OPTIONS, files_of, write_arrays

from stages import train as stage
from stages.lib.distribution import LOST_AFTER, NO_CLASS, share_of
from stages.lib.errors import InputError
from stages.lib.feeding import Batch
from stages.lib.workers import Cluster, meet, read_cluster, unreachable

ROOT = Path(__file__).parents[1]
PATIENCE = 300  # seconds that processes may take to end
# A step of it is the same on any number of replicas: no batch normalisation, no dropout.
SAME_EVERYWHERE = {
    "model": "cifar_cnn_2",
    "options": {"dropout": 0.0, "batch_norm": False, "l2": 0.01},
    "epochs": 2,
    "batch_size": 19,  # the last batch of 96 holds one picture
    "class_weights": "balanced",
    "label_smoothing": 0.1,
    "average": 0.9,
    "transforms": {**MANY_OPTIONS["transforms"], "rotation": 0.0},
}
FIGURES = ["loss", "accuracy", "val_loss", "val_accuracy"]


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def cluster_of(count: int, rank: int = 0) -> Cluster:
    return Cluster(tuple(f"127.0.0.1:{port}" for port in free_ports(count)), rank)


def tf_config(cluster: Cluster, rank: int) -> str:
    return json.dumps(
        {
            "cluster": {"worker": list(cluster.addresses)},
            "task": {"type": "worker", "index": rank},
        }
    )


# --- TF_CONFIG ------------------------------------------------------------------------------------


def test_a_chief_comes_before_the_workers() -> None:
    config: dict[str, Any] = {
        "cluster": {"worker": ["b:2222", "c:2222"], "chief": ["a:2222"]},
        "environment": "cloud",
    }

    ranks = {}
    for job, index in (("chief", 0), ("worker", "0"), ("worker", 1)):
        cluster = read_cluster(json.dumps(config | {"task": {"type": job, "index": index}}))
        ranks[job, index] = cluster.rank

    assert cluster.addresses == ("a:2222", "b:2222", "c:2222")
    assert ranks == {("chief", 0): 0, ("worker", "0"): 1, ("worker", 1): 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is not set"),
        ("{worker}", "is no JSON"),
        ("[1]", "lacks the mapping 'cluster'"),
        ('{"task": {}}', "lacks the mapping 'cluster'"),
        ('{"cluster": {"worker": ["a:1"]}}', "lacks the mapping 'task'"),
        ('{"cluster": {}, "task": {}}', "must list chief and worker"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {}}', r"got \['ps'\]"),
        ('{"cluster": {"worker": "a:1"}, "task": {}}', "must list the addresses of worker"),
        ('{"cluster": {"worker": ["a"]}, "task": {}}', "host:port, got 'a'"),
        ('{"cluster": {"worker": ["a:99999"]}, "task": {}}', "host:port, got 'a:99999'"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {}}', "names an address twice"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps"}}', "task.type, got 'ps'"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "from 0 to 0, got 1",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
            "from 0 to 0, got -1",
        ),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}', "got None"),
    ],
)
def test_a_tf_config_without_sense_is_an_error_that_shows_one_with_it(
    text: str | None, said: str
) -> None:
    with pytest.raises(InputError, match=said) as raised:
        read_cluster(text)

    assert "it looks like" in str(raised.value)


def test_the_stage_refuses_to_start_without_tf_config(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_arrays(project(train={"strategy": "multiworker"}))
    monkeypatch.delenv("TF_CONFIG", raising=False)

    with pytest.raises(InputError, match="TF_CONFIG is not set"):
        stage.main()


def test_a_model_without_gradients_is_refused(project: Callable[..., Path]) -> None:
    write_arrays(project(train={"strategy": "mirrored", "model": "filters_kmeans", "options": {}}))

    with pytest.raises(InputError, match="filters_kmeans is fitted at once; set it to none"):
        stage.main()


# --- Meeting --------------------------------------------------------------------------------------


def words_of(cluster: Cluster, keys: dict[int, str], limit: float) -> dict[int, str]:
    """Let the ranks meet, each with its key; return what each of them says: an error, or ''."""

    def one(rank: int) -> str:
        try:
            meet(cluster._replace(rank=rank), keys[rank], limit)
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(keys)) as pool:
        return dict(zip(keys, pool.map(one, keys), strict=True))


def test_workers_with_the_same_key_meet_and_leave_the_port_free() -> None:
    cluster = cluster_of(3)

    assert words_of(cluster, {2: "k", 1: "k", 0: "k"}, 30) == {0: "", 1: "", 2: ""}
    assert len(unreachable(cluster._replace(rank=1))) == 2


def test_a_worker_that_never_comes_is_named_by_all_others() -> None:
    cluster = cluster_of(3)

    started = time.monotonic()
    words = words_of(cluster, {0: "k", 2: "k"}, 1)

    assert time.monotonic() - started < 10
    for word in words.values():
        assert f"{cluster.addresses[1]} of TF_CONFIG did not come up within 1 seconds" in word


def test_a_chief_that_never_comes_is_named() -> None:
    cluster = cluster_of(2)

    words = words_of(cluster, {1: "k"}, 1)

    assert f"{cluster.addresses[0]} of TF_CONFIG did not come up" in words[1]


def test_a_worker_with_other_data_stops_all() -> None:
    cluster = cluster_of(3)

    words = words_of(cluster, {0: "k", 1: "k", 2: "another"}, 30)

    assert len(set(words.values())) == 1
    assert f"{cluster.addresses[2]} has other data, params, code" in words[0]


def test_strangers_and_workers_started_anew_do_not_confuse_the_chief() -> None:
    cluster = cluster_of(2)
    host, port = "127.0.0.1", int(cluster.addresses[0].split(":")[1])

    with ThreadPoolExecutor(1) as pool:
        chief = pool.submit(words_of, cluster, {0: "k"}, 30)
        for said in (b"GET / HTTP/1.1\n", b'{"rank": 7, "key": "k"}\n', b""):
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    with socket.create_connection((host, port), 1) as connection:
                        connection.sendall(said)
                    break
                except OSError:
                    time.sleep(0.05)
        assert not chief.done()
        assert words_of(cluster, {1: "k"}, 30) == {1: ""}
        assert chief.result() == {0: ""}


# --- Shares ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8])
def test_the_shares_of_a_batch_hold_each_row_once(rows: int) -> None:
    batch = Batch(
        np.arange(rows * 4, dtype=np.uint8).reshape(rows, 2, 2, 1),
        np.arange(rows),
        np.linspace(1, 2, rows, dtype=np.float32),
    )

    shares = [share_of(batch, number, 3) for number in range(3)]

    classes = np.concatenate([share.classes for share in shares])
    assert sorted(classes[classes != NO_CLASS]) == list(range(rows))
    assert all(len(share.pictures) > 0 for share in shares)
    total = sum(float(share.weights.sum()) for share in shares)
    np.testing.assert_allclose(total, batch.weights.sum(), rtol=1e-6)
    for share in shares:
        for picture, number in zip(share.pictures, share.classes, strict=True):
            np.testing.assert_array_equal(picture, batch.pictures[max(number, 0)])


# --- Replicas and workers -------------------------------------------------------------------------

# Logical devices must be made before TensorFlow starts.
ON_DEVICES = """
import sys
from stages.lib.keras_runtime import tf
cpu = tf.config.list_physical_devices("CPU")[0]
parts = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1])
tf.config.set_logical_device_configuration(cpu, parts)
from stages import train
from stages.lib.errors import run_stage
run_stage("train", train.main)
"""


def start(folder: Path, config: str = "", *arguments: str) -> subprocess.Popen[str]:
    """Start the stage, or a program given by -c, in a project."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen(
        [sys.executable, *(arguments or ("-m", "stages.train"))],
        cwd=folder,
        env=environment | ({"TF_CONFIG": config} if config else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_workers(folders: list[Path]) -> list[subprocess.Popen[str]]:
    cluster = cluster_of(len(folders))
    return [start(folder, tf_config(cluster, rank)) for rank, folder in enumerate(folders)]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Return how each process ended, and what it has said since it was last listened to."""
    watchdog = threading.Timer(PATIENCE, lambda: [process.kill() for process in processes])
    watchdog.start()
    with ThreadPoolExecutor(len(processes)) as pool:
        said = list(pool.map(heard, processes))
    watchdog.cancel()
    return [(process.wait(), text) for process, text in zip(processes, said, strict=True)]


def heard(process: subprocess.Popen[str], until: str = "") -> str:
    """Return what a process says, up to a line that holds certain words or to its end."""
    assert process.stdout is not None
    lines = []
    while line := process.stdout.readline():
        lines.append(line)
        if until and until in line:
            break
    return "".join(lines)


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "metrics/plots/history.csv")


def losses_said(text: str) -> list[str]:
    """Return what each epoch's line says, without the speed."""
    return [line.rpartition(",")[0] for line in text.splitlines() if ": epoch" in line]


def projects(project: Callable[..., Path], count: int, **train: Any) -> list[Path]:
    """Return so many folders with the same params and arrays."""
    first = project(train=train)
    write_arrays(first)
    copies = [first.with_name(f"{first.name}-{number}") for number in range(1, count)]
    for copy in copies:
        shutil.copytree(first, copy)
    return [first, *copies]


def test_three_devices_and_three_workers_learn_what_one_process_learns(
    project: Callable[..., Path],
) -> None:
    alone = projects(project, 1, **SAME_EVERYWHERE)[0]
    stage.main()
    devices = alone.with_name("devices")
    shutil.copytree(alone / "data", devices / "data")
    folders = [devices.with_name(f"worker{rank}") for rank in range(3)]
    for folder in folders:
        shutil.copytree(devices, folder)
    for folder, strategy in ((devices, "mirrored"), *((each, "multiworker") for each in folders)):
        params = (
            (alone / "params.yaml").read_text().replace("strategy: none", f"strategy: {strategy}")
        )
        (folder / "params.yaml").write_text(params)

    on_devices = ended([start(devices, "", "-c", ON_DEVICES, "3")])[0]
    on_workers = ended(start_workers(folders))

    assert on_devices[0] == 0, on_devices[1]
    assert "mirrored over 3 CPU" in on_devices[1]
    assert [code for code, _ in on_workers] == [0, 0, 0], on_workers
    for folder in (devices, folders[0]):
        np.testing.assert_allclose(history(folder)[FIGURES], history(alone)[FIGURES], rtol=2e-5)
        assert set(files_of(folder)) == set(files_of(alone))
    said = [losses_said(text) for _, text in on_workers]
    assert len(said[0]) == 2
    assert said[0] == said[1] == said[2]
    for folder in folders[1:]:
        assert sorted(path.name for path in folder.iterdir()) == ["data", "params.yaml"]


def test_a_killed_worker_ends_the_others_and_training_goes_on_to_the_same_bits(
    project: Callable[..., Path],
) -> None:
    folders = projects(project, 2, **MANY_OPTIONS, strategy="multiworker")
    whole = [folder.with_name(f"{folder.name}-whole") for folder in folders]
    for folder, copy in zip(folders, whole, strict=True):
        shutil.copytree(folder, copy)

    processes = start_workers(folders)
    said_before = heard(processes[0], until="epoch   2 of 5")
    os.kill(processes[1].pid, signal.SIGKILL)
    killed = time.monotonic()
    (code, said), _ = ended(processes)
    seconds = time.monotonic() - killed

    assert "epoch   2 of 5" in said_before, said_before
    assert code == 1, said
    assert seconds < LOST_AFTER + 50  # what it takes the others to end, on a busy machine
    errors = [line for line in said.splitlines() if "error" in line.lower()]
    assert len(errors) == 1, said
    assert errors[0].startswith("train: error: lost a worker (127.0.0.1:"), said
    assert not (folders[0] / "models").exists()
    again, uninterrupted = ended(start_workers(folders)), ended(start_workers(whole))
    assert [code for code, _ in again + uninterrupted] == [0, 0, 0, 0], again + uninterrupted
    assert all("goes on after epoch" in said for _, said in again)
    assert files_of(folders[0]) == files_of(whole[0])
    for folder in folders:
        assert not list((folder / ".cache/training").glob("*"))
