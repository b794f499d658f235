"""Prepared TFDS folders of the user: images with one label each.

Images stay encoded here; tfds_images.py decodes them.
"""

import contextlib
import hashlib
import os
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from kd_jax.data import (
  preparation_lock,
  progress,
  tfds_classes,
  tfds_record_files,
)
from kd_jax.data.dataset import (
  TEST_SPLIT_NAMES,
  DataError,
  error_text,
  no_test_split,
)
from kd_jax.data.user_data import npz_files
from kd_jax.runtime import local_paths


class SplitFiles(NamedTuple):
  """The files of a split.

  Attributes:
    name: the name of the split.
    paths: its record files, in order.
    num_examples: the number of examples in all files.
  """

  name: str
  paths: list[pathlib.Path]
  num_examples: int


class PreparedFolder(NamedTuple):
  """The description of a prepared folder of images with one label each.

  Attributes:
    name: the name of the data set.
    folder: the folder of a version.
    train: the training split.
    test: the test split; None if the folder has none.
    image_feature: the name of the feature that holds the image.
    label_feature: the name of the feature that holds the label.
    class_names: the name of each label, in order.
    is_gray: whether images have one channel.
  """

  name: str
  folder: pathlib.Path
  train: SplitFiles
  test: SplitFiles | None
  image_feature: str
  label_feature: str
  class_names: tuple[str, ...]
  is_gray: bool


class EncodedSplit(NamedTuple):
  """The examples of a split in the order of its files, images still encoded.

  Attributes:
    names: the name of each example for error messages.
    images: the PNG or JPEG content of each image.
    labels: the label of each image.
    digest: SHA-256 (hex) of the records.
  """

  names: list[str]
  images: list[bytes]
  labels: list[int]
  digest: str


class _RecordsDigest:
  """The SHA-256 of records, which is independent of their files."""

  def __init__(self):
    self._sha = hashlib.sha256()

  def update(self, record: bytes) -> None:
    self._sha.update(len(record).to_bytes(8))
    self._sha.update(record)

  def hex(self) -> str:
    return self._sha.hexdigest()


def prepare(name: str, data_dir: pathlib.Path) -> pathlib.Path:
  """Prepares a data set of the TFDS catalog, if it is not prepared yet.

  Args:
    name: the name in TFDS.
    data_dir: the TFDS data folder to write to.
  Returns:
    The prepared folder.
  Raises:
    DataError: if TFDS does not know the name, or cannot download or prepare the
      data set.
  """
  tfds_classes.check_name(name)
  try:
    with progress.quiet_tfds():
      builder = tfds.builder(name, data_dir=data_dir)
      if not builder.is_prepared():
        # TFDS uses what another process has prepared, but does not wait for it.
        with preparation_lock.hold(data_dir, name):
          builder.download_and_prepare(
            file_format='array_record',
            download_config=tfds.download.DownloadConfig(
              try_download_gcs=False
            ),
          )
  except Exception as error:  # Network, disk and TFDS raise many types.
    raise DataError(
      f'TFDS cannot prepare {name!r}: {str(error)[:500] or repr(error)}'
    ) from None
  return pathlib.Path(builder.data_dir)


def open_folder(
  folder: pathlib.Path, *, needs_test: bool = True
) -> PreparedFolder:
  """Reads the description of a prepared folder.

  Args:
    folder: the folder of a version; it holds dataset_info.json.
    needs_test: whether a folder without a test split is refused.
  Returns:
    The description.
  Raises:
    DataError: if the folder cannot be read, lacks a training or a test split,
      or does not hold images with one label each.
  """
  tfds_classes.check(folder)
  try:
    with progress.quiet_tfds():
      info = tfds.builder_from_directory(folder).info
    return _describe(folder, info, needs_test)
  except DataError:
    raise
  except Exception as error:  # TFDS raises many types for damaged metadata.
    raise DataError(f'{folder}: {error_text(error)}') from error


