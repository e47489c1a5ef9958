"""Layers that Keras lacks, or has but slower than the machine can."""

from typing import Any

import numpy as np

from stages.lib.keras_runtime import keras, tf

ops = keras.ops


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalisation over the channels of (batch, height, width, channels) in one fused
    operation.

    The weights and the result are those of `keras.layers.BatchNormalization`, which on TensorFlow
    runs as a dozen small operations and takes longer than the convolutions around it on a CPU. The
    moving variance is that of the sample (n − 1), as TensorFlow's fused operation gives it. Under
    mixed precision the pictures are of the compute type, weights and statistics of 32 bits.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the normalised pictures; in training the moving statistics take one step."""
        if not training:
            return self._fused(inputs, self.moving_mean, self.moving_variance, is_training=False)[0]
        empty = tf.constant([], tf.float32)
        outputs, mean, variance = self._fused(inputs, empty, empty, is_training=True)[:3]
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs

    def _fused(self, inputs: Any, mean: Any, variance: Any, is_training: bool) -> Any:
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.convert_to_tensor(mean),
            variance=tf.convert_to_tensor(variance),
            epsilon=self.epsilon,
            is_training=is_training,
        )


class BothClasses(keras.layers.Layer):  # type: ignore[misc]
    """The logit of the second of two classes, (batch, 1) → the probabilities of both, (batch, 2).

    They are 1 − sigmoid and sigmoid, computed as the softmax of (0, logit), by which Keras' losses
    find the logits: a loss from probabilities alone has no gradient once they round to 0 or 1.
    """

    def call(self, inputs: Any) -> Any:
        """Return (1 − sigmoid(logit), sigmoid(logit))."""
        return ops.softmax(ops.concatenate([ops.zeros_like(inputs), inputs], axis=-1))


class ReversedChannels(keras.layers.Layer):  # type: ignore[misc]
    """Pictures (batch, height, width, channels) with the channels in reverse: RGB → BGR."""

    def call(self, inputs: Any) -> Any:
        """Return the pictures with the last axis turned round."""
        return ops.flip(inputs, axis=-1)


class BlockAverage(keras.layers.Layer):  # type: ignore[misc]
    """Averages of consecutive values, (batch, values) → (batch, blocks).

    The blocks are cut as `numpy.array_split` cuts them: the first ones may be longer by one.
    """

    def __init__(self, blocks: int, **options: Any) -> None:
        super().__init__(**options)
        self.blocks = blocks

    def call(self, inputs: Any) -> Any:
        """Return the mean of each block."""
        length, longer = divmod(inputs.shape[-1], self.blocks)
        parts = (
            (inputs[:, : longer * (length + 1)], longer, length + 1),
            (inputs[:, longer * (length + 1) :], self.blocks - longer, length),
        )
        means = [
            ops.mean(ops.reshape(values, (-1, count, size)), axis=-1)
            for values, count, size in parts
            if count
        ]
        return ops.concatenate(means, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return what it takes to build the layer anew."""
        return {**super().get_config(), "blocks": self.blocks}


class ClassesOfClusters(keras.layers.Layer):  # type: ignore[misc]
    """Scores of clusters, (batch, clusters) → probabilities of classes, (batch, classes).

    mapping: the class of each cluster. A class scores what its best cluster scores, so that the
    likeliest class is that of the best cluster; one without a cluster has probability 0. The scores
    are divided by the temperature before the softmax.
    """

    NONE = -1e9  # a score so low that its probability is exactly 0

    def __init__(
        self, mapping: list[int], num_classes: int, temperature: float, **options: Any
    ) -> None:
        super().__init__(**options)
        self.mapping = mapping
        self.num_classes = num_classes
        self.temperature = temperature

    def call(self, inputs: Any) -> Any:
        """Return the probabilities."""
        others = np.asarray(self.mapping)[:, None] != np.arange(self.num_classes)
        penalties = np.where(others, self.NONE, 0.0).astype(np.float32)
        scores = ops.max(inputs[:, :, None] / self.temperature + penalties, axis=1)
        return ops.softmax(scores)

    def get_config(self) -> dict[str, Any]:
        """Return what it takes to build the layer anew."""
        own = {
            "mapping": self.mapping,
            "num_classes": self.num_classes,
            "temperature": self.temperature,
        }
        return {**super().get_config(), **own}


# By name, as Keras asks for them when it builds a saved model.
OWN_LAYERS = {
    layer.__name__: layer
    for layer in (
        FusedBatchNormalization,
        BothClasses,
        ReversedChannels,
        BlockAverage,
        ClassesOfClusters,
    )
}
