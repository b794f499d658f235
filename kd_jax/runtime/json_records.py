"""The JSON files of runs: each has a shape, and each new one has a checksum.

A file that was damaged or written by something else is not used. One line says
which file it is and what is wrong with it. Readers can then rely on the types
of the fields that a shape names.

A shape is one of:

  a type                    a value of the type; `float` also takes whole
                            numbers, and no number is a bool
  a tuple of shapes         a value of one of the shapes
  [shape]                   a list of such values
  {str: shape}              an object with any names and such values
  {'a': shape, 'b?': shape} an object with a field 'a', perhaps with a field
                            'b', and with any other fields
"""

import functools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import logging

from kd_jax.runtime import files, local_paths, processes

# The field of the checksum. Files of older versions do not have it.
CHECKSUM = 'checksum'
# What is wrong with a file that lacks it, where it must not.
WITHOUT_CHECKSUM = (
  'it has no checksum, so that it was edited, or written by an older version'
)

_STUDENT = {
  'row': str,
  'seed': int,
  'test?': {str: (float, None)},
  'weights?': str,
  'time?': {str: (float, None)},
  'same_as?': str,
  'environment?': dict,
}
# A config, as a run's record holds it. Configs of theory have other fields.
_CONFIG = {
  'benchmark?': dict,
  'data?': {
    'name': str,
    'train_examples': int,
    'test_examples': int,
    'holdout_examples?': int,
    'image_size?': int,
    'memory_gib?': float,
    'at_most?': bool,
  },
  'distill?': dict,
  'eval?': dict,
  'mesh?': dict,
  'optim?': dict,
  'rows?': {str: dict},
  'student?': dict,
  'teacher?': dict,
  'train?': dict,
}
# What run.json says about the data.
_DATA = {
  'name': str,
  'digest': str,
  'image_shape': [int],
  'num_classes': int,
  'class_names': [str],
}
# result.json of a student or a teacher.
RESULT = _STUDENT
# run.json of a run. Its fields, with who writes them:
#
#   name, config     runner: the name and the config, with open rows
#   command          runner: what starts the run again
#   environment      runner: versions, device, processor and code of the start
#   status           runner: 'running' or 'complete'
#   data             data_record: what identifies the data
#   warnings         runner: sentences without a full stop
#   teacher          provider: the record of the teacher, as in result.json
#   students         students: the record of each student, as in result.json
#   benchmark        network_timing: seconds a call and a training step
#   part_seconds     part_times: the seconds of each part of the run
#   results          run_theory, in place of data, teacher and students
#   seconds          run_theory: the seconds of the computation
#
# The modules are those of experiments/, teachers/ and theory/. `write` adds a
# checksum.
RUN = {
  'name': str,
  'status': str,
  'command?': str,
  'config': _CONFIG,
  'environment?': dict,
  'students?': [_STUDENT],
  'teacher?': dict,
  'benchmark?': dict,
  'data?': _DATA,
  'warnings?': [str],
  'part_seconds?': {str: float},
  'results?': dict,
  'seconds?': float,
}
# identity.json of a training, and of a teacher's logits for views.
IDENTITY = dict
# manifest.json of a teacher's stored outputs. It keeps the name that the first
# version had for an identity.
OUTPUTS_IDENTITY = 'fingerprint'
OUTPUTS = {OUTPUTS_IDENTITY: dict, 'sha256': {str: str}}
# manifest.json of a pretrained teacher.
PRETRAINED = {
  'data': str,
  'data_digest': str,
  'teacher': {'model': dict},
  'training': dict,
  'sha256': {str: str},
}
# The description of a checkpoint.
CHECKPOINT = {'sha256': str, 'arrays?': {str: str}}
# A line of metrics.jsonl.
METRICS = {
  'row': str,
  'seed': int,
  'epoch': int,
  'phase?': str,
  'time/train_s?': float,
  'time/compile_s?': float,
  'eval/accuracy?': float,
}


def mismatch(value: Any, shape: Any, path: str = '') -> str | None:
  """Describes how a JSON value differs from a shape; None if it does not.

  Args:
    value: the JSON value.
    shape: see the module's docstring.
    path: the name of the value, such as 'students[0]'; '' for a whole file.
  """
  if isinstance(shape, tuple):
    problems = [mismatch(value, option, path) for option in shape]
    return None if None in problems else problems[0]
  if isinstance(shape, list):
    return _type_mismatch(value, list, path) or next(
      filter(
        None,
        (
          mismatch(item, shape[0], f'{path}[{i}]')
          for i, item in enumerate(value)
        ),
      ),
      None,
    )
  if isinstance(shape, Mapping):
    return _type_mismatch(value, dict, path) or _fields_mismatch(
      value, shape, path
    )
  return _type_mismatch(value, type(None) if shape is None else shape, path)