def _describe(
  folder: pathlib.Path, info: tfds.core.DatasetInfo, needs_test: bool
) -> PreparedFolder:
  """Returns the description of a folder whose metadata TFDS has read."""
  image_feature, label_feature = _find_features(folder, info)
  test = next((name for name in TEST_SPLIT_NAMES if name in info.splits), None)
  names = ', '.join(info.splits)
  if 'train' not in info.splits:
    raise DataError(
      f'{folder} has the splits {names}; expected train and one of '
      f'{", ".join(TEST_SPLIT_NAMES)}'
    )
  if test is None and needs_test:
    raise no_test_split(
      f'{folder} (splits: {names})', f'one of {", ".join(TEST_SPLIT_NAMES)}'
    )
  return PreparedFolder(
    name=info.name,
    folder=folder,
    train=_split_files(info.splits['train'], folder),
    test=None if test is None else _split_files(info.splits[test], folder),
    image_feature=image_feature,
    label_feature=label_feature,
    class_names=tuple(info.features[label_feature].names),
    is_gray=info.features[image_feature].shape[-1] == 1,
  )


def _split_files(info: tfds.core.SplitInfo, folder: pathlib.Path) -> SplitFiles:
  """Returns the files of a split.

  Raises:
    DataError: if the metadata names files outside of the folder, or no
      examples.
  """
  if not info.num_examples:
    raise DataError(
      f'{folder}: dataset_info.json says that {info.name} has no examples: '
      'copy or prepare the data set again'
    )
  paths = [pathlib.Path(path) for path in info.filepaths]
  inside = pathlib.Path(os.path.abspath(folder))
  for path in paths:
    if not pathlib.Path(os.path.abspath(path)).is_relative_to(inside):
      raise DataError(
        f'{folder}/dataset_info.json names {str(path)!r}, which is outside of '
        'the folder'
      )
  return SplitFiles(info.name, paths, info.num_examples)


def _find_features(
  folder: pathlib.Path, info: tfds.core.DatasetInfo
) -> tuple[str, str]:
  """Returns the names of the image feature and of the label feature.

  If several features are images or labels, the supervised keys decide.

  Raises:
    DataError: if the choice is not unique.
  """
  supervised_keys = info.supervised_keys or ()
  found = []
  for kind in (tfds.features.Image, tfds.features.ClassLabel):
    keys = [
      key for key, feature in info.features.items() if isinstance(feature, kind)
    ]
    found.append([key for key in keys if key in supervised_keys] or keys)
  if [len(keys) for keys in found] != [1, 1]:
    raise DataError(
      f'{folder} has the features {", ".join(info.features)}; expected one '
      'image and one class label'
    )
  return found[0][0], found[1][0]


def encoded_image(record: bytes, folder: PreparedFolder) -> bytes:
  """Returns the PNG or JPEG content of a record's image."""
  features = tfds_record_files.parse_example(record)
  return features[folder.image_feature].bytes_list.value[0]


def first_record(split: SplitFiles) -> tuple[str, bytes]:
  """Returns the name and the content of the first record of a split.

  Raises:
    DataError: if a file is damaged, or the split has no record.
  """
  for path in split.paths:
    try:
      for record in tfds_record_files.first_records(path):
        return f'{path}, record 0', record
    except Exception as error:  # Damaged files raise many types of errors.
      raise DataError(f'{path}: {error_text(error)}') from error
  raise DataError(f'{split.paths[0].parent}: {split.name} has no examples')


def _check_count(split: SplitFiles, num_read: int) -> None:
  """Checks that files hold the number of examples that their metadata says.

  Raises:
    DataError: if they hold fewer, as after an incomplete copy, or more.
  """
  if num_read != split.num_examples:
    raise DataError(
      f'{split.paths[0].parent}: dataset_info.json says {split.num_examples} '
      f'examples of {split.name}, but its files hold {num_read}: copy or '
      'prepare the data set again'
    )


