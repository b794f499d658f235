"""The log lines of a call from Python: few, and for people.

A notebook or a program that has set up its own logging keeps it. All others get
this project's lines, as the command line shows them, and only warnings of
libraries.
"""

import contextlib
import logging as python_logging
import sys
from collections.abc import Iterator

from absl import logging

from kd_jax.runtime import logs


@contextlib.contextmanager
def plain_lines() -> Iterator[None]:
  """Shows log lines as plain sentences, while a call lasts."""
  logger = logging.get_absl_logger()
  handlers = python_logging.getLogger().handlers
  if not all(map(_is_default, handlers)) or _is_command_line():
    yield
    return
  handler = python_logging.StreamHandler(sys.stderr)
  handler.addFilter(logs.is_shown)
  handler.setFormatter(logs.PlainFormatter())
  before = logger.level, logger.propagate
  logger.addHandler(handler)
  logger.setLevel(python_logging.INFO)
  logger.propagate = False
  try:
    yield
  finally:
    logger.removeHandler(handler)
    logger.setLevel(before[0])
    logger.propagate = before[1]


def _is_command_line() -> bool:
  return logs.is_shown in logging.get_absl_handler().filters


def _is_default(handler: python_logging.Handler) -> bool:
  """Returns whether a handler is one that nobody has chosen.

  absl installs `logging.basicConfig()` at the first line that any library logs.
  """
  if handler is logging.get_absl_handler():
    return True
  formatter = handler.formatter
  return (
    type(handler) is python_logging.StreamHandler
    and handler.stream in (sys.stderr, sys.__stderr__)
    # Formatters have no public name for their format.
    and getattr(formatter, '_fmt', None) in (None, python_logging.BASIC_FORMAT)
  )
