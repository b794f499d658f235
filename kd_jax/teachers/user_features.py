"""Features of a teacher outside the project, from a file of the user."""

import contextlib
import pathlib
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from kd_jax.data.dataset import Dataset, Origin
from kd_jax.data.user_data import npz_files
from kd_jax.evaluation import mismatched_outputs
from kd_jax.models import from_config
from kd_jax.runtime import errors, files, local_paths
from kd_jax.teachers import compact_arrays

FIELD = 'config.teacher.features'
# Examples whose features are compared with their labels.
_EXAMPLES_COMPARED = 10_000


class UserFeatures(NamedTuple):
  """A file of features [N, ...] of the training split, by layer.

  Attributes:
    path: the file.
    positions: int [M], where the training examples in use lie in the file.
    digest: the SHA-256 (hex) of the file.
  """

  path: pathlib.Path
  positions: np.ndarray
  digest: str

  def features(
    self,
    layers: tuple[str, ...],
    bits: int,
    name: str,
    example_indices: np.ndarray,
  ) -> dict[str, np.ndarray]:
    """Returns features [M, ...] by layer: see `TeacherNetwork.features`.

    Raises:
      UserError: if they do not fit in memory, or are not finite in float16.
    """
    del name  # The file holds every example.
    stored: dict[str, np.ndarray] = {}
    positions = self.positions[example_indices]
    with _open(self.path) as content:
      npz_files.check_memory(content.zip, self.path, layers)
      for layer in layers:
        # One layer at a time, since the file may hold more examples.
        array = _as_half_floats(
          npz_files.array_of(content, layer), f'{self.path}: {layer}'
        )[positions]
        if bits:
          levels = compact_arrays.to_integers(array.astype(np.float32), bits)
          stored[layer], stored[f'{layer}-largest'] = levels
        else:
          stored[layer] = array
    return stored


def with_features(config: ConfigDict) -> ConfigDict:
  """Returns a config whose teacher's model has the layers of a user's file.

  Only the headers of the file are read.

  Args:
    config: the run's config.
  Raises:
    UserError: if the file cannot be read, or an array is no layer.
  """
  if not config.teacher.features:
    return config
  shapes = _read_shapes(local_paths.expand(config.teacher.features, FIELD))
  config = config.copy_and_resolve_references()
  config.teacher.unlock()
  config.teacher.model = ConfigDict(
    dict(
      kind=from_config.USER_FEATURES,
      layers=tuple((name, shape[1:]) for name, shape in shapes.items()),
      dtype='float32',
      quantization='float',
      temperature=1.0,
    )
  )
  config.teacher.lock()
  return config


def open_file(path: str, dataset: Dataset) -> UserFeatures:
  """Checks a file of features against the data; reads only its headers.

  A file holds the features of each training example, in the order of the data's
  files. For built-in data, it may hold those of the examples in use alone.

  Args:
    path: FILE.npz with an array [N, C] or [N, H, W, C] for each layer, from the
      first layer to the last.
    dataset: the part of a data set that the config uses.
  Raises:
    UserError: if an array has another number of examples, or seems to have
      its channels first.
  """
  file = local_paths.expand(path, FIELD)
  count = len(dataset.train.labels)
  origin = dataset.train.origin or Origin('train', np.arange(count), count)
  sizes = {origin.size: origin.positions}
  if not dataset.is_users:
    sizes.setdefault(count, np.arange(count))
  height, width, _ = dataset.task.image_shape
  shapes = _read_shapes(file)
  for name, shape in shapes.items():
    if shape[0] not in sizes:
      raise errors.UserError(
        f'{FIELD}: {file}: {name} has {shape[0]:,} examples; expected '
        f'{origin.size:,}, every training example in the order of the files'
      )
    is_map = len(shape) == 4
    if is_map and height == width and shape[1] != shape[2] == shape[3]:
      raise errors.UserError(
        f'{FIELD}: {file}: {name} has the shape {list(shape)}, which looks '
        'like [N, C, H, W]; expected [N, H, W, C]: store '
        'features.transpose(0, 2, 3, 1)'
      )
  positions = sizes[next(iter(shapes.values()))[0]]
  if len({shape[0] for shape in shapes.values()}) > 1:
    raise errors.UserError(
      f'{FIELD}: the arrays of {file} have different numbers of examples; '
      f'expected {origin.size:,} in each'
    )
  return UserFeatures(file, positions, files.file_digest(file))


def find_mismatches(features: UserFeatures, dataset: Dataset) -> list[str]:
  """Returns a sentence if features seem to be those of other examples.

  Args:
    features: the file.
    dataset: the part of a data set that the config uses.
  """
  layer = list(_read_shapes(features.path))[-1]
  examples = np.arange(min(len(features.positions), _EXAMPLES_COMPARED))
  array = features.features((layer,), 0, '', examples)[layer]
  labels = np.asarray(dataset.train.labels)[examples]
  if not mismatched_outputs.is_unrelated(array, labels):
    return []
  return [
    f'{FIELD}: the features {layer} of {features.path} tell the classes apart '
    'no more than by chance: they seem to belong to other examples'
  ]


def _read_shapes(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
  """Returns the shape [N, ...] of each array, in the order of the file."""
  shapes = {}
  with _open(path) as content:
    for name in content.files:
      shape = npz_files.array_shape(content.zip, name)
      if len(shape) not in (2, 4) or 0 in shape:
        raise errors.UserError(
          f'{FIELD}: {path}: {name} has the shape {list(shape)}; expected '
          '[N, C] or [N, H, W, C], all of at least 1'
        )
      shapes[name] = shape
  if not shapes:
    raise errors.UserError(f'{FIELD}: {path} holds no arrays')
  return shapes


def _open(path: pathlib.Path) -> contextlib.AbstractContextManager:
  """Opens a file of features, see `npz_files.open_arrays`."""
  return npz_files.open_arrays(
    path, FIELD, 'FILE.npz, as np.savez(FILE, LAYER=features) writes it'
  )


def _as_half_floats(array: np.ndarray, name: str) -> np.ndarray:
  """Returns features as float16.

  Raises:
    UserError: if they are no floats, or not finite in float16.
  """
  if array.dtype.kind != 'f':
    raise errors.UserError(
      f'{FIELD}: {name} is {array.dtype}; expected floating-point features'
    )
  with np.errstate(over='ignore'):
    half = np.asarray(array, np.float16)
  if not np.isfinite(half).all():
    raise errors.UserError(
      f'{FIELD}: {name} is not finite, or beyond the range of float16 '
      f'({np.finfo(np.float16).max:g}), in which features are kept'
    )
  return half
