"""A process with eight CPU devices: the same runs on one of them and on more.

Prints for each network how far its variables are apart, relative to their norm,
and the test errors of both.
"""

import json
import pathlib
import sys
import tempfile

import jax
import numpy as np
import optax

from configs import cifar, mnist
from kd_jax import build, data, experiment, jobs


def _mlp():
  config = mnist.get_config('h50')
  config.data.update(name='generated', train_examples=1996, test_examples=497)
  config.train.folds = 0
  config.student.dropout_rate = 0.1
  config.train.update(epochs=1, batch_size=36)  # 56 steps, uneven batches
  return config


def _resnet():
  config = cifar.get_config('ideal,smoke')
  config.data.update(name='generated_rgb', train_examples=996)
  config.student.update(blocks=(1,), widths=(16,), strides=(2,))
  config.train.update(epochs=5, batch_size=100, drop_remainder=True)
  # 45 steps. Rounding grows with the rate: at 0.01 two ways to compute them on
  # one device are 3e-4 apart by then.
  config.optim.learning_rate = 3e-4
  return config


def _train(config, size, folder):
  """Returns the student's variables, and its test errors."""
  config.mesh.data = size
  config.benchmark.enabled = False
  count = config.data.train_examples
  logits = np.random.default_rng(0).normal(size=(count, 10)).astype('f')
  config.teacher.logits = str(folder / 'teacher.npz')
  np.savez(config.teacher.logits, train=logits)
  record = experiment.run(config, workdir=folder / 'run', teachers_dir=folder)
  ((row, fields),) = config.rows.items()
  del fields
  model = build.model(build.close_row(config, row).student, 10)
  images = data.load(config.data.name).train.images
  variables = jobs.restore(folder / f'run/students/{row}/seed-0', model, images)
  return variables, record['students'][0]['test']['errors']


def _norm(tree):
  return float(optax.tree.norm(jax.device_get(tree)))


def main(sizes):
  results = {}
  for name, make in (('mlp', _mlp), ('resnet', _resnet)):
    ends = []
    for size in sizes:
      with tempfile.TemporaryDirectory() as folder:
        ends.append(_train(make(), size, pathlib.Path(folder)))
    (first, first_errors), *others = ends
    results[name] = [
      {
        'distance': _norm(jax.tree.map(np.subtract, first, end)) / _norm(first),
        'errors': [first_errors, errors],
      }
      for end, errors in others
    ]
  print(json.dumps(results))


if __name__ == '__main__':
  main([int(size) for size in sys.argv[1:]])
