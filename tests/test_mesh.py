"""Batches shared out over devices: the same results, to rounding."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from configs import mnist
from kd_jax import errors, experiment, mesh

ROOT = pathlib.Path(__file__).parents[1]


def test_eight_devices_give_what_one_gives():
  """After 56 steps of an MLP with dropout, and 45 of a ResNet.

  Batches of 36 and of 100 and splits of 1996, 996 and 497 do not divide by 8.
  """
  flags = os.environ['XLA_FLAGS'] + ' --xla_force_host_platform_device_count=8'
  result = subprocess.run(
    [sys.executable, 'tests/mesh_runs.py', '1', '8'],
    cwd=ROOT,
    env=os.environ | {'XLA_FLAGS': flags, 'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  for name, (own,) in json.loads(result.stdout.splitlines()[-1]).items():
    assert own['distance'] < 1e-5, name
    assert own['errors'][0] == own['errors'][1], name


def test_more_devices_than_there_are_is_an_error(tmp_path):
  config = mnist.get_config('h50')
  config.data.name = 'generated'
  config.mesh.data = 1000
  expected = 'config.mesh.data=1000: there are 1 devices'
  with pytest.raises(errors.UserError, match=expected):
    experiment.run(config, workdir=tmp_path, teachers_dir=tmp_path)
  config.mesh.data = 0
  with pytest.raises(errors.UserError, match='config.mesh.data=0'):
    experiment.run(config, workdir=tmp_path, teachers_dir=tmp_path)


def test_with_one_device_nothing_is_moved():
  tree = {'x': object()}
  assert mesh.shard(tree) is tree
  assert mesh.put_sharded(tree) is tree
  assert mesh.put_replicated(tree) is tree
