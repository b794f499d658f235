"""The choice of log lines that a run shows."""

import logging
import pathlib
import re
import sys

import pytest

from kd_jax.runtime import logs
from tests import helpers


@pytest.mark.parametrize(
  'folder, level, shown',
  [
    (pathlib.Path(logs.__file__).parents[1] / 'data', logging.INFO, True),
    ('/home/kd_jax/.venv/lib/orbax', logging.INFO, False),
    ('/home/kd_jax/.venv/lib/orbax', logging.ERROR, True),
    ('/home/kd_jax/.venv/lib/jax/xla_bridge.py', logging.WARNING, False),
    ('/home/kd_jax/.venv/lib/jax/xla_bridge.py', logging.ERROR, True),
  ],
)
def test_only_warnings_of_libraries_are_shown_without_tracebacks(
  folder, level, shown
):
  try:
    raise OSError('full')
  except OSError:
    error = sys.exc_info()
  file = f'{folder}' if str(folder).endswith('.py') else f'{folder}/x.py'
  line = logging.LogRecord('absl', level, file, 1, 'x', (), error)
  assert logs.is_shown(line) == shown
  assert (line.exc_info is None) == ('.venv' in str(folder))


# Logs a line, as a run does: the format is set, JAX starts, the level is set.
_RUN = """
from kd_jax.runtime import command_basics, environment, logs
from absl import app, logging
command_basics.define_flags()
def main(_):
  logs.prepare()
  environment.check_device()
  logs.show_project_lines()
  logging.get_absl_logger().handle(logging.get_absl_logger().makeRecord(
    'absl', {level}, environment.__file__, 1, 'the message', (), None))
app.run(main)
"""


@pytest.mark.parametrize(
  'level, debug, expected',
  [
    (logging.INFO, [], 'the message'),
    (logging.WARNING, [], 'warning: the message'),
    (
      logging.INFO,
      ['--debug'],
      r'I\d{4} [\d:.]+ \d+ environment.py:1\] the message',
    ),
  ],
)
def test_lines_are_plain_unless_details_are_asked_for(level, debug, expected):
  program = _RUN.format(level=level)
  env = {'JAX_PLATFORMS': ''}
  stderr = helpers.run_python('-c', program, *debug, env=env).stderr
  assert re.fullmatch(expected, stderr.strip())
