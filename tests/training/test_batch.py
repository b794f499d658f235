"""Batches: other targets for the same images."""

import jax.numpy as jnp

from kd_jax.training.batch import Batch, Targets

BATCH = Batch(
  images=jnp.zeros((2, 3, 3, 1)),
  labels=jnp.array([0, 1]),
  mask=jnp.ones(2),
  teacher_logits=jnp.array([[1.0, 0.0], [0.0, 1.0]]),
)


def test_targets_replace_labels_and_teacher_logits():
  targets = Targets(jnp.array([1, 0]), jnp.array([[5.0, 6.0], [7.0, 8.0]]))
  batch = BATCH.with_targets(targets)
  assert batch.labels is targets.labels
  assert batch.teacher_logits is targets.teacher_logits
  assert batch.images is BATCH.images and batch.mask is BATCH.mask


def test_targets_without_teacher_logits_leave_those_of_the_batch():
  # A live teacher sees the mixed images, so its logits belong to both targets.
  targets = Targets(jnp.array([1, 0]), teacher_logits=None)
  batch = BATCH.with_targets(targets)
  assert batch.labels is targets.labels
  assert batch.teacher_logits is BATCH.teacher_logits
