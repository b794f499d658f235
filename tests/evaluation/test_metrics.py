"""Metrics against values computed by hand."""

import jax
import numpy as np

from kd_jax.evaluation import metrics

# Eagerly, each operation of a metric is compiled.
classification = jax.jit(metrics.classification)
fidelity = jax.jit(metrics.fidelity)
ece = jax.jit(metrics.ece)
reliability = jax.jit(metrics.reliability, static_argnames='num_bins')

# The confidences are 0.9, 0.6 and 0.8; the second prediction is wrong.
PROBS = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
LOGITS = np.float32(np.log(PROBS))
LABELS = np.array([0, 1, 1])


def test_classification_by_hand():
  values = classification(LOGITS, LABELS)
  assert values['errors'] == 1
  np.testing.assert_allclose(values['accuracy'], 2 / 3, rtol=1e-6)
  np.testing.assert_allclose(
    values['nll'], -np.mean(np.log([0.9, 0.4, 0.8])), rtol=1e-5
  )
  np.testing.assert_allclose(
    values['brier'], np.mean([2 * 0.01, 2 * 0.36, 2 * 0.04]), rtol=1e-5
  )
  # Three bins have one example each: |1 - 0.9|, |0 - 0.6|, |1 - 0.8|.
  np.testing.assert_allclose(values['ece'], 0.9 / 3, rtol=1e-5)


def test_reliability_puts_an_edge_into_the_bin_below():
  # The confidence 0.5 is the upper edge of the first of two bins.
  bins = reliability(np.zeros((4, 2)), np.zeros(4, int), num_bins=2)
  np.testing.assert_array_equal(bins['count'], [4, 0])
  np.testing.assert_allclose(bins['confidence'], [0.5, 0])


def test_reliability_counts_every_example():
  logits = np.random.default_rng(0).normal(size=(1000, 10))
  bins = reliability(logits, np.zeros(1000, int))
  assert bins['count'].sum() == 1000
  assert bins['count'].shape == (15,)


def test_a_calibrated_predictor_has_no_calibration_error():
  # 70 of 100 examples with confidence 0.7 are right.
  logits = np.tile(np.log([[0.7, 0.3]]), (100, 1))
  labels = np.array([0] * 70 + [1] * 30)
  assert ece(logits, labels) < 1e-6
  assert ece(logits, np.zeros(100, int)) > 0.29


def test_fidelity_by_hand():
  teacher = np.log([[0.8, 0.2], [0.3, 0.7], [0.2, 0.8]])
  values = fidelity(LOGITS, teacher)
  np.testing.assert_allclose(values['teacher_agreement'], 2 / 3, rtol=1e-6)
  expected = np.mean(
    [
      0.8 * np.log(0.8 / 0.9) + 0.2 * np.log(0.2 / 0.1),
      0.3 * np.log(0.3 / 0.6) + 0.7 * np.log(0.7 / 0.4),
      0,
    ]
  )
  np.testing.assert_allclose(values['teacher_kl'], expected, rtol=1e-5)
