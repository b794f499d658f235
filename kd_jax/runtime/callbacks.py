"""Programs that follow a run: trackers of experiments, and the user's."""

import pathlib
from collections.abc import Iterable
from typing import Any

from absl import logging

from kd_jax.runtime import processes


class Callback:
  """Follows a run; the methods of this class do nothing.

  A run with --workers has an object in each worker, for the students that the
  worker trains. In a run of several processes, the first process alone calls
  it. Epochs that were done before a run was stopped are not reported again.
  """

  def on_start(self, config: dict[str, Any], workdir: pathlib.Path) -> None:
    """Is called before the first training.

    Args:
      config: the run's config, as JSON values.
      workdir: the run's folder.
    """

  def on_epoch(self, line: dict[str, Any]) -> None:
    """Is called after each epoch of each network.

    Args:
      line: the line of metrics.jsonl: 'row', 'seed', 'epoch', and metrics such
        as 'train/loss' and 'eval/accuracy'.
    """

  def on_end(self, record: dict[str, Any]) -> None:
    """Is called when this process has done its share of the run.

    Args:
      record: the content of run.json; a worker has no 'students' yet.
    """


class Callbacks(Callback):
  """Several callbacks as one that never fails.

  A tracker may lose its server after hours of sound work. Such a callback is
  left out from then on, and the run goes on.
  """

  def __init__(self, callbacks: Iterable[Callback]):
    """Takes the callbacks, in the order in which they are called."""
    self._callbacks = list(callbacks)

  def on_start(self, config: dict[str, Any], workdir: pathlib.Path) -> None:
    """Tells every callback."""
    self._call('on_start', config, workdir)

  def on_epoch(self, line: dict[str, Any]) -> None:
    """Tells every callback."""
    self._call('on_epoch', line)

  def on_end(self, record: dict[str, Any]) -> None:
    """Tells every callback."""
    self._call('on_end', record)

  def _call(self, method: str, *args: Any) -> None:
    if not processes.is_first():
      return
    for callback in list(self._callbacks):
      try:
        getattr(callback, method)(*args)
      except Exception as error:  # The user's code may raise any exception.
        self._callbacks.remove(callback)
        logging.warning(
          'the callback %s is left out from now on: %s raised %s: %s',
          type(callback).__name__,
          method,
          type(error).__name__,
          error,
        )
