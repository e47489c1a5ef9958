"""Layers that Keras has, but slower than the machine can."""

from typing import Any

from stages.lib.keras_runtime import keras, tf


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalisation over the channels of (batch, height, width, channels) in one fused
    operation.

    The weights and the result are those of `keras.layers.BatchNormalization`, which on TensorFlow
    runs as a dozen small operations and takes longer than the convolutions around it on a CPU. The
    moving variance is that of the sample (n − 1), as TensorFlow's fused operation gives it.
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
