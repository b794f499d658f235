"""The choice of log lines that a run shows."""

import logging as python_logging
import os

from absl import logging

from kd_jax.runtime import console, processes

_PACKAGE = os.path.dirname(os.path.dirname(__file__))


def show_project_lines() -> None:
  """Shows all log lines of this project, and only warnings of libraries.

  Orbax and TFDS log a lot through absl, too. In a run of several processes, the
  first process logs everything, and the others log only warnings.
  """
  logging.set_verbosity(
    logging.INFO if processes.is_first() else logging.WARNING
  )
  logging.get_absl_handler().addFilter(is_shown)


def is_shown(line: python_logging.LogRecord) -> bool:
  """Returns whether a log line is shown.

  Escapes control characters, and strips the tracebacks of libraries.
  """
  # A file may have brought a name in the message.
  line.msg, line.args = console.printable_lines(line.getMessage()), None
  # Compares with the package's whole path: a virtual environment may lie in
  # another folder that is named kd_jax.
  if line.pathname.startswith(_PACKAGE + os.sep):
    return True
  # An error that a library raises reaches this project, which reports it. Some
  # libraries also log the error with a traceback, once in each thread.
  line.exc_info = line.exc_text = None
  return line.levelno >= python_logging.WARNING
