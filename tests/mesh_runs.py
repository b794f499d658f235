"""A process of a run on several devices, for test_mesh.py.

python -m tests.mesh_runs FOLDER DEVICES RUN \\
  [COORDINATOR NUM_PROCESSES PROCESS_ID]
"""

import pathlib
import sys

import numpy as np
from absl import logging

from configs import cifar
from kd_jax.runtime import processes
from kd_jax.training import train
from tests import helpers, large_toy


def mlp():
  """An MLP with dropout: 56 steps, with an uneven last batch."""
  fields = {
    'data.train_examples': 1996,
    'data.test_examples': 497,
    'student.dropout_rate': 0.1,
    'train.folds': 0,
    'train.epochs': 2,
    'train.batch_size': 72,
  }
  return helpers.tiny_mnist(fields=fields)


def resnet():
  """A small ResNet that also saves checkpoints within its epochs."""
  config = cifar.get_config('ideal,smoke')
  config.data.update(name='generated_rgb', train_examples=996)
  config.student.update(blocks=(1,), widths=(16,), strides=(2,))
  config.train.update(epochs=6, batch_size=100, drop_remainder=True)
  # 54 steps. Rounding errors grow with the learning rate: at 0.01, two ways to
  # compute the same steps on one device differ by 3e-4 at the end.
  config.optim.learning_rate = 3e-4
  # All processes of a run take part in a save within an epoch.
  train.MID_EPOCH_EVERY_S = 0.0
  return config


def live():
  """An MLP whose teacher computes in every step."""
  config = mlp()
  config.teacher.module = 'tests.user_networks:linear_teacher'
  config.teacher.live = True
  return config


def on_disk():
  """An MLP on images on disk, where its teacher's logits are stored, too."""
  config = mlp()
  config.data.update(
    name=large_toy.NAME, memory_gib=0.0, train_examples=0, test_examples=0
  )
  config.teacher.module = 'tests.user_networks:linear_teacher'
  # 60 steps, with an uneven last batch.
  config.train.update(epochs=12, batch_size=64)
  return config


def seeds():
  """An MLP of which two seeds train as one program."""
  config = mlp()
  config.update(seeds=2, seeds_per_program=2)
  return config


RUNS = {
  'mlp': mlp,
  'resnet': resnet,
  'live': live,
  'on_disk': on_disk,
  'seeds': seeds,
}


def run(folder: pathlib.Path, devices: int, name: str):
  """Runs or resumes a run in FOLDER/NAME.

  If the run has no teacher of the user's, random logits are its teacher.
  """
  config = RUNS[name]()
  config.mesh.data = devices
  config.benchmark.enabled = False
  if not config.teacher.module:
    count = config.data.train_examples
    logits = np.random.default_rng(0).normal(size=(count, 10)).astype('f')
    config.teacher.logits = str(folder / f'{name}.npz')
    if processes.is_first():
      np.savez(config.teacher.logits, train=logits)
    processes.from_first(lambda: None)
  helpers.run(
    config,
    folder,
    name,
    data_dir=folder if name == 'on_disk' else None,
  )


def main(folder, devices, name, coordinator='', *process):
  logging.set_verbosity(logging.INFO)
  if coordinator:
    processes.start(coordinator, *map(int, process))
  with processes.guard():
    run(pathlib.Path(folder), int(devices), name)


if __name__ == '__main__':
  main(*sys.argv[1:])
