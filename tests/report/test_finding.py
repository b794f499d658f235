"""Sentences of reports and terminals on the gain of a teacher."""

import pytest

from kd_jax.report import finding, run_report


def _with_control(record, *, hard=0.95, seeds=2):
  """Makes h50_hard the control of h50; both have `seeds` seeds."""
  record['config']['distill'] = {'ce_weight': 0.0, 'kd_weight': 1.0}
  labels = {'ce_weight': 1.0, 'kd_weight': 0.0}
  record['config']['rows'] = {'h50': {}, 'h50_hard': {'distill': labels}}
  teacher, control = record['students'][:seeds], record['students'][2]
  record['students'] = teacher + [
    control | {'seed': seed, 'test': control['test'] | {'accuracy': hard}}
    for seed in range(seeds)
  ]
  return record


def test_a_run_without_a_control_says_what_it_is(record):
  assert finding.headline(record) == '2 students of one teacher'
  assert finding.gain_lines(record) == finding.gain_section(record) == []


@pytest.mark.parametrize(
  ('hard', 'expected'),
  [
    (0.95, '+1.5 points (n = 2; significant in none of 1 rows)'),
    (0.0, '+96.5 points (n = 2; significantly better in 1 of 1 rows)'),
    (8.0, '-703.5 points (n = 2; significantly worse in 1 of 1 rows)'),
  ],
)
def test_the_headline_is_the_gain_over_labels(record, hard, expected):
  _with_control(record, hard=hard)
  assert finding.headline(record) == f'gain over labels {expected}'
  title = run_report.render(record).partition('\n')[0]
  assert title == f'# {record["name"]}: gain over labels {expected}'


def test_one_seed_has_no_interval(record):
  _with_control(record, seeds=1)
  assert finding.headline(record).endswith('(n = 1; one seed: no test)')
  (_, line, note) = finding.gain_lines(record)
  assert line == '  h50 - h50_hard: +1.00 (one seed: no interval)'
  assert 'the teacher alone see no labels' in note


def test_the_summary_says_what_rows_learn_from_and_gain(record):
  summary = run_report.summary(_with_control(record)).splitlines()
  cells = {line.split('|')[1].strip(): line for line in summary if '|' in line}
  assert ' teacher ' in cells['h50'].split('|')[2]
  assert ' labels ' in cells['h50_hard'].split('|')[2]
  assert finding.LEARNS_FROM in summary
  (gain,) = (line for line in summary if line.startswith('  h50 - h50_hard:'))
  assert gain == (
    '  h50 - h50_hard: +1.50 (95 % interval -4.85 to +7.85, n = 2)'
  )
  assert '## Gain over labels' in run_report.render(record)
