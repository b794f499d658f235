"""One process of runs on several devices, by one process or several.

mesh_runs.py FOLDER DEVICES [NETWORK [COORDINATOR NUM_PROCESSES PROCESS_ID]]
"""

import pathlib
import sys

import numpy as np
from absl import logging

from configs import cifar, mnist
from kd_jax import experiment, processes


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
  config.train.update(epochs=5, batch_size=100, drop_remainder=True)
  # 45 steps. Rounding grows with the rate: at 0.01 two ways to compute them on
  # one device are 3e-4 apart by then.
  config.optim.learning_rate = 3e-4
  return config


NETWORKS = {'mlp': mlp, 'resnet': resnet}


def run(folder: pathlib.Path, devices: int, name: str):
  """Does a run in FOLDER/NAME, or goes on with it; its teacher is random."""
  config = NETWORKS[name]()
  config.mesh.data = devices
  config.benchmark.enabled = False
  count = config.data.train_examples
  logits = np.random.default_rng(0).normal(size=(count, 10)).astype('f')
  config.teacher.logits = str(folder / f'{name}.npz')
  if processes.is_first():
    np.savez(config.teacher.logits, train=logits)
  processes.from_first(lambda: None)
  experiment.run(config, workdir=folder / name, teachers_dir=folder)


def main(folder, devices, network='', coordinator='', *process):
  logging.set_verbosity(logging.INFO)
  if coordinator:
    processes.start(coordinator, *map(int, process))
  with processes.guard():
    for name in [network] if network else NETWORKS:
      run(pathlib.Path(folder), int(devices), name)


if __name__ == '__main__':
  main(*sys.argv[1:])
