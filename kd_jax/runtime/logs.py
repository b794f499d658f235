"""Which log lines are shown."""

import os
from typing import Any

from absl import logging

from kd_jax.runtime import processes

_PACKAGE = os.path.dirname(os.path.dirname(__file__))


def log_own_lines() -> None:
  """Has this project's log lines shown, and of libraries only warnings.

  Orbax and TFDS log through absl, too, and say a great deal. Of several
  processes the first speaks, and others warn.
  """
  logging.set_verbosity(
    logging.INFO if processes.is_first() else logging.WARNING
  )
  logging.get_absl_handler().addFilter(_is_shown)


def _is_shown(line: Any) -> bool:
  # Not any path with this name: an environment may lie in a folder of it.
  if line.pathname.startswith(_PACKAGE + os.sep):
    return True
  # What a library raises comes to us, and is said there; some log it, too,
  # each of their threads with a traceback.
  line.exc_info = line.exc_text = None
  return line.levelno >= 30  # a warning