def _type_mismatch(value: Any, kind: type, path: str) -> str | None:
  expected = (int, float) if kind is float else kind
  is_bool = isinstance(value, bool) and kind in (int, float)
  if isinstance(value, expected) and not is_bool:
    return None
  return (
    f'{path or "the content"} is {json.dumps(value)[:40]}, expected '
    f'{_NAMES.get(kind, kind.__name__)}'
  )


_NAMES = {
  dict: 'an object',
  list: 'a list',
  str: 'a text',
  int: 'a whole number',
  float: 'a number',
  type(None): 'null',
}


def _fields_mismatch(
  value: Mapping[str, Any], shape: Mapping[Any, Any], path: str
) -> str | None:
  """Describes the first field of an object that differs from its shape."""
  fields = dict.fromkeys(value, shape[str]) if str in shape else shape
  for field, expected in fields.items():
    name = field if str in shape else field.removesuffix('?')
    full = f'{path}.{name}' if path else name
    if name not in value:
      if field == name:
        return f'{full} is missing'
      continue
    problem = mismatch(value[name], expected, full)
    if problem is not None:
      return problem
  return None


# --- Checksums. ---


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a JSON object with its checksum as the last field.

  The checksum is that of what a reader gets: with keys of text, and with lists
  in the place of tuples. An older checksum is replaced.
  """
  content = json.loads(json.dumps(value))
  content.pop(CHECKSUM, None)
  return content | {CHECKSUM: files.json_digest(content)[:16]}


def check(value: Any, shape: Any) -> tuple[Any, str | None]:
  """Checks a JSON value that a file has held.

  Args:
    value: the JSON value.
    shape: its shape.
  Returns:
    The value without its checksum, and what is wrong with it, or None.
  """
  if isinstance(value, dict) and CHECKSUM in value:
    stored = value[CHECKSUM]
    value = {key: item for key, item in value.items() if key != CHECKSUM}
    if files.json_digest(value)[:16] != stored:
      return value, (
        f'its content does not match its checksum {stored!r}, so that it was '
        'damaged or edited'
      )
  return value, mismatch(value, shape)


# --- Files. ---


def write(path: os.PathLike, value: Mapping[str, Any]) -> None:
  """Writes a JSON object with its checksum; an error keeps the old file."""
  files.write_json(path, with_checksum(value))


def read(
  path: os.PathLike, shape: Any, *, needs_checksum: bool = False
) -> Any | None:
  """Returns what a JSON file holds; None if it is missing or damaged.

  One line names a file that is there and is not used.

  Args:
    path: the file.
    shape: the shape of its content.
    needs_checksum: as for `find`.
  """
  value, problem = find(path, shape, needs_checksum=needs_checksum)
  if problem is not None:
    _warn_once(str(path), problem)
    return None
  return value


def find(
  path: os.PathLike, shape: Any, *, needs_checksum: bool = False
) -> tuple[Any | None, str | None]:
  """Returns what a JSON file holds, and what is wrong with it, or None.

  Args:
    path: the file.
    shape: the shape of its content.
    needs_checksum: whether an object without a checksum is a problem. It is for
      what can be computed anew.
  Returns:
    (None, None) if there is no file. If there is a problem, the value is what
    could be read, and not to be relied on.
  """

  def read_file() -> tuple[Any, str | None]:
    kind = local_paths.irregular_kind(pathlib.Path(path))
    if kind is not None:  # To read a pipe would be to wait without end.
      return None, f'it is {kind}; expected a file'
    try:
      content = pathlib.Path(path).read_bytes()
    except FileNotFoundError:
      return None, None
    try:
      value = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
      return None, f'it is no JSON ({error})'
    if needs_checksum and isinstance(value, dict) and CHECKSUM not in value:
      return value, WITHOUT_CHECKSUM
    return check(value, shape)

  value, problem = processes.from_first(read_file)
  return value, problem


@functools.cache
def _warn_once(path: str, problem: str) -> None:
  """Logs a file that is not used; workers look at a file again and again."""
  logging.warning('%s is not used: %s', path, problem)
