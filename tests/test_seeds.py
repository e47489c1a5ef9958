"""Seeds belong to items: equal on every machine, and different from item to item."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.lib.seeds import derive_seed, rng_for


def test_a_seed_is_the_same_on_every_machine() -> None:
    # `printf 7/abc/0 | sha256sum` begins with these 16 digits; the seed is their upper 63 bits.
    assert derive_seed(7, "abc", 0) == 0x4FAC8F0F85685676 >> 1


def test_another_seed_item_or_number_gives_another_seed() -> None:
    seeds = {
        derive_seed(seed, image_id, k) for seed in (1, 2) for image_id in "ab" for k in range(50)
    }

    assert len(seeds) == 200


@given(st.integers(), st.lists(st.text(alphabet="ab/", max_size=4) | st.integers(), max_size=3))
def test_a_seed_fits_a_signed_64_bit_column(seed: int, parts: list[str | int]) -> None:
    assert 0 <= derive_seed(seed, *parts) < 2**63


def test_generators_of_equal_seeds_draw_the_same() -> None:
    first, second = rng_for(7, "abc").integers(0, 99, 8), rng_for(7, "abc").integers(0, 99, 8)
    other = rng_for(7, "abd").integers(0, 99, 8)

    np.testing.assert_array_equal(first, second)
    assert first.tolist() != other.tolist()
