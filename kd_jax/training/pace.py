"""The pace of a training: its clock, its calls and its progress bar."""

import contextlib
import time
from collections.abc import Iterator

import numpy as np
import tqdm

from kd_jax.runtime import bars, processes
from kd_jax.training import plan

# How long a call of several steps should take, in seconds: long enough to hide
# the cost of calling, short enough for a progress bar and a prompt Ctrl-C.
CALL_S = 1.0
# The least time of a call: a coarse clock may not move within a short one.
_TICK_S = 1e-6


class Pace:
  """Times an epoch: how many steps a call takes, and when a save is due."""

  def __init__(self, save_every_s: float, bar: tqdm.tqdm):
    """Starts with one step a call.

    Args:
      save_every_s: seconds within an epoch after which a save is due.
      bar: shows the progress, see `progress_bar`.
    """
    self.steps_per_call = 1
    self._bar = bar
    self._save_every_s = save_every_s
    # When the epoch began, later by the seconds that saves took.
    self._began = 0.0
    self._last_save = 0.0
    self._call_began = 0.0
    # Seconds since the last save at the end of the last call; the same in all
    # processes.
    self._unsaved_s = 0.0

  def restart_clock(self, train_s: float) -> None:
    """Starts the clock at the seconds that the epoch has trained so far."""
    self._last_save = time.perf_counter()
    self._began = self._last_save - train_s

  def train_s(self) -> float:
    """Returns the seconds of training in the epoch, without saves."""
    return time.perf_counter() - self._began

  def start_call(self) -> None:
    """Notes the time."""
    self._call_began = time.perf_counter()

  def end_call(self, num_steps: int) -> None:
    """Chooses how many steps the next call takes.

    The number grows slowly, since a function's first calls are its slowest.
    """
    # All processes must do the same, and their clocks differ.
    call_s, self._unsaved_s = processes.from_first(
      lambda: [
        time.perf_counter() - self._call_began,
        time.perf_counter() - self._last_save,
      ]
    )
    self.steps_per_call = min(
      4 * self.steps_per_call,
      max(1, int(num_steps * CALL_S / max(call_s, _TICK_S))),
    )

  def show(self, sums: dict[str, np.ndarray], num_examples: int) -> None:
    """Moves the progress bar on.

    Args:
      sums: totals of the epoch so far, for the mean loss and the accuracy.
      num_examples: how many examples the last call took.
    """
    self._bar.set_postfix_str(describe(sums), refresh=False)
    self._bar.update(num_examples)

  def save_is_due(self) -> bool:
    """Returns whether the last save was longer ago than it should be."""
    return self._unsaved_s > self._save_every_s

  @contextlib.contextmanager
  def saving(self) -> Iterator[None]:
    """Stops the clock while the training is saved."""
    began = time.perf_counter()
    yield
    self._last_save = time.perf_counter()
    self._began += self._last_save - began


def progress_bar(
  timetable: list[plan.Epoch], done_epochs: int, *, label: str | None
) -> tqdm.tqdm:
  """Returns a bar over the examples of all epochs; none without a label."""
  done = timetable[:done_epochs]
  return bars.make(
    total=sum(epoch.num_examples for epoch in timetable),
    initial=sum(epoch.num_examples for epoch in done),
    desc=label,
    disable=label is None,
    unit='ex',
    unit_scale=True,
    smoothing=0.1,
    dynamic_ncols=True,
  )


def describe(sums: dict[str, np.ndarray]) -> str:
  """Returns the mean loss and the training accuracy so far, for the bar.

  The accuracy is that of the examples with labels; without one it is left out.
  """
  count = np.sum(sums['count'])
  text = f'loss {np.sum(sums["loss"]) / count:.4f}'
  labeled = np.sum(sums.get('labeled', count))
  if not labeled:
    return text
  return f'{text}, training accuracy {np.sum(sums["correct"]) / labeled:.2%}'
