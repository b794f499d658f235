"""The log of metrics in a run folder."""

import json

import pytest

from kd_jax.runtime import run_records


def test_metrics_log_drops_and_survives_a_line_cut_short(tmp_path):
  log = run_records.MetricsLog(tmp_path / 'metrics.jsonl')
  assert log.read() == []
  for epoch in range(3):
    log.append({'row': 'a', 'seed': 0, 'epoch': epoch})
  log.append({'row': 'b', 'seed': 0, 'epoch': 2})
  log.append({'row': 'a', 'seed': 1, 'epoch': 2})
  with open(log.path, 'a') as file:
    file.write('{"row": "a", "epo')  # A kill cuts the line.
  log.drop_epochs('a', (0,), 1)
  log.append({'row': 'a', 'seed': 0, 'epoch': 1})
  expected = [('a', 0, 0), ('b', 0, 2), ('a', 1, 2), ('a', 0, 1)]
  found = [(r['row'], r['seed'], r['epoch']) for r in log.read()]
  assert found == expected
  lines = log.path.read_text().splitlines()
  assert len([json.loads(line) for line in lines]) == 4


def _log(folder, epochs=3):
  log = run_records.MetricsLog(folder / 'metrics.jsonl')
  for epoch in range(epochs):
    log.append({'row': 'a', 'seed': 0, 'epoch': epoch, 'eval/accuracy': 0.5})
  return log


@pytest.mark.faults
def test_a_flipped_byte_costs_its_line_alone_and_is_named(tmp_path, caplog):
  """A flipped byte in the log: its line alone is left out, and named."""
  log = _log(tmp_path)
  content = log.path.read_bytes()
  second = content.index(b'\n') + 1
  # Where the name of the checksum is damaged, the fields before it are sound.
  checksum = content.index(b'"checksum"', second)
  for position in range(second, checksum):
    for bit in (1, 4, 128):
      damaged = bytearray(content)
      damaged[position] ^= bit
      log.path.write_bytes(bytes(damaged))
      found = [record['epoch'] for record in log.read()]
      assert found == [0, 2], bytes(damaged)
      assert not log.holds_epochs('a', (0,), 3)
      assert log.holds_epochs('a', (0,), 1)
      assert f'{log.path}:2 is left out' in caplog.text
      caplog.clear()


@pytest.mark.faults
def test_a_line_after_one_that_was_cut_is_kept(tmp_path):
  """A line of the log cut by a kill: the next line is kept."""
  log = _log(tmp_path)
  log.path.write_bytes(log.path.read_bytes()[:-5])
  log.append({'row': 'a', 'seed': 1, 'epoch': 0})
  assert [record['epoch'] for record in log.read()] == [0, 1, 0]
  assert not log.holds_epochs('a', (0,), 3)
  assert log.holds_epochs('a', (0,), 2) and log.holds_epochs('a', (1,), 1)


@pytest.mark.faults
def test_lines_without_a_checksum_are_left_out_by_name(tmp_path, caplog):
  """Lines of a log without a checksum: they are named and left out."""
  log = run_records.MetricsLog(tmp_path / 'metrics.jsonl')
  log.path.write_text(5 * '{"row": "a", "seed": 0, "epoch": 0}\n' + '[1]\n')
  log.append({'row': 'b', 'seed': 0, 'epoch': 0})
  assert [record['row'] for record in log.read()] == ['b']
  assert caplog.text.count('has no checksum') == 3
  assert 'metrics.jsonl: 3 other lines are left out' in caplog.text
