"""Event files for TensorBoard, beside metrics.jsonl."""

import pathlib
from typing import Any

from kd_jax.runtime import callbacks, errors


class TensorBoard(callbacks.Callback):
  """Writes each network's metrics to WORKDIR/tensorboard/ROW/seed-SEED."""

  def __init__(self) -> None:
    """Looks for the writer before any work is done.

    Raises:
      UserError: if tensorboardX is not installed.
    """
    try:
      import tensorboardX
    except ImportError as error:
      raise errors.UserError(
        f'--tensorboard: {error}: pip install tensorboardX'
      ) from None
    self._make_writer = tensorboardX.SummaryWriter
    self._folder = pathlib.Path()
    self._writers: dict[tuple[str, int], Any] = {}

  def on_start(self, config: dict[str, Any], workdir: pathlib.Path) -> None:
    """Takes the run's folder."""
    self._folder = workdir / 'tensorboard'

  def on_epoch(self, line: dict[str, Any]) -> None:
    """Writes the metrics of an epoch."""
    row, seed, epoch = line['row'], line['seed'], line['epoch']
    if (row, seed) not in self._writers:
      # A run that goes on does some epochs again: their values are replaced.
      self._writers[row, seed] = self._make_writer(
        str(self._folder / row / f'seed-{seed}'), purge_step=epoch
      )
    writer = self._writers[row, seed]
    for name, value in line.items():
      if '/' in name:
        writer.add_scalar(name, value, epoch)
    writer.flush()

  def on_end(self, record: dict[str, Any]) -> None:
    """Closes the files."""
    for writer in self._writers.values():
      writer.close()
    self._writers.clear()
