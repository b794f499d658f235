"""One process of runs on several devices, by one process or several.

mesh_runs.py FOLDER DEVICES RUN [COORDINATOR NUM_PROCESSES PROCESS_ID]
"""

import pathlib
import sys

import numpy as np
from absl import logging

from configs import cifar, mnist
from kd_jax.experiments import experiment
from kd_jax.runtime import processes
from kd_jax.training import jobs
from tests import large_toy


def mlp():
  config = mnist.get_config('h50')
  config.data.update(name='generated', train_examples=1996, test_examples=497)
  config.train.folds = 0
  config.student.dropout_rate = 0.1
  config.train.update(epochs=2, batch_size=72)  # 56 steps, uneven batches
  return config


def resnet():
  config = cifar.get_config('ideal,smoke')
  config.data.update(name='generated_rgb', train_examples=996)
  config.student.update(blocks=(1,), widths=(16,), strides=(2,))
  config.train.update(epochs=6, batch_size=100, drop_remainder=True)
  # 54 steps. Rounding grows with the rate: at 0.01 two ways to compute them on
  # one device are 3e-4 apart by then.
  config.optim.learning_rate = 3e-4
  # Saved within its epochs, too: of several processes by all of them.
  jobs.PARTIAL_EVERY_S = 0.0
  return config


def live():
  """Its teacher is called in every step."""
  config = mlp()
  config.teacher.module = 'tests.own_networks:linear_teacher'
  config.teacher.live = True
  return config


def on_disk():
  """Its images are read from disk, and its teacher's logits stored there."""
  config = mlp()
  config.data.update(
    name=large_toy.NAME, memory_gib=0.0, train_examples=0, test_examples=0
  )
  config.teacher.module = 'tests.own_networks:linear_teacher'
  # 60 steps, uneven batches.
  config.train.update(epochs=12, batch_size=64)
  return config


def seeds():
  """Two seeds of it are one program."""
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
  """Does a run in FOLDER/NAME, or goes on with it.

  Its teacher is random, if it is none of the user's own.
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
  experiment.run(
    config,
    workdir=folder / name,
    teachers_dir=folder,
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
