"""Damages files as a bad disk would, or as somebody else would."""

import io
import json
import os
import pathlib
import zipfile
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from kd_jax.runtime import json_records, run_records

# Names that appear in the files, so that values land where they are read.
_NAMES = st.sampled_from(
  ['row', 'seed', 'test', 'config', 'rows', 'sha256', 'weights', 'time']
) | st.text(max_size=4)
# Whole numbers of any sign, some beyond every machine type.
_NUMBERS = (
  st.sampled_from([0, 1, -1, 2**31, 2**63, -(2**63), 10**30, 10**400])
  | st.integers()
  | st.floats()
)
_TEXTS = (
  st.text(max_size=8)
  | st.sampled_from(['', '..', '/', '../../x', 'a\nb', '\x1b[2J', '\ud800'])
  | st.sampled_from(['os:system', 'x' * 300, 'nan', 'mlp', '\u202e'])
)
JSON = st.recursive(
  st.none() | st.booleans() | _NUMBERS | _TEXTS,
  lambda values: (
    st.lists(values, max_size=3) | st.dictionaries(_NAMES, values, max_size=3)
  ),
  max_leaves=5,
)
_DTYPES = st.sampled_from(
  ['u1', 'i1', 'i4', 'i8', 'u8', 'f2', 'f4', 'f8', 'c8', '?', 'S3', 'U2', 'V2']
  + ['M8[s]', '>i4', '>f4']
)
_SHAPES = st.lists(st.integers(0, 5), max_size=5).map(tuple)
_MODES = st.sampled_from(['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'I;16'])


class Damage(NamedTuple):
  """A change of one file.

  Attributes:
    path: the file, inside the folder.
    content: its new content; None if it is gone.
    instead: what has taken its place, 'a pipe' or 'a folder'; '' for a file.
    is_sealed: whether checksums were made anew, so that nothing but sense can
      show the change.
  """

  path: str
  content: bytes | None
  is_sealed: bool
  instead: str = ''

  def apply(self, folder: pathlib.Path) -> None:
    """Changes the file in a copy of the folder."""
    path = folder / self.path
    if self.content is not None:
      path.write_bytes(self.content)
      return
    path.unlink()
    if self.instead == 'a pipe':
      os.mkfifo(path)
    elif self.instead == 'a folder':
      path.mkdir()


def damages(folder: pathlib.Path, pattern: str = '**/*'):
  """Returns a strategy of damages to the files of a folder."""
  names = sorted(
    str(path.relative_to(folder))
    for path in folder.glob(pattern)
    if path.is_file() and not path.name.endswith('.lock')
  )
  return st.sampled_from(names).flatmap(
    lambda name: _damages_of(name, (folder / name).read_bytes())
  )


def _damages_of(name: str, content: bytes):
  """Returns a strategy of damages to a file, by its name or its content."""
  contents = _bytes(content).map(lambda new: Damage(name, new, False))
  gone = st.sampled_from(['', 'a pipe', 'a folder']).map(
    lambda instead: Damage(name, None, False, instead)
  )
  suffix = pathlib.Path(name).suffix
  sealed = {
    '.json': _json,
    '.jsonl': _json_lines,
    '.npz': _npz,
    '.npy': _npy,
    '.png': _image,
    '.jpg': _image,
  }.get(suffix)
  if not suffix and _is_json_object(content):  # As Orbax writes them.
    sealed = _json
  if sealed is None:
    return contents | gone
  return (
    contents
    | gone
    | sealed(content).map(lambda new: Damage(name, new, True))
    | sealed(content).map(lambda new: Damage(name, new, True))
  )


def _is_json_object(content: bytes) -> bool:
  """Returns whether a file holds a JSON object."""
  try:
    return isinstance(json.loads(content), dict)
  except ValueError:
    return False


@st.composite
def _bytes(draw, content: bytes) -> bytes:
  """Draws what a disk, a transfer or a crash makes of a content."""
  size = len(content)
  start = draw(st.integers(0, size))
  stop = draw(st.integers(start, min(size, start + 64)))
  kind = draw(st.sampled_from('flip cut zero drop insert repeat'.split()))
  if kind == 'flip' and size:
    position = min(start, size - 1)
    bit = 1 << draw(st.integers(0, 7))
    flipped = bytes([content[position] ^ bit])
    return content[:position] + flipped + content[position + 1 :]
  middle = {
    'zero': bytes(stop - start),
    'drop': b'',
    'insert': content[start:stop] + draw(st.binary(max_size=8)),
    'repeat': 2 * content[start:stop],
  }
  if kind not in middle:
    return content[:start]
  return content[:start] + middle[kind] + content[stop:]


def _places(value, path=()):
  """Yields the path of each value in a JSON value."""
  yield path
  items = {}
  if isinstance(value, dict):
    items = value
  elif isinstance(value, list):
    items = dict(enumerate(value))
  for key, item in items.items():
    yield from _places(item, (*path, key))


def _changed(value, path, new, is_gone):
  """Returns a JSON value with another value, or none, at a path."""
  if not path:
    return new
  key, *rest = path
  copy = list(value) if isinstance(value, list) else dict(value)
  if is_gone and not rest:
    del copy[key]
  else:
    copy[key] = _changed(value[key], rest, new, is_gone)
  return copy


@st.composite
def _json(draw, content: bytes) -> bytes:
  """Draws a JSON file with one to three other values, and a right checksum."""
  value = json.loads(content)
  had_checksum = isinstance(value, dict) and json_records.CHECKSUM in value
  for _ in range(draw(st.integers(1, 3))):
    path = draw(st.sampled_from(list(_places(value))))
    value = _changed(value, path, draw(JSON), draw(st.booleans()))
  if had_checksum and isinstance(value, dict):
    value = json_records.with_checksum(value)
  return json.dumps(value).encode()


@st.composite
def _json_lines(draw, content: bytes) -> bytes:
  """Draws a log with another value in one line, and a right checksum."""
  lines = content.splitlines()
  index = draw(st.integers(0, len(lines) - 1))
  value = json.loads(lines[index])
  value.pop(json_records.CHECKSUM)
  path = draw(st.sampled_from(list(_places(value))))
  value = _changed(value, path, draw(JSON), draw(st.booleans()))
  lines[index] = run_records._line(value).encode().rstrip()
  return b'\n'.join(lines) + b'\n'


@st.composite
def _array(draw, like: np.ndarray) -> np.ndarray:
  """Draws an array: of another type or shape, or with one other value."""
  kind = draw(st.sampled_from(['value', 'type', 'shape', 'any']))
  if kind == 'value' and like.size and like.dtype.names is None:
    array = like.copy()
    numbers = [0, 1, -1, 127, 1e30, np.nan, np.inf, -np.inf]
    with np.errstate(all='ignore'):
      number = np.float64(draw(st.sampled_from(numbers)))
      array.flat[draw(st.integers(0, like.size - 1))] = number.astype(
        like.dtype
      )
    return array
  shape = like.shape if kind == 'type' else draw(_SHAPES)
  dtype = like.dtype if kind == 'shape' else np.dtype(draw(_DTYPES))
  return np.zeros(shape, dtype)


@st.composite
def _npy(draw, content: bytes) -> bytes:
  """Draws a .npy file of another array."""
  return _saved(draw(_array(np.load(io.BytesIO(content)))))


def _saved(array: np.ndarray) -> bytes:
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()


@st.composite
def _npz(draw, content: bytes) -> bytes:
  """Draws an .npz file of which one member is another, or is missing."""
  with np.load(io.BytesIO(content)) as stored:
    members = {name: _saved(stored[name]) for name in stored.files}
  name = draw(st.sampled_from(sorted(members)))
  kind = draw(st.sampled_from(['array', 'array', 'gone', 'renamed', 'bytes']))
  if kind == 'array':
    members[name] = draw(_npy(members[name]))
  elif kind == 'bytes':
    members[name] = draw(_bytes(members[name]))
  else:
    old = members.pop(name)
    if kind == 'renamed':
      members[draw(_TEXTS.filter(lambda text: text.isprintable()))] = old
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    for name, member in members.items():
      archive.writestr(f'{name}.npy', member)
  return file.getvalue()


@st.composite
def _image(draw, content: bytes) -> bytes:
  """Draws another image: of any mode, size and format."""
  del content
  size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
  image = Image.new(draw(_MODES), size)
  file = io.BytesIO()
  for form in draw(st.permutations(['PNG', 'JPEG', 'GIF', 'TIFF'])):
    try:
      image.save(file, form)
    except (OSError, ValueError):  # The format has no such mode.
      continue
    break
  return file.getvalue()
