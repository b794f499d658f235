"""A teacher's logits, and values that only look like logits."""

import ml_dtypes
import numpy as np
import pytest

from kd_jax.teachers import logit_checks

LOGITS = np.random.default_rng(0).normal(0, 4, (20, 5))
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)


@pytest.mark.parametrize(
  'array',
  [
    np.round(PROBABILITIES, 2),
    np.round(PROBABILITIES, 1),
    100 * PROBABILITIES,
    1 / (1 + np.exp(-LOGITS)),  # Sigmoids, whose sums are not 1.
  ],
  ids=['two decimals', 'one decimal', 'percentages', 'sigmoids'],
)
def test_what_looks_like_probabilities_is_named(array, caplog):
  logits = logit_checks.as_logits(array, 'LOGITS.npy')
  np.testing.assert_allclose(logits, array, rtol=1e-6)
  assert 'LOGITS.npy look like probabilities' in caplog.text


@pytest.mark.parametrize(
  'array', [LOGITS, np.maximum(LOGITS, 0), LOGITS - LOGITS.min(), 0 * LOGITS]
)
def test_logits_are_taken_without_a_word(array, caplog):
  logit_checks.as_logits(array, 'LOGITS.npy')
  assert not caplog.text


@pytest.mark.parametrize('dtype', [ml_dtypes.bfloat16, np.float16])
def test_short_floats_become_float32(dtype):
  array = LOGITS.astype(dtype)
  logits = logit_checks.as_logits(array, 'LOGITS')
  assert logits.dtype == np.float32
  np.testing.assert_array_equal(logits, array.astype(np.float32))
