"""What a person sees while data is prepared: one bar, and no chatter."""

import contextlib
import io
import logging as standard_logging
from collections.abc import Iterable, Iterator
from typing import Any

from absl import logging


def bar(iterable: Iterable[Any] | None = None, **kwargs) -> Any:
  """A tqdm bar that shows on a terminal alone, after two seconds."""
  import tqdm

  return tqdm.tqdm(iterable, delay=2, leave=False, disable=None, **kwargs)


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
  """Keeps TFDS' own bars, prints and notices off the terminal."""
  import tensorflow_datasets as tfds

  logger = logging.get_absl_logger()
  logger.addFilter(_is_no_chatter)
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.enable_progress_bar()
    logger.removeFilter(_is_no_chatter)


def _is_no_chatter(record: standard_logging.LogRecord) -> bool:
  is_of_tfds = 'tensorflow_datasets' in record.pathname
  return record.levelno >= standard_logging.WARNING or not is_of_tfds
