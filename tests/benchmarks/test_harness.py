"""The options, processes and records that benchmarks share."""

import json

import pytest
from packaging.requirements import Requirement

from benchmarks import harness
from tests import helpers


def test_a_record_lies_in_the_folder_of_its_machine(tmp_path, monkeypatch):
  described = {'instructions': 'AVX-512, bfloat16', 'code': 'a'}
  monkeypatch.setattr(harness, 'describe_environment', lambda peers: described)
  monkeypatch.setattr(harness, 'on_gpu', lambda: False)
  monkeypatch.setattr(
    harness.sys, 'argv', ['serving.py', '--rounds=2', f'--out_dir={tmp_path}']
  )
  harness.write_record(tmp_path, 'serving', latency={'h300': 1.0})
  path = tmp_path / 'bench' / 'avx512' / 'bench-avx512-serving.json'
  record = json.loads(path.read_text())
  assert record == {
    'name': 'bench-avx512-serving',
    'command': 'benchmarks/serving.py --rounds=2',
    'environment': described,
    'latency': {'h300': 1.0},
  }


def test_the_version_of_a_peer_that_is_not_installed_is_none():
  versions = harness.describe_environment(['numpy', 'no_such_toolkit'])['peers']
  assert versions['no_such_toolkit'] is None
  assert versions['numpy']


def test_systems_are_picked_in_their_order_and_with_the_first():
  systems = {'ours': 1, 'torch': 2, 'keras': 3}
  assert harness.select_systems(systems, ()) == systems
  assert [*harness.select_systems(systems, ['keras'])] == ['ours', 'keras']
  picked = harness.select_systems(systems, ['keras', 'torch', 'ours'])
  assert [*picked] == ['ours', 'torch', 'keras']
  with pytest.raises(SystemExit, match='unknown: jax; known: ours, torch'):
    harness.select_systems(systems, ['jax'])


@pytest.mark.parametrize(
  'script',
  ['inference', 'loading', 'resnet_training', 'serving', 'student_training'],
)
def test_every_script_that_compares_systems_lists_them(script):
  shown = helpers.run_python(f'benchmarks/{script}.py', '--help').stdout
  assert '--systems [SYSTEM ...]' in shown


def test_the_peers_are_pinned():
  lines = (helpers.ROOT / 'benchmarks/requirements.txt').read_text().split('\n')
  pins = [Requirement(line) for line in lines if line and line[0] not in '#-']
  assert {pin.name for pin in pins} >= {'torch', 'torchvision', 'torchdistill'}
  for pin in pins:
    assert {bound.operator for bound in pin.specifier} <= {'==', '!='}, pin
