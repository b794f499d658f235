"""A teacher's outputs for images, computed once."""

import dataclasses
from typing import Any

import numpy as np

from kd_jax.api import argument_names, array_data, scalars
from kd_jax.config_checks import checking
from kd_jax.data import dataset as dataset_lib
from kd_jax.data import preprocessing
from kd_jax.evaluation import inference
from kd_jax.models import apply, user
from kd_jax.runtime import errors


@dataclasses.dataclass(frozen=True, eq=False)
class StoredOutputs:
  """A trained network and its logits for some images.

  Attributes:
    network: the network, as `store_outputs` got it.
    logits: float32 [N, K].
    scaling: the scaling of the images that the network gets.
    batch_size: the number of images in a call of the network.
    images_digest: the digest of the images.
  """

  network: Any
  logits: np.ndarray
  scaling: str
  batch_size: int
  images_digest: str

  def __repr__(self) -> str:
    """Returns the shape of the logits, in a line."""
    count, num_classes = self.logits.shape
    return (
      f'StoredOutputs(logits of {count:,} images, classes={num_classes}, '
      f'scaling={self.scaling!r})'
    )

  def check_same_images(self, images: np.ndarray) -> None:
    """Raises a UserError if the logits are those of other images."""
    if dataset_lib.array_digest(images) != self.images_digest:
      raise errors.UserError(
        'teacher: its outputs are those of other images: give `store_outputs` '
        'the images that you give `distill`, in the same order'
      )

  def predict(self, images: Any) -> np.ndarray:
    """Returns the network's logits [N, K] for other images."""
    return _predict(self.network, images, self.scaling, self.batch_size)


def store_outputs(
  network: Any, images: Any, *, scaling: str = 'unit', batch_size: int = 1000
) -> StoredOutputs:
  """Computes the outputs of a trained network, from which a student learns.

  Args:
    network: (apply, variables), where apply(variables, images [B, H, W, C]
      float32) returns logits [B, K], or (logits, features by name); (module,
      variables) of Flax Linen; a trained module of Flax NNX or Equinox; or
      `student.network` of a trained student.
    images: uint8 [N, H, W, C] or [N, H, W], with values from 0 to 255.
    scaling: what the network gets: a name in SCALINGS of
      kd_jax/data/preprocessing.py. 'unit' scales pixels to [0, 1].
    batch_size: the number of images in a call of the network.
  Returns:
    The outputs, for `distill`.
  Raises:
    UserError: if the images are no images, or the network returns no logits.
  """
  batch_size = scalars.whole_number('batch_size', batch_size)
  with argument_names.in_errors():
    checking.check_one_of(
      'data.scaling', scalars.text('scaling', scaling), preprocessing.SCALINGS
    )
  images = array_data.check_images(images)
  logits = _predict(network, images, scaling, batch_size)
  return StoredOutputs(
    network, logits, scaling, batch_size, dataset_lib.array_digest(images)
  )


def _predict(
  network: Any, images: Any, scaling: str, batch_size: int
) -> np.ndarray:
  images = array_data.check_images(images)
  with argument_names.name_argument('teacher', images.shape[1:]):
    trained = user.as_trained(network)
    predict = inference.make_batched_predict(
      apply.make_apply(trained),  # type: ignore[arg-type]
      preprocessing.unfused(scaling),
      batch_size=batch_size,
    )
    logits = predict(trained.variables, images)
  return array_data.check_logits(logits, len(images), "the teacher's logits")
