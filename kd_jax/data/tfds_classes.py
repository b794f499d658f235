"""The code that names in files make TFDS run, checked before use.

TFDS imports the module of each class that features.json names. A folder from
somebody else could so run any module that Python finds. And TFDS downloads and
imports the code of a data set whose name has a namespace.
"""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from kd_jax.data.dataset import DataError
from kd_jax.runtime import local_paths

# Where features.json names classes, in its format of today and in older ones.
_CLASS_FIELDS = ('pythonClassName', 'python_class_name', 'type')
_PACKAGE = 'tensorflow_datasets.core.features.'


# NAME, NAME/CONFIG, and either with :VERSION. A namespace has other characters
# after the colon.
_NAME = re.compile(r'\w+(/[\w.+-]+)*(:[\d.*]+)?')


def check_name(name: str) -> None:
  """Checks that a name is one of TFDS' own catalog.

  Args:
    name: the name of a data set.
  Raises:
    DataError: if the name has a namespace, whose code TFDS would download.
  """
  if not _NAME.fullmatch(name):
    raise DataError(
      f'tfds:{name}: expected a data set of the catalog of TFDS, as NAME, '
      'NAME/CONFIG or NAME:VERSION'
    )


def check(folder: pathlib.Path) -> None:
  """Checks that the metadata of a folder names classes of TFDS alone.

  Args:
    folder: the folder of a version, with features.json.
  Raises:
    DataError: if features.json is damaged or names another class, or if the
      folder holds a pipe or a device.
  """
  path = folder / 'features.json'
  for other in folder.glob('*'):  # TFDS would wait for a pipe without end.
    kind = local_paths.irregular_kind(other)
    if kind not in (None, 'a folder') or (kind and other == path):
      raise DataError(f'{other} is {kind}; expected a file')
  try:
    names = list(_class_names(json.loads(path.read_bytes().decode())))
  except FileNotFoundError:
    return  # TFDS says what is missing.
  except (ValueError, RecursionError) as error:
    raise DataError(f'{path} is no JSON: {error}') from None
  for name in names:
    if '.' in name and not name.startswith(_PACKAGE):
      raise DataError(
        f'{path} names the class {name!r}, whose code TFDS would import: '
        f'expected classes of {_PACKAGE[:-1]} alone'
      )


def _class_names(value: Any) -> Iterator[str]:
  """Yields the names of classes at any depth of a JSON value."""
  if isinstance(value, dict):
    for field, item in value.items():
      if field in _CLASS_FIELDS and isinstance(item, str):
        yield item
      elif field == 'json' and isinstance(item, str):
        # A feature without a message type holds JSON as text.
        yield from _class_names(json.loads(item))
      else:
        yield from _class_names(item)
  elif isinstance(value, list):
    for item in value:
      yield from _class_names(item)
