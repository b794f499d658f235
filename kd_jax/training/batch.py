"""Examples as they are stored, and batches as a train step takes them."""

from typing import Any, NamedTuple

import jax
import numpy as np

PyTree = Any


class Examples(NamedTuple):
  """Arrays with one entry an example: a training set, or a batch of it.

  Attributes:
    images: uint8 [N, H, W, C], as stored.
    labels: int32 [N].
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
  """How mixup has mixed the images of a batch.

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
    labels: int32 [B].
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

    Logits of a live teacher belong to the mixed images themselves: targets
    without teacher logits leave the batch's own in place.
    """
    batch = self._replace(labels=targets.labels)
    if targets.teacher_logits is None:
      return batch
    return batch._replace(teacher_logits=targets.teacher_logits)
