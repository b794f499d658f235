"""Timing of inference: counts by hand, and the structure of the results.

The tests assert no times.

Also tests `kd_jax/benchmark/__main__.py`.
"""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cifar
from kd_jax import config as config_lib
from kd_jax import models
from kd_jax.benchmark import latency, timing
from kd_jax.models import apply, costs, from_config


def _network(module):
  variables = apply.init_variables(module, (28, 28, 1), jax.random.key(0))
  parameters = costs.count_parameters(variables['params'])
  return latency.make_network(
    module, variables, scaling='unit', parameters=parameters
  )


@pytest.mark.parametrize(
  'module, macs',
  [
    (models.MLP(hidden=(50,), num_classes=10), 784 * 50 + 500),
    (models.MLP(hidden=(300,), num_classes=10), 784 * 300 + 3000),
    (
      models.ConvNet(num_classes=10),
      26 * 26 * 32 * 9 + 21_632 * 1200 + 1200 * 1200 + 12_000,
    ),
  ],
)
def test_macs_of_networks_by_hand(module, macs):
  network = _network(module)
  one_image = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.uint8)
  assert costs.count_macs(network.fn, network.variables, one_image) == macs
  batch = jax.ShapeDtypeStruct((7, 28, 28, 1), jnp.uint8)
  assert costs.count_macs(network.fn, network.variables, batch) == 7 * macs


def test_macs_of_strides_groups_and_loops():
  conv = lambda x, w: jax.lax.conv_general_dilated(
    x, w, (2, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=2,
  )  # fmt: skip
  x, w = jnp.zeros((1, 8, 8, 4)), jnp.zeros((3, 3, 2, 6))
  assert costs.count_macs(conv, x, w) == 4 * 4 * 6 * 9 * 2
  loop = lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, length=5)[0]
  assert costs.count_macs(loop, jnp.zeros((3, 3))) == 5 * 27


def test_parameters_are_counted_as_trained_and_without_statistics(generated):
  config = config_lib.close_row(cifar.get_config('ideal,smoke=true'), 'ideal')
  config.student.update(blocks=(1,), widths=(8,), strides=(1,))
  module = from_config.make_module(config.student, 10)
  variables = apply.init_variables(module, (28, 28, 1), jax.random.key(0))
  config.benchmark.update(batch_sizes=(), cold_calls=0)
  record = latency.benchmark_inference(
    config,
    {'ideal': config.student},
    {'ideal': 'ideal'},
    {'ideal': variables},
    generated,
  )
  convolutions = 9 * 8 + 2 * 9 * 8 * 8
  parameters = record['networks']['ideal']['parameters']
  assert parameters == convolutions + 3 * 16 + 90


def test_results_hold_all_values_of_the_tables():
  networks = {
    'teacher': _network(models.MLP(hidden=(64, 64), num_classes=10)),
    'student': _network(models.MLP(hidden=(8,), num_classes=10)),
  }
  images = jnp.zeros((5, 28, 28, 1), jnp.uint8)
  results = latency.measure(
    networks, images, batch_sizes=(1, 12), budget_s=0.01
  )
  assert list(results) == ['teacher', 'student']
  student = results['student']
  assert student['parameters'] == 784 * 8 + 8 + 80 + 10
  assert student['parameter_bytes'] == 4 * student['parameters']
  assert student['macs'] == 784 * 8 + 80
  for batch in student['batches'].values():
    call_s = batch['call_s']
    assert 0 < call_s['lower'] <= call_s['median'] <= call_s['upper']
    assert call_s['n'] >= 5
    assert batch['compile_s'] > 0
    assert batch['bytes_accessed'] > student['parameter_bytes']
  for batch in results['teacher']['batches'].values():
    assert batch['ratio']['median'] == 1


def test_ratios_are_taken_round_by_round(monkeypatch):
  rounds = {'teacher': [2.0, 4.0, 8.0], 'student': [1.0, 1.0, 4.0]}
  monkeypatch.setattr(timing, 'interleave', lambda calls, budget_s: rounds)
  networks = {
    name: _network(models.MLP(hidden=(2,), num_classes=3)) for name in rounds
  }
  results = latency.measure(
    networks,
    jnp.zeros((1, 28, 28, 1), jnp.uint8),
    batch_sizes=(1,),
    budget_s=1,
  )
  ratio = results['student']['batches']['1']['ratio']
  assert ratio['median'] == np.median([2, 4, 2])


@pytest.mark.slow
def test_the_command_line_times_the_networks_of_a_config(tmp_path):
  out = tmp_path / 'out.json'
  output = subprocess.run(
    [
      sys.executable,
      '-m',
      'kd_jax.benchmark',
      '--config=configs/mnist.py:h50,smoke',
      '--config.data.name=generated',
      f'--out={out}',
    ],
    cwd=pathlib.Path(__file__).parents[2],
    check=True,
    capture_output=True,
    text=True,
  ).stdout
  networks = json.loads(out.read_text())['benchmark']['networks']
  assert list(networks) == ['teacher', 'h50']
  assert networks['h50']['parameters'] == 39_760
  # A row for each of the batch sizes 1 and 32.
  assert output.count('| h50 ') == 2
