"""The log lines that a run shows, and how they look."""

import logging as python_logging
import os

from absl import logging

from kd_jax.runtime import command_basics, console, processes

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
# Where JAX tells which backends it did not find. `environment` tells what
# matters: the device that is used, and an accelerator that is not.
_BACKENDS = 'xla_bridge.py'


def prepare() -> None:
  """Makes log lines plain sentences, before JAX starts.

  With --debug, lines have the time, the process and the place in the
  code.
  """
  handler = logging.get_absl_handler()
  handler.addFilter(is_shown)
  if not command_basics.is_debugged():
    handler.setFormatter(PlainFormatter())


def show_project_lines() -> None:
  """Shows all log lines of this project, and only warnings of libraries.

  Orbax and TFDS log a lot through absl, too. In a run of several processes, the
  first process logs everything, and the others log only warnings.
  """
  logging.set_verbosity(
    logging.INFO if processes.is_first() else logging.WARNING
  )


class PlainFormatter(python_logging.Formatter):
  """Lines for people: the message, and 'warning: ' before a warning."""

  def format(self, record: python_logging.LogRecord) -> str:
    """Returns the line of a record."""
    line = super().format(record)
    if record.levelno < python_logging.WARNING:
      return line
    return f'{record.levelname.lower()}: {line}'


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
  if os.path.basename(line.pathname) == _BACKENDS:
    return line.levelno >= python_logging.ERROR
  return line.levelno >= python_logging.WARNING
