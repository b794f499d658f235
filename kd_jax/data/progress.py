"""Progress bars, and silence of TFDS, while data is prepared."""

import contextlib
import io
import logging as standard_logging
from collections.abc import Iterable, Iterator
from typing import Any

from absl import logging


def bar(iterable: Iterable[Any] | None = None, **kwargs) -> Any:
  """Returns a tqdm bar that appears after two seconds, and only on a terminal.

  Args:
    iterable: the items to count, or None.
    **kwargs: further arguments of `tqdm.tqdm`.
  Returns:
    The bar; iterating over the bar yields the items.
  """
  from kd_jax.runtime import bars

  return bars.Bar(iterable, delay=2, leave=False, disable=None, **kwargs)


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
  """Suppresses the progress bars, prints and info messages of TFDS."""
  import tensorflow_datasets as tfds

  logger = logging.get_absl_logger()
  logger.addFilter(_is_wanted)
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.enable_progress_bar()
    logger.removeFilter(_is_wanted)


def _is_wanted(record: standard_logging.LogRecord) -> bool:
  is_from_tfds = 'tensorflow_datasets' in record.pathname
  return record.levelno >= standard_logging.WARNING or not is_from_tfds
