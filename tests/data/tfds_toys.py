"""TFDS folders like those of other builders: without ids, or in tfrecord."""

import io
import json
import pathlib
import shutil
import struct

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from PIL import Image

from kd_jax.data import progress


def png(image) -> io.BytesIO:
  """Returns an image, uint8 [H, W] or [H, W, 3], as a PNG file."""
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'png')
  file.seek(0)
  return file


class _WithoutIds(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A builder like TFDS' MNIST, which does not store its keys 0 .. N-1."""

  VERSION = tfds.core.Version('3.0.1')

  def __init__(self, toy, data_dir):
    self.name = toy.spec.name
    self._toy = toy
    super().__init__(data_dir=data_dir)

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=self._toy.spec.image_shape),
          'label': tfds.features.ClassLabel(num_classes=10),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {
      split: self._generate_examples(split) for split in ('train', 'test')
    }

  def _generate_examples(self, split):
    images = self._toy.arrays[f'{split}_images'].squeeze()
    labels = self._toy.arrays[f'{split}_labels'].tolist()
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
      yield index, {'image': png(image), 'label': label}


def official(toy, data_dir: pathlib.Path) -> pathlib.Path:
  """Prepares `data_dir/toy/3.0.1` as array_record, without ids."""
  with progress.quiet_tfds():
    builder = _WithoutIds(toy, data_dir)
    builder.download_and_prepare(file_format='array_record')
  return pathlib.Path(builder.data_dir)


def records(path: pathlib.Path) -> list[bytes]:
  """Returns the records of an array_record file."""
  reader = array_record_module.ArrayRecordReader(str(path))
  try:
    return reader.read_all()
  finally:
    reader.close()


def as_tfrecord(
  source: pathlib.Path,
  target: pathlib.Path,
  *,
  num_shards: int = 1,
  is_reversed: bool = False,
) -> pathlib.Path:
  """Copies a prepared folder and converts array_record to tfrecord files."""
  target.mkdir(parents=True)
  shutil.copy(source / 'features.json', target)
  info = json.loads((source / 'dataset_info.json').read_text())
  info['fileFormat'] = 'tfrecord'
  for split in info['splits']:
    (path,) = source.glob(f'*-{split["name"]}.array_record-*')
    contents = records(path)[:: -1 if is_reversed else 1]
    size = len(contents) // num_shards
    split['shardLengths'] = [str(size)] * num_shards
    for shard in range(num_shards):
      name = path.name.replace('array_record', 'tfrecord').replace(
        '00000-of-00001', f'{shard:05d}-of-{num_shards:05d}'
      )
      # The checksums are zero, because kd_jax does not read them.
      (target / name).write_bytes(
        b''.join(
          struct.pack('<QI', len(content), 0) + content + bytes(4)
          for content in contents[shard * size : (shard + 1) * size]
        )
      )
  (target / 'dataset_info.json').write_text(json.dumps(info))
  return target
