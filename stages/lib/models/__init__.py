"""The models that `train.model` can name: each a function from shapes to an untrained model."""

from stages.lib.models.compact_cnn import compact_cnn

MODELS = {"compact_cnn": compact_cnn}
