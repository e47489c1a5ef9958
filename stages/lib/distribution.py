"""Spreads each batch over the GPUs of a machine or over several machines, by tf.distribute.

Every replica takes its share of the very batch that one process would take, and the gradients are
summed, so that a step is the step of one process. Only batch normalisation differs: as is usual,
each replica normalises by its own share, and the moving statistics are averaged over the replicas
at the end of every epoch.
"""

import faulthandler
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.lib.errors import InputError
from stages.lib.feeding import Batch
from stages.lib.keras_runtime import keras, tf
from stages.lib.models.layers import OWN_LAYERS
from stages.lib.workers import Cluster, meet, read_cluster, unreachable

Strategy = Literal["none", "mirrored", "multiworker"]
START_LIMIT = 300.0  # seconds that all workers may take to come up
LOST_AFTER = 10  # seconds without a heartbeat: what TensorFlow's coordination service waits
CHUNK = 2**22  # numbers of 8 bytes that go to all workers at once
NO_CLASS = -1  # of a picture that fills an empty share and counts nowhere


class Distribution:
    """Where training runs: in this process alone (strategy None), or on replicas as well."""

    def __init__(self, strategy: Any = None, cluster: Cluster | None = None) -> None:
        self.strategy, self.cluster = strategy, cluster
        self.rank = cluster.rank if cluster else 0
        self.workers = len(cluster.addresses) if cluster else 1
        self.replicas = strategy.num_replicas_in_sync if strategy else 1

    @property
    def is_chief(self) -> bool:
        """Tell whether this process is the one that writes."""
        return self.rank == 0

    @property
    def first(self) -> int:
        """The number, among all replicas, of this process' first one."""
        return self.rank * (self.replicas // self.workers)

    def scope(self) -> AbstractContextManager[Any]:
        """Return what variables must be created in."""
        return self.strategy.scope() if self.strategy else nullcontext()

    def compiled(self, function: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
        """Return a step that runs on every replica and gives the sum over them of two figures."""
        if self.strategy is None:
            alone: Callable[..., Any] = tf.function(function, reduce_retracing=True)
            return alone

        def step(*values: Any) -> Any:
            figures = self.strategy.run(lambda *of_one: tf.stack(function(*of_one)), args=values)
            return tf.unstack(self.strategy.reduce(tf.distribute.ReduceOp.SUM, figures, axis=None))

        on_all: Callable[..., Any] = tf.function(step, reduce_retracing=True)
        return on_all

    def share(self, batch: Batch) -> tuple[Any, ...]:
        """Return the parts of a batch for this process' replicas, or all where it is alone."""
        if self.strategy is None:
            return tuple(batch)
        own = range(self.first, self.first + self.replicas // self.workers)
        parts = [share_of(batch, number, self.replicas) for number in own]
        return tuple(self._spread(of_all) for of_all in zip(*parts, strict=True))

    def align(self, model: keras.Model, averages: Sequence[Any]) -> None:
        """Average over the replicas what each has measured for itself: the moving statistics of
        batch normalisation, and their running averages.
        """
        own = [
            weight
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            for weight in layer.non_trainable_weights
        ]
        paths = {weight.path for weight in own}
        own += [a for a, w in zip(averages, model.weights, strict=False) if w.path in paths]
        if self.strategy is None or not own:
            return

        def average() -> None:
            # A value as it is read bears no device, and between workers one is asked for.
            values = [tf.identity(tf.convert_to_tensor(variable)) for variable in own]
            context = tf.distribute.get_replica_context()
            means = context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
            for variable, mean in zip(own, means, strict=True):
                variable.assign(mean)

        tf.function(lambda: self.strategy.run(average))()

    def vary(self, model: keras.Model) -> None:
        """Let dropout differ between the replicas; the first one draws as one process would."""
        states = [v for v in model.variables if v.path.endswith("seed_generator_state")]
        if self.strategy is None or not states:
            return

        def move() -> None:
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            for state in states:
                shift = tf.cast(tf.stack([number, 0]), state.dtype)
                state.assign(tf.convert_to_tensor(state) + shift)

        tf.function(lambda: self.strategy.run(move))()

    def from_chief(self, data: bytes | None) -> bytes | None:
        """Return what the chief has given, in every process."""
        if self.cluster is None:
            return data
        size = int(self._sum(np.array([-1 if data is None else len(data)]))[0])
        if size < 0:
            return None
        content = np.zeros(-(-size // 8), np.int64)
        if self.is_chief and data is not None:
            content.view(np.uint8)[:size] = np.frombuffer(data, np.uint8)
        for start in range(0, len(content), CHUNK):
            content[start : start + CHUNK] = self._sum(content[start : start + CHUNK])
        return content.tobytes()[:size]

    def finish(self) -> None:
        """Wait until every worker is here, so that none is missed by another at its work.

        The chief comes last, with everything written, and minds no worker that went before.
        """
        if self.workers > 1:
            with suppress(tf.errors.OpError) if self.is_chief else self.guarded():
                self._sum(np.zeros(1, np.int64))

    def predictor(self, model: keras.Model) -> Callable[[NDArray[Any]], Any]:
        """Return a function from a batch to the model's output, by this process alone."""
        if self.strategy is None:
            return model.predict_on_batch  # type: ignore[no-any-return]
        # Keras' own would give every replica the whole batch, and join what all of them answer.
        return tf.function(lambda batch: model(batch, training=False))  # type: ignore[no-any-return]

    def released(self, model: keras.Model) -> keras.Model:
        """Return the model with variables of this process alone."""
        if self.strategy is None:
            return model
        plain = keras.models.model_from_json(model.to_json(), custom_objects=OWN_LAYERS)
        plain.set_weights(model.get_weights())
        return plain

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn the runtime's word of a lost worker into a sentence, with InputError."""
        try:
            yield
        except tf.errors.OpError as error:
            if self.cluster is None or self.workers == 1:
                raise
            if not isinstance(error, _LOST) and "Collective" not in str(error):
                raise
            silent = unreachable(self.cluster) or ["one that is there but does not answer"]
            raise InputError(
                f"lost a worker ({', '.join(silent)}); start all of them again, and training goes "
                "on after the last finished epoch"
            ) from error

    def _spread(self, values: Sequence[NDArray[Any]]) -> Any:
        """Return a distributed value of one array for each replica of this process."""
        tensors = [tf.convert_to_tensor(value) for value in values]
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tensors[context.replica_id_in_sync_group - self.first]
        )

    def _sum(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sum over the workers; those that are not the chief count as 0."""
        parts = [np.zeros_like(values)] * (self.replicas // self.workers)
        if self.is_chief:
            parts[0] = values
        spread = self._spread(parts)
        total = self.strategy.reduce(tf.distribute.ReduceOp.SUM, spread, axis=None)
        return np.asarray(total, dtype=np.int64)


_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)

ALONE = Distribution()


def open_distribution(name: Strategy, key: str) -> Distribution:
    """Return what train.strategy names; with multiworker when all workers have come up.

    key: see `workers.meet`. Raises InputError for a TF_CONFIG that makes no sense, and for workers
    that do not come or are about something else. To be called before TensorFlow computes anything.
    """
    if name == "none":
        return ALONE
    tf.get_logger().setLevel("ERROR")
    if name == "mirrored":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        print(f"train: mirrored over {len(devices)} {kind}", flush=True)
        return Distribution(tf.distribute.MirroredStrategy(devices))
    cluster = read_cluster(os.environ.get("TF_CONFIG"))
    role = "the chief, which alone writes" if cluster.rank == 0 else "which writes nothing"
    print(
        f"train: worker {cluster.rank + 1} of {len(cluster.addresses)}, {role}; waits for the "
        f"others at most {START_LIMIT:g} s",
        flush=True,
    )
    meet(cluster, key, START_LIMIT)
    return Distribution(_connect(cluster), cluster)


def _connect(cluster: Cluster) -> Any:
    """Return the strategy of workers that have just met.

    TensorFlow waits for the others inside a call that no other thread can interrupt, for an hour;
    the one way out is a timer that ends the process, and that can say nothing when it does.
    """
    print(
        f"train: all workers have met and connect; where this takes {START_LIMIT:g} s, one of them "
        "has gone and this process ends: start all of them again",
        flush=True,
    )
    try:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            faulthandler.dump_traceback_later(START_LIMIT, exit=True, file=nowhere)
            try:
                return tf.distribute.MultiWorkerMirroredStrategy()
            finally:
                faulthandler.cancel_dump_traceback_later()
    except (tf.errors.OpError, RuntimeError) as error:
        raise InputError(
            f"the workers {', '.join(cluster.addresses)} have met but cannot be connected "
            f"({str(error).splitlines()[0]}); see that the ports are free and open to each other"
        ) from error


def share_of(batch: Batch, number: int, count: int) -> Batch:
    """Return the rows of a batch that one of so many replicas takes.

    Where there are fewer rows than replicas, one without any takes the first row, with weight 0 and
    NO_CLASS: a network cannot run on nothing.
    """
    if number < len(batch.classes):
        pictures, classes, weights = batch
        return Batch(pictures[number::count], classes[number::count], weights[number::count])
    pictures, classes, weights = batch.pictures[:1], batch.classes[:1], batch.weights[:1]
    return Batch(pictures, np.full_like(classes, NO_CLASS), np.zeros_like(weights))
