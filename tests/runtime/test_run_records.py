"""The log of metrics in a run folder."""

import json

from kd_jax.runtime import run_records


def test_metrics_log_drops_and_survives_a_line_cut_short(tmp_path):
  log = run_records.MetricsLog(tmp_path / 'metrics.jsonl')
  assert log.read() == []
  for epoch in range(3):
    log.append({'row': 'a', 'epoch': epoch})
  log.append({'row': 'b', 'epoch': 2})
  with open(log.path, 'a') as file:
    file.write('{"row": "a", "epo')  # A kill cuts the line.
  log.drop(lambda r: r['row'] == 'a' and r['epoch'] >= 1)
  log.append({'row': 'a', 'epoch': 1})
  expected = [('a', 0), ('b', 2), ('a', 1)]
  assert [(r['row'], r['epoch']) for r in log.read()] == expected
  lines = log.path.read_text().splitlines()
  assert len([json.loads(line) for line in lines]) == 3
