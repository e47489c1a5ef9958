"""Says how near a judged pair is to another verdict.

The search decides by more measures than data/duplicates.csv holds; the three that it does hold are
what doubt is computed from.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.verification import (
    COPY_DETAIL,
    LEAST_DIFFERENCE,
    NO_CROWD,
    RATIO,
    SAME_TONE_DETAIL,
    SCENE_DETAIL,
)

LEAST_COPY_DETAIL = min(COPY_DETAIL[0], SAME_TONE_DETAIL[0])


def needed_detail(pairs: pd.DataFrame) -> NDArray[np.float64]:
    """Return the detail from which on a pair is a copy (level remove) or one scene (the others).

    Where a crowd of look-alikes agrees with one of the two, the pair must stand out from it: it may
    differ by RATIO of what the crowd differs by. (By less still where its light or color differs,
    which the table does not hold.)

    Parameters
    ----------
    pairs : level and background, as in data/duplicates.csv.
    """
    crowd = 1 - pairs["background"].to_numpy(np.float64)
    allowed = np.where(crowd < NO_CROWD, np.maximum(RATIO * crowd, LEAST_DIFFERENCE), 1.0)
    own = np.where(pairs["level"] == "remove", LEAST_COPY_DETAIL, SCENE_DETAIL)
    needed: NDArray[np.float64] = np.maximum(own, 1 - allowed)
    return needed


def doubt(
    pairs: pd.DataFrame, remove_similarity: float, group_similarity: float
) -> NDArray[np.float64]:
    """Return how near each pair is to another verdict: 0 is far, 1 is on the limit.

    Of detail and similarity, each is what the pair differs by over what it may differ by; the worse
    of the two counts. That is the doubt of a pair that was tied, and its inverse that of
    look-alikes. So it is above 1 for look-alikes whose detail and similarity would do, and which
    another measure (color, single parts, finer detail) kept apart. Equal bytes are beyond doubt.
    That one scene may be a copy does not count: such a pair stays on one side either way.

    Parameters
    ----------
    pairs : left_id, right_id, level, similarity, detail, background, as in data/duplicates.csv.
    remove_similarity, group_similarity : of the clean section of params.yaml.
    """
    least = np.where(pairs["level"] == "remove", remove_similarity, group_similarity)
    detail, similarity = (pairs[name].to_numpy(np.float64) for name in ("detail", "similarity"))
    used = np.maximum(
        (1 - detail) / (1 - needed_detail(pairs)),
        (1 - similarity) / np.maximum(1 - least, LEAST_DIFFERENCE),
    )
    apart = (pairs["level"] == "look_alike").to_numpy()
    found = np.where(apart, 1 / np.maximum(used, LEAST_DIFFERENCE), used)
    return np.where(is_exact(pairs), 0.0, found)


def is_exact(pairs: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which pairs are files of equal bytes."""
    equal: NDArray[np.bool_] = (pairs["left_id"] == pairs["right_id"]).to_numpy(bool)
    return equal
