"""Our training of student_training.py: an epoch is one compiled program.

The program shuffles, gathers and steps on the device.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import student_systems

from configs import mnist
from kd_jax.training import build, train


def make(*, live: bool = False) -> student_systems.Trainer:
  """Returns our training on stored outputs, or with a live teacher."""
  config = build.close_row(mnist.get_config('h300'), 'h300')
  images, labels, logits = student_systems.load_arrays()
  system = 'ours-live' if live else 'ours'
  used = np.arange(len(labels)) < student_systems.SYSTEMS[system][2]
  phases = train.make_phases(used, epochs=1, folds=0)
  programs = build.make_programs(
    build.row_key(
      config,
      num_classes=10,
      image_shape=images.shape[1:],
      total_steps=train.num_steps(
        phases, student_systems.BATCH, drop_remainder=False
      ),
      num_seeds=None,
      live_teacher=live,
    )
  )
  arrays = {'images': jnp.asarray(images), 'labels': jnp.asarray(labels)}
  if live:
    arrays['teacher'] = _teacher_variables()
  else:
    arrays['teacher_logits'] = jnp.asarray(logits)
  settings = lambda epoch: build.settings(config.optim, config.distill, epoch)
  key = jax.random.key(0)
  losses = _first_losses(programs, arrays, key, settings(0))
  state, epochs = _initial_state(programs, key), 0

  def run(examples):
    nonlocal state, epochs
    assert examples == used.sum()
    (result,) = train.fit(
      programs.epochs,
      state,
      arrays,
      phases,
      key=jax.random.fold_in(key, epochs),
      settings=settings,
    )
    state, epochs = result.state, epochs + 1
    # The clock of `fit` leaves out only the check that it is compiled.
    return result.train_s

  return student_systems.Trainer(losses, run)


def _teacher_variables() -> dict[str, Any]:
  """Returns the shared teacher weights as variables of our network."""
  arrays = list(map(jnp.asarray, student_systems.make_teacher_weights()))
  convolution, *dense = (
    {'kernel': kernel, 'bias': bias}
    for kernel, bias in zip(arrays[::2], arrays[1::2], strict=True)
  )
  names = ('hidden0', 'hidden1', 'logits')
  head = dict(zip(names, dense, strict=True))
  return {'params': {'conv0': convolution, 'head': head}, 'batch_stats': {}}


def _initial_state(programs: build.Programs, key: jax.Array):
  """Returns a training state with the shared student weights."""
  w1, b1, w2, b2 = map(jnp.asarray, student_systems.make_weights())
  params = {
    'hidden0': {'kernel': w1, 'bias': b1},
    'logits': {'kernel': w2, 'bias': b2},
  }
  return programs.init(key)._replace(params=params)


def _first_losses(
  programs: build.Programs, arrays: dict[str, Any], key: jax.Array, settings
) -> list[float]:
  """Returns the losses of the first steps, on examples in their order."""
  count = len(arrays['labels'])
  order = jnp.arange(count, dtype=jnp.int32)
  state, losses = _initial_state(programs, key), []
  for step in range(student_systems.CHECKED_STEPS):
    state, sums = programs.epochs.run(
      state, programs.epochs.zero_sums(), order, arrays, {}, count,
      step, step + 1, key, settings,
    )  # fmt: skip
    losses.append(float(sums['loss'] / sums['count']))
  return losses
