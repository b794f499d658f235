"""A TFDS data set of generated images that stays on disk."""

import tensorflow_datasets as tfds

from kd_jax import data
from tests.data import tfds_toys

NAME = 'tfds:large_toy'


class LargeToy(tfds.core.GeneratorBasedBuilder):
  """300 generated images, prepared by TFDS."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(28, 28, 1)),
          'label': tfds.features.ClassLabel(num_classes=10),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      split: self._generate_examples(split) for split in ('train', 'test')
    }

  def _generate_examples(self, split):
    generated = getattr(data.load('generated'), split)
    for i, image in enumerate(generated.images[:300]):
      yield (
        i,
        {
          'image': tfds_toys.png(image[..., 0]),
          'label': int(generated.labels[i]),
        },
      )
