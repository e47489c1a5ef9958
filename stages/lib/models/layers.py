"""Layers that Keras lacks, or has but slower than the machine can."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stages.lib.keras_runtime import keras, tf

ops = keras.ops


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalisation over the channels of (batch, height, width, channels) in one fused
    operation.

    The weights and the result are those of `keras.layers.BatchNormalization`, which on TensorFlow
    runs as a dozen small operations and takes longer than the convolutions around it on a CPU. The
    moving variance is that of the sample (n − 1), as TensorFlow's fused operation gives it. Under
    mixed precision the pictures are of the compute type, weights and statistics of 32 bits. On
    other backends it is Keras' own operation.

    offset_factor: what beta is multiplied by before it is added. Plain gradient descent moves the
    offset its square times as fast.
    """

    def __init__(self, offset_factor: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.offset_factor = offset_factor

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the normalised pictures; in training the moving statistics take one step."""
        if tf is None:
            rest = ops.cast(self.beta * (self.offset_factor - 1), self.compute_dtype)
            return super().call(inputs, training=training) + rest
        if not training:
            return self._fused(inputs, self.moving_mean, self.moving_variance, is_training=False)[0]
        empty = tf.constant([], tf.float32)
        outputs, mean, variance = self._fused(inputs, empty, empty, is_training=True)[:3]
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs

    def get_config(self) -> dict[str, Any]:
        """Return what it takes to build the layer anew."""
        return {**super().get_config(), "offset_factor": self.offset_factor}

    def _fused(self, inputs: Any, mean: Any, variance: Any, is_training: bool) -> Any:
        offset = tf.convert_to_tensor(self.beta)
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma) if self.scale else tf.ones_like(offset),
            offset=offset * self.offset_factor,
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


class PatchWhitening(keras.layers.Layer):  # type: ignore[misc]
    """Responses to the main patterns of small patches, each of about unit variance.

    Pixels (batch, height, width, channels) of 0 to 255 → (batch, rows, columns, filters). The first
    half of the filters are the patches' principal components, the largest first, divided by their
    standard deviation; the others are the same with the sign turned, so that what follows can tell
    both signs after a rectifier. They stay as `adapt` found them, only the offset is learned. After
    the stem of K. Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv:2404.00498, 2024.
    """

    SMALLEST_VARIANCE = 5e-4  # added to each, so that noise is not blown up
    AT_ONCE = 64  # pictures whose patches are in memory together

    def __init__(self, filters: int, size: int, strides: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.filters, self.size, self.strides = filters, size, strides

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the filters, random until `adapt` is called, and their offsets."""
        shape = (self.size, self.size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(
            shape=shape, initializer="glorot_uniform", trainable=False, name="kernel"
        )
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def adapt(self, pictures: NDArray[np.uint8]) -> None:
        """Take the filters from pictures (images, height, width, channels)."""
        pixels = self.size**2 * pictures.shape[-1]
        count, total, products = 0, np.zeros(pixels), np.zeros((pixels, pixels))
        for start in range(0, len(pictures), self.AT_ONCE):
            patches = self._patches(pictures[start : start + self.AT_ONCE])
            count += len(patches)
            total += patches.sum(axis=0)
            products += patches.T @ patches
        mean = total / count
        covariance = (products - count * np.outer(mean, mean)) / (count - 1)
        variances, components = np.linalg.eigh(covariance)
        largest = slice(None, -self.filters // 2 - 1, -1)
        found = components[:, largest] / np.sqrt(variances[largest] + self.SMALLEST_VARIANCE)
        signs = np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])])
        found = found * signs  # an eigenvector's own sign is arbitrary
        both = np.concatenate([found, -found], axis=1).reshape(self.kernel.shape)
        self.kernel.assign(both.astype(np.float32))

    def _patches(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return what the filters will see of some pictures, (patches, pixels)."""
        values = _standardised(pictures.astype(np.float64))
        windows = np.lib.stride_tricks.sliding_window_view(values, (self.size,) * 2, axis=(1, 2))
        # images, rows, columns, channels, y, x
        steps = windows[:, :: self.strides, :: self.strides]
        return steps.transpose(0, 1, 2, 4, 5, 3).reshape(-1, self.size**2 * values.shape[-1])

    def call(self, inputs: Any) -> Any:
        """Return the responses."""
        values = _standardised(ops.cast(inputs, self.compute_dtype))
        return ops.conv(values, self.kernel, self.strides, "valid") + self.bias

    def get_config(self) -> dict[str, Any]:
        """Return what it takes to build the layer anew."""
        own = {"filters": self.filters, "size": self.size, "strides": self.strides}
        return {**super().get_config(), **own}


def _standardised(pixels: Any) -> Any:
    return (pixels - 127.5) / 63.75  # a quarter of the range is about the deviation of photographs


class Views(keras.layers.Layer):  # type: ignore[misc]
    """Pictures (batch, …) → several views of each, (views × batch, …); in training only themselves.

    With `MeanOfViews` after the features, a picture is judged by the mean of its views. kind:
    mirror (it and its mirror image) or mirror_shift (both, and both moved by a pixel to the upper
    left and to the lower right, which count half as much).
    """

    WEIGHTS: ClassVar = {"mirror": (0.5, 0.5), "mirror_shift": (0.25,) * 2 + (0.125,) * 4}

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the views, all first views before all second ones."""
        if training:
            return inputs
        views = [inputs]
        if self.kind == "mirror_shift":
            wider = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
            views += [wider[:, :-2, :-2], wider[:, 2:, 2:]]
        return ops.concatenate([turn for x in views for turn in (x, ops.flip(x, axis=2))], axis=0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with an open number of views."""
        return (None, *input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        """Return what it takes to build the layer anew."""
        return {**super().get_config(), "kind": self.kind}


class MeanOfViews(keras.layers.Layer):  # type: ignore[misc]
    """Features of the views that `Views` made, (views × batch, features) → their weighted mean,
    (batch, features). A linear layer after it answers with the mean of its answers.
    """

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the mean; in training, where there is one view, what came in."""
        if training:
            return inputs
        weights = Views.WEIGHTS[self.kind]
        views = ops.reshape(inputs, (len(weights), -1, inputs.shape[-1]))
        return sum(weight * views[number] for number, weight in enumerate(weights))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the means, of an open number of pictures."""
        return (None, *input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        """Return what it takes to build the layer anew."""
        return {**super().get_config(), "kind": self.kind}


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
        PatchWhitening,
        Views,
        MeanOfViews,
        BlockAverage,
        ClassesOfClusters,
    )
}
