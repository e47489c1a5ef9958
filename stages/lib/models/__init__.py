"""The models that `train.model` can name: one function each, from shape and sizes to an untrained
Keras model.
"""

from stages.lib.models.compact_cnn import compact_cnn

MODELS = {"compact_cnn": compact_cnn}
