"""What the benchmarks share."""

import json

from benchmarks import harness


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
