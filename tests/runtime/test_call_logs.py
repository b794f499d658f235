"""Log lines of a call from Python: few, plain, and the user's if they chose."""

import io
import logging as python_logging
from unittest import mock

from absl import logging

from kd_jax.runtime import call_logs, errors


def _lines(*handlers):
  """Logs three lines in a call, two of them of this project.

  Args:
    *handlers: those of the root logger; none in a new interpreter.
  Returns:
    The lines of stderr.
  """
  log, stderr = logging.get_absl_logger(), io.StringIO()
  with (
    mock.patch.object(python_logging.getLogger(), 'handlers', list(handlers)),
    # A test of the command line may have prepared it.
    mock.patch.object(logging.get_absl_handler(), 'filters', []),
    mock.patch('sys.stderr', stderr),
    call_logs.plain_lines(),
  ):
    for level, path in (
      (python_logging.INFO, errors.__file__),
      (python_logging.INFO, '/elsewhere/orbax/checkpoint.py'),
      (python_logging.WARNING, errors.__file__),
    ):
      if log.isEnabledFor(level):
        log.handle(log.makeRecord('absl', level, path, 1, 'a %s', ('b',), None))
  return stderr.getvalue().splitlines()


def test_lines_are_plain_sentences_of_this_project():
  assert _lines() == ['a b', 'warning: a b']


def test_a_notebook_with_the_handler_of_absl_is_not_flooded():
  assert _lines(logging.get_absl_handler()) == ['a b', 'warning: a b']


def test_a_program_with_its_handlers_keeps_them():
  stream = io.StringIO()
  handler = python_logging.StreamHandler(stream)
  handler.setFormatter(python_logging.Formatter('mine: %(message)s'))
  assert _lines(handler) == []
  assert stream.getvalue().splitlines()[-1] == 'mine: a b'


def test_a_call_leaves_the_logger_as_it_was():
  log = logging.get_absl_logger()
  state = lambda: (log.level, log.propagate, list(log.handlers))
  before = state()
  _lines()
  assert state() == before
