"""The choice of log lines that a run shows."""

import logging
import pathlib
import sys

import pytest

from kd_jax.runtime import logs


@pytest.mark.parametrize(
  'folder, level, shown',
  [
    (pathlib.Path(logs.__file__).parents[1] / 'data', logging.INFO, True),
    ('/home/kd_jax/.venv/lib/orbax', logging.INFO, False),
    ('/home/kd_jax/.venv/lib/orbax', logging.ERROR, True),
  ],
)
def test_only_warnings_of_libraries_are_shown_without_tracebacks(
  folder, level, shown
):
  try:
    raise OSError('full')
  except OSError:
    error = sys.exc_info()
  line = logging.LogRecord('absl', level, f'{folder}/x.py', 1, 'x', (), error)
  assert logs.is_shown(line) == shown
  assert (line.exc_info is None) == ('orbax' in str(folder))
