"""The compact types that outputs are stored in."""

import numpy as np
import pytest

from kd_jax.runtime import errors
from kd_jax.teachers import compact_arrays


def test_features_as_whole_numbers_are_the_nearest_levels():
  rng = np.random.default_rng(0)
  features = np.maximum(rng.normal(size=(6, 4, 4, 3)), 0)
  for bits in (1, 3, 8):
    levels, largest = compact_arrays.to_integers(features, bits)
    assert levels.dtype == np.uint8 and levels.max() == 2**bits - 1
    step = largest / (2**bits - 1)
    assert np.abs(levels * step - features).max() <= step / 2 + 1e-6
  with pytest.raises(errors.UserError, match='behind a ReLU'):
    compact_arrays.to_integers(-features, 3)
  nothing, _ = compact_arrays.to_integers(0 * features, 3)
  assert not nothing.any()


@pytest.mark.parametrize('bits, dtype', [(0, 'f2'), (8, 'u1'), (9, 'u2')])
def test_features_have_the_smallest_type_that_holds_their_bits(bits, dtype):
  assert compact_arrays.features_dtype(bits) == np.dtype(dtype)


def test_half_floats_refuse_outputs_that_are_not_finite():
  outputs = np.array([1.0, -2.5], np.float32)
  halves = compact_arrays.half_floats(outputs)
  assert halves.dtype == np.float16
  np.testing.assert_array_equal(halves, outputs)
  for value in (1e5, np.nan, -np.inf):
    with pytest.raises(errors.UserError, match='beyond half floats'):
      compact_arrays.half_floats(np.array([0, value], np.float32))
