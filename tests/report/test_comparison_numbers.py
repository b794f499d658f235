"""Numbers about runs that compare methods."""

import pytest

from kd_jax.report import inline_numbers
from kd_jax.runtime import errors
from tests.report import example_records
from tests.report.example_records import quartiles


def _students(row, accuracies, **fields):
  return [
    example_records.student(row, seed, accuracy) | fields
    for seed, accuracy in enumerate(accuracies)
  ]


@pytest.fixture(name='results')
def _results(record):
  record['students'] = [
    *_students('kl', (0.960, 0.961, 0.962)),
    # 1.0, 1.01 and 0.99 points below kl: p = 3.3e-5.
    *_students('labels', (0.950, 0.9509, 0.9521)),
    # 0, 2 and 4 points above: p = 0.23.
    *_students('hint', (0.960, 0.981, 1.002)),
  ]
  ratios = {'kl': 1.0, 'hint': 2.0, 'mutual': 1.5}
  record['benchmark'] |= {
    'steps_against': {
      row: {'ratio': quartiles(ratio)} for row, ratio in ratios.items()
    },
    'network_of': {'kl': 'h50', 'big': 'teacher'},
  }
  grid = {
    'a_10': 0.90, 'a_100': 0.80, 'a_300': 0.70,
    'b_10': 0.60, 'b_100': 0.95, 'c_100': 0.5, 'd_10': 0.1, 'd_100': 0.2,
  }  # fmt: skip
  grid_run = {'students': [s for r in grid for s in _students(r, [grid[r]])]}
  by_class = {'trained_on': [5, 0, 5, 0], 'errors': [1, 20, 3, 40]}
  bias = {'by_class': {'errors': [2, 5, 3, 6]}}
  missing = {
    'teacher': {},
    'students': _students(
      'x', (0.9,), by_class=by_class, bias={'by': {'labels': bias}}
    )
    + _students('packed', (0.9,), packed={'trained_agreement': 0.9996}),
  }
  table = {
    'columns': ['N', 'error', 'error: from', 'error: to'],
    'rows': [['1,000', 0.25, 0.2, 0.3]],
  }
  computed = {'seconds': 90.0, 'results': {'tables': {'One table:': table}}}
  return {
    'run': record,
    'grid': grid_run,
    'missing': missing,
    'computed': computed,
  }


@pytest.mark.parametrize(
  'source, text',
  [
    ("cell('computed', 'One table', '1,000', 'error') | .2f", '0.25'),
    (
      "cell_interval('computed', 'One table', '1,000', 'error')",
      '0.25 (95 % interval 0.20 to 0.30)',
    ),
    ("num_rows('run') | d", '3'),
    ("significant('run', 'kl', -1)", '`labels`'),
    ("significant('run', 'kl', 1)", 'no row'),
    ("significant('run', 'labels', 1)", '`kl`'),
    ("num_significant('run', 'kl', -1) | d", '1'),
    # 2 ± 2 points, t(0.975, 2) = 4.3027; the larger of two p-values is kept.
    (
      "difference('run', 'hint', 'kl')",
      '+2.0 points (95 % interval -3.0 to +7.0, corrected p = 0.23)',
    ),
    (
      "difference('run', 'labels', 'kl')",
      '-1.0 points (95 % interval -1.0 to -1.0, corrected p < 0.01)',
    ),
    # The smaller p-value of two tests is doubled.
    ("corrected_p('run', 'hint', 'kl') | .4f", '0.2254'),
    ("mean_range('run', 'kl', 'labels', digits=2)", '95.10 to 96.10'),
    ("step_times('run', 'mutual')", '1.50'),
    ("step_times('run', 'kl', 'hint', 'mutual')", '1.00 to 2.00'),
    ("network_ratio('run', 'kl', 'big', 'macs') | .1f", '1.0'),
    ("call_ratio('run', 'kl', 'big', 1) | .0f", '40'),
    ("grid_best('grid', 'b') | .1f", '95.0'),
    ("grid_weights('grid', 2)", '`b` and `d`'),
    ("num_grid_weights('grid', 2) | d", '2'),
    ("grid_least('grid')", '`a`'),
    ("num_grid_least('grid') | d", '1'),
    ("grid_largest('grid')", '`b` and `d`'),
    ("on_missing('missing/x')", '60'),
    ("on_missing('missing/x', 'labels')", '11'),
    ("num_changed('missing/packed', 10000) | d", '4'),
  ],
)
def test_an_expression_gives_its_text(results, source, text):
  assert inline_numbers.evaluate(source, results) == text


def test_an_unknown_row_is_named(results):
  with pytest.raises(errors.UserError, match="no rows 'none' and 'kl' to comp"):
    inline_numbers.evaluate("difference('run', 'none', 'kl')", results)
