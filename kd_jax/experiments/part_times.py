"""The seconds of a run's parts, from the environment to the timing."""

import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from kd_jax.runtime import workers

# The file in a virtual environment that `make` writes: the seconds of its
# set-up.
SETUP_FILE = '.setup_seconds'


class PartTimes:
  """The seconds of a run's parts, added up over the commands that complete it.

  The parts lie in the record under 'part_seconds'. 'environment' is the set-up
  of the virtual environment, if `make` has set it up. 'teacher' includes the
  teacher's outputs.
  """

  def __init__(self, record: dict[str, Any]):
    """Continues the times of a record, which is changed in place."""
    self._seconds: dict[str, float] = record.setdefault('part_seconds', {})
    setup_s = _read_setup_seconds(pathlib.Path(sys.prefix) / SETUP_FILE)
    if setup_s is not None:
      self._seconds['environment'] = setup_s
    self._add('students', workers.spent_seconds())

  @contextlib.contextmanager
  def measure(self, part: str) -> Iterator[None]:
    """Adds the seconds of a `with` block to a part."""
    began = time.perf_counter()
    yield
    self._add(part, time.perf_counter() - began)

  def _add(self, part: str, seconds: float) -> None:
    self._seconds[part] = self._seconds.get(part, 0.0) + seconds


def _read_setup_seconds(path: pathlib.Path) -> float | None:
  """Returns the number in a file; None if there is none."""
  try:
    return float(path.read_text())
  except (OSError, ValueError):
    return None
