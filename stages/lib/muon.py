"""An optimiser that moves the filters of convolutions in all directions alike."""

from typing import Any

from stages.lib.keras_runtime import keras

ops = keras.ops

FILTER_MOMENTUM = 0.6  # none where the optimiser's own momentum is 0
FILTER_RATE = 0.2  # of the learning rate of all other weights
ITERATIONS = 3
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # bring singular values from 0.03 to 1 close to 1 soonest
SMALLEST_NORM = 1e-7


class Muon(keras.optimizers.SGD):  # type: ignore[misc]
    """Gradient descent with momentum, whose steps are made orthogonal for filters of convolutions.

    The momentum of a filter bank, seen as a matrix of outputs by inputs, is replaced by the nearest
    orthogonal matrix, so that directions which the gradient hardly shows are learned as fast as the
    strongest. All other weights are learned as by SGD with Nesterov's momentum. Weight decay keeps
    the length of the filters in bounds, to which their step has a fixed relation. After K. Jordan
    et al., Muon: An optimizer for hidden layers in neural networks, 2024.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move a variable against its gradient."""
        if not is_filter_bank(variable.shape):
            super().update_step(gradient, variable, learning_rate)
            return
        ahead = gradient = ops.cast(gradient, variable.dtype)
        if self.momentum:
            momentum = self.momentums[self._get_variable_index(variable)]
            velocity = FILTER_MOMENTUM * momentum + gradient
            self.assign(momentum, velocity)
            ahead = gradient + FILTER_MOMENTUM * velocity
        step = orthogonal(ops.reshape(ahead, (-1, variable.shape[-1])))
        rate = FILTER_RATE * ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, rate * ops.reshape(step, variable.shape))


def is_filter_bank(shape: tuple[int, ...]) -> bool:
    """Tell whether weights are filters (height, width, inputs, outputs) of several outputs."""
    return len(shape) == 4 and shape[-1] > 1


def orthogonal(matrix: Any) -> Any:
    """Return about the orthogonal matrix nearest to a matrix: its singular values become about 1.

    Newton–Schulz iterations, which need products of matrices alone; singular values below 0.03 of
    the matrix' norm stay smaller.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.norm(x) + SMALLEST_NORM)
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = ops.matmul(x, ops.transpose(x))
        x = first * x + ops.matmul(third * square + fifth * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x
