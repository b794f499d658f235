"""The seconds of a run's parts, from the environment to the timing.

They lie in the run's record under 'part_seconds', and add up over the commands
that complete a run:
'environment' is the set-up of the virtual environment, if `make` has set it up.
'data' is the loading of the data.
'teacher' includes the teacher's outputs.
'students' includes the students of workers.
'timing' is the benchmark of the networks.
"""

import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from kd_jax.runtime import local_paths, workers

# The file in a virtual environment that `make` writes: the seconds of its
# set-up.
SETUP_FILE = '.setup_seconds'


def add_earlier(record: dict[str, Any]) -> None:
  """Adds the parts that came before this process opened the run's record.

  They are the set-up of the environment, and the work of this command's
  workers.

  Args:
    record: the run's record; changed in place.
  """
  setup_s = _read_setup_seconds(pathlib.Path(sys.prefix) / SETUP_FILE)
  if setup_s is not None:
    record.setdefault('part_seconds', {})['environment'] = setup_s
  _add(record, 'students', workers.pop_seconds())


@contextlib.contextmanager
def measure(record: dict[str, Any], part: str) -> Iterator[None]:
  """Adds the seconds of a `with` block to a part.

  Args:
    record: the run's record; changed in place.
    part: the name of the part.
  """
  began = time.perf_counter()
  yield
  _add(record, part, time.perf_counter() - began)


def _add(record: dict[str, Any], part: str, seconds: float) -> None:
  parts = record.setdefault('part_seconds', {})
  parts[part] = parts.get(part, 0.0) + seconds


def _read_setup_seconds(path: pathlib.Path) -> float | None:
  """Returns the number in a file; None if there is none."""
  try:
    with local_paths.open_regular(path) as file:
      return float(file.read())
  except (OSError, ValueError):
    return None