def read_encoded(split: SplitFiles, folder: PreparedFolder) -> EncodedSplit:
  """Reads all records of a split without decoding the images.

  Args:
    split: a split of `folder`.
    folder: the prepared folder.
  Returns:
    The examples of the split.
  Raises:
    DataError: if a file is damaged.
  """
  encoded = EncodedSplit([], [], [], '')
  digest = _RecordsDigest()
  for path in split.paths:
    try:
      for index, record in enumerate(tfds_record_files.read(path)):
        features = tfds_record_files.parse_example(record)
        image = features[folder.image_feature].bytes_list.value[0]
        label = features[folder.label_feature].int64_list.value[0]
        encoded.names.append(f'{path}, record {index}')
        encoded.images.append(image)
        encoded.labels.append(label)
        digest.update(record)
    except Exception as error:  # Damaged files raise many types of errors.
      raise DataError(f'{path}: {error_text(error)}') from error
  _check_count(split, len(encoded.labels))
  return encoded._replace(digest=digest.hex())


def read_labels(
  split: SplitFiles, folder: PreparedFolder, cache_dir: pathlib.Path
) -> tuple[np.ndarray, str]:
  """Returns the labels and the digest of a split in array_record files.

  Reading the labels means reading all records. The results are therefore stored
  in `cache_dir`. They are computed again if the size or the modification time
  of a file changes.

  Args:
    split: a split of `folder`.
    folder: the prepared folder.
    cache_dir: the data folder.
  Returns:
    The labels, int32 [N], and the digest, as in `EncodedSplit`.
  Raises:
    DataError: if a file is damaged, or is not an array_record file.
  """
  cache_path = _labels_cache_path(split, folder, cache_dir)
  cached = _load_labels(cache_path)
  if cached and cached[0].shape == (split.num_examples,):
    return cached
  labels, digest = _scan_labels(split, folder)
  _store_labels(cache_path, labels, digest)
  return labels, digest


def _labels_cache_path(
  split: SplitFiles, folder: PreparedFolder, cache_dir: pathlib.Path
) -> pathlib.Path:
  files = [
    (str(path), path.stat().st_size, path.stat().st_mtime_ns)
    for path in split.paths
  ]
  key = hashlib.sha256(repr((files, folder.label_feature)).encode()).hexdigest()
  return cache_dir / '.kd_jax' / f'{split.name}-labels-{key[:16]}.npz'


def _load_labels(path: pathlib.Path) -> tuple[np.ndarray, str] | None:
  """Returns stored labels and their digest; None if missing or damaged."""
  try:
    # The zip archive has checksums, so that NumPy detects damaged arrays.
    with (
      local_paths.open_regular(path) as file,
      np.load(file, allow_pickle=False) as stored,
    ):
      return npz_files.array_of(stored, 'labels'), str(stored['digest'])
  except Exception:  # NumPy and zipfile raise many types of errors.
    return None


def _scan_labels(
  split: SplitFiles, folder: PreparedFolder
) -> tuple[np.ndarray, str]:
  """Reads the labels and the digest from the records; see `read_labels`."""
  labels: list[np.ndarray] = []
  digest = _RecordsDigest()
  for path in progress.bar(split.paths, desc='Reading labels', unit='file'):
    if not tfds_record_files.is_array_record(path):
      raise DataError(
        f'{path} is not an array_record file, the only format that can be read '
        "by index: prepare the data with file_format='array_record', or raise "
        'config.data.memory_gib'
      )
    try:
      for records in tfds_record_files.read_chunks(path):
        found = np.empty(len(records), np.int32)
        for i, record in enumerate(records):
          features = tfds_record_files.parse_example(record)
          found[i] = features[folder.label_feature].int64_list.value[0]
          digest.update(record)
        labels.append(found)
    except Exception as error:  # Damaged files raise many types of errors.
      raise DataError(f'{path}: {error_text(error)}') from error
  _check_count(split, sum(map(len, labels)))
  return np.concatenate(labels), digest.hex()


def _store_labels(path: pathlib.Path, labels: np.ndarray, digest: str) -> None:
  """Stores labels completely or not at all; logs a warning if this fails."""
  partial_path = path.with_suffix(f'.{os.getpid()}.part')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(partial_path, 'wb') as file:
      np.savez(file, labels=labels, digest=digest)
    os.replace(partial_path, path)
  except OSError as error:
    with contextlib.suppress(OSError):
      partial_path.unlink()
    logging.warning(
      'the labels cannot be stored and will be read again next time: %s', error
    )
