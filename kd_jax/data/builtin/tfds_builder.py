"""The TFDS builder, which writes arrays as a prepared array_record folder."""

import io
import pathlib

import tensorflow_datasets as tfds
from PIL import Image

from kd_jax.data import progress
from kd_jax.data.builtin.specs import VERSION, Spec
from kd_jax.data.dataset import Arrays


# TFDS has no types; its builders take `skip_registration`.
class Builder(  # type: ignore[call-arg]
  tfds.core.GeneratorBasedBuilder, skip_registration=True
):
  """A TFDS builder for every data set of SPECS.

  The builder has the name of its data set. It is not registered with TFDS,
  whose registry already has an `mnist` and a `cifar10`.
  """

  VERSION = tfds.core.Version(VERSION)

  def __init__(self, spec: Spec, arrays: Arrays, data_dir: pathlib.Path):
    self.name = spec.name
    self._spec = spec
    self._arrays = arrays
    super().__init__(data_dir=data_dir)

  def _info(self) -> tfds.core.DatasetInfo:
    spec = self._spec
    return tfds.core.DatasetInfo(
      builder=self,
      description=spec.description,
      citation=spec.citation,
      homepage=spec.homepage,
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'image': tfds.features.Image(
            shape=spec.image_shape, encoding_format='png'
          ),
          'label': tfds.features.ClassLabel(num_classes=spec.num_classes),
        }
      ),
      supervised_keys=('image', 'label'),
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # The arrays are already in memory.
    return {
      split: self._generate_examples(split) for split in ('train', 'test')
    }

  def _generate_examples(self, split: str):
    images = self._arrays[f'{split}_images']
    labels = self._arrays[f'{split}_labels'].tolist()
    if images.shape[-1] == 1:
      images = images[..., 0]  # Pillow's gray images have no channel axis.
    examples = progress.bar(
      zip(images, labels, strict=True),
      total=len(images),
      desc=f'Preparing {self.name} {split}',
    )
    for index, (image, label) in enumerate(examples):
      # Encoded here, because TFDS needs TensorFlow to encode an array.
      png = io.BytesIO()
      Image.fromarray(image).save(png, 'png', compress_level=1)
      png.seek(0)
      yield (
        index,
        {
          'id': f'{split}_{index:05d}',
          'image': png,
          'label': label,
        },
      )


def prepare(spec: Spec, arrays: Arrays, data_dir: pathlib.Path) -> pathlib.Path:
  """Writes a data set as array_record files, in the layout of TFDS.

  Args:
    spec: the data set.
    arrays: its arrays, in canonical order.
    data_dir: a TFDS data folder.
  Returns:
    The prepared folder, `data_dir/<name>/<version>`.
  """
  with progress.quiet_tfds():
    builder = Builder(spec, arrays, data_dir)
    builder.download_and_prepare(
      file_format='array_record',
      # Without this option, TFDS first asks its bucket for a prepared copy.
      download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
  return pathlib.Path(builder.data_dir)
