"""Stored examples, and the batches that a train step takes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from kd_jax.data import augmentation as augment

PyTree = Any
# (teacher variables, images uint8 [B, ...]) -> (logits, features by layer).
TeacherFn = Callable[[PyTree, jax.Array], tuple[jax.Array, dict]]
# Folded into a step's key to get the key of mixup. Dropout and the methods fold
# other numbers into it.
_MIXUP = np.iinfo(np.int32).max


class Examples(NamedTuple):
  """Arrays with one entry an example: a training set, or a batch of it.

  Attributes:
    images: uint8 [N, H, W, C], as stored.
    labels: int32 [N]; NO_LABEL for images without one.
    teacher_logits: float32 [N, K], or None without stored logits.
    teacher_features: arrays [N, ...] by layer, or None without stored features.
    views: int32 [N], the augmented view that each image is shown as, or None
      without augmentation.
  """

  images: Any
  labels: jax.Array | np.ndarray
  teacher_logits: Any | None = None
  teacher_features: dict[str, jax.Array] | None = None
  views: jax.Array | None = None


class Targets(NamedTuple):
  """The targets of a batch's examples.

  Attributes:
    labels: int32 [B].
    teacher_logits: float32 [B, K], or None.
  """

  labels: jax.Array
  teacher_logits: jax.Array | None


class Mixture(NamedTuple):
  """The result of mixup for the images of a batch.

  Attributes:
    share: float32 scalar, the share of an example's own image.
    partners: the targets of the images that have the rest.
  """

  share: jax.Array
  partners: Targets


class Batch(NamedTuple):
  """The input of a train step.

  Attributes:
    images: float32 [B, H, W, C], augmented and scaled.
    labels: int32 [B]; NO_LABEL for images without one.
    mask: float32 [B], 0 for padding and 1 elsewhere.
    teacher_logits: float32 [B, K], or None.
    teacher_features: arrays [B, ...] by layer, or None.
    mixture: None without mixup.
  """

  images: jax.Array
  labels: jax.Array | np.ndarray
  mask: jax.Array
  teacher_logits: jax.Array | None = None
  teacher_features: dict[str, jax.Array] | None = None
  mixture: Mixture | None = None

  def with_targets(self, targets: Targets) -> 'Batch':
    """Returns the batch with other targets for the same images.

    If `targets` has no teacher logits, the batch keeps its teacher logits: a
    live teacher has already seen the mixed images.
    """
    batch = self._replace(labels=targets.labels)
    if targets.teacher_logits is None:
      return batch
    return batch._replace(teacher_logits=targets.teacher_logits)


class Pipeline(NamedTuple):
  """The functions that turn stored examples into a batch.

  Attributes:
    preprocess: maps stored images to the network's input.
    augmentation: chooses and applies a view of each image; None for none.
    mixup_alpha: the parameter of mixup; 0 for none.
    teacher_fn: computes the teacher's outputs in every step; None to take
      stored outputs.
  """

  preprocess: Callable[[jax.Array], jax.Array]
  augmentation: augment.Augmentation | None = None
  mixup_alpha: float = 0.0
  teacher_fn: TeacherFn | None = None


def make_batch(
  pipeline: Pipeline,
  examples: Examples,
  mask: jax.Array,
  key: jax.Array,
  teacher_variables: PyTree = None,
) -> Batch:
  """Augments, mixes and scales examples; asks a live teacher about them.

  Args:
    pipeline: what turns stored examples into a batch.
    examples: the batch's examples, as stored.
    mask: float32 [B], 0 for padding.
    key: the step's key.
    teacher_variables: the variables of a live teacher.
  """
  images = examples.images
  mixture = None
  teacher_logits, features = examples.teacher_logits, examples.teacher_features
  if pipeline.augmentation is not None:
    assert examples.views is not None
    images = pipeline.augmentation.apply(images, examples.views)
  if pipeline.mixup_alpha > 0:
    partners = Targets(
      augment.partners(examples.labels),
      None if teacher_logits is None else augment.partners(teacher_logits),
    )
    mixup_key = jax.random.fold_in(key, _MIXUP)
    images, share = augment.mixup(images, mixup_key, alpha=pipeline.mixup_alpha)
    mixture = Mixture(share, partners)
  if pipeline.teacher_fn is not None:
    teacher_logits, features = pipeline.teacher_fn(teacher_variables, images)
  return Batch(
    images=pipeline.preprocess(images),
    labels=examples.labels,
    mask=mask,
    teacher_logits=teacher_logits,
    teacher_features=features,
    mixture=mixture,
  )
