"""Numbers in documents: computed from records, or refused.

Also tests `kd_jax/report/number_functions.py`.
"""

import pytest

from kd_jax.report import inline_numbers
from kd_jax.runtime import errors
from tests.report import example_records


@pytest.fixture(name='results')
def _results(record):
  # h50: 96 and 97 %; its control on labels: 95 and 95.5 %.
  record['students'].append(example_records.student('h50_hard', 1, 0.955))
  for student in record['students']:
    student['test_accuracy_by_epoch'] = [
      0.1,
      *[student['test']['accuracy']] * 5,
    ]
  record['results'] = {
    'tables': {'One table:': {'columns': ['N', 'error'], 'rows': [[1, 0.25]]}}
  }
  record['config']['teacher'] = {}
  stored = {'accuracy': {'unit': {'test': {'accuracy': 0.939}}}}
  return {'run': record, 'mnist-table1-as_coded': record, 'stored': stored}


@pytest.mark.parametrize(
  'source, text',
  [
    ("mean('run/h50') | .1f", '96.5'),
    ("mean_sd('run/h50')", '96.50 ± 0.71'),
    ("mean_sd('run/h50', 'test.errors', 0)", '35 ± 7'),
    ("mean_sd('run/teacher')", '97.80'),
    ("sd('run/h50') | .3f", '0.707'),
    ("n('run/h50') | d", '2'),
    ("seed('run/h50', 1) | .1f", '97.0'),
    ("mean('run/h50', 'last_epochs') | .1f", '96.5'),
    ("mean('run/h50', 'test.nll') | .2f", '0.10'),
    # t(0.975, 1) = 12.706 times 0.5, the standard error.
    ("interval('run/h50')", '90.1 to 102.9'),
    # 12.706 * 0.7071 * sqrt(3/2) = 11.004
    ("predicted('run/h50')", '85.5 to 107.5'),
    # The differences are 1.0 and 1.5.
    (
      "gain('run/h50', 'run/h50_hard', digits=2)",
      '+1.25 ± 0.35 (n = 2, 95 % interval -1.93 to +4.43)',
    ),
    ("mean_gain('run/h50', 'run/h50_hard') | +.2f", '+1.25'),
    ("mean('run/h50') - paper('run/h50') | .2f", '0.53'),
    ("paper('run/h50', 'inference_ratio') | .0f", '315'),
    ("mean('run/h50', 'best_epoch') | .1f", '96.5'),
    ("mean('run/h50', 'last_epochs_sd') | .1f", '0.0'),
    ("mean('run/h50', 'test_accuracy_after.fold0') | .1f", '86.5'),
    # Trainings of 2, 3, 2 and 3 s, and a teacher of 2 s.
    ("minutes('run') * 60 | .0f", '12'),
    ("minutes('run', 'run') * 60 | .0f", '24'),
    ("ratio('run/h50_hard', 1) | .0f", '40'),
    ("ratio_quartiles('run/h50', 1, 0)", '40 (20–80)'),
    ("eager_ratio('run/h50', 'second') | .0f", '9'),
    ("call_ms('run/h50', 1) | .0f", '40000'),
    ("work_ratio('run/h50') | .0f", '1'),
    # One row has a figure in the paper, 95.97, and it lies in 85.5 to 107.5.
    ("rows_reproduced('run')", '1 of 1'),
    ("table1_reproduced('as_coded')", '1 of 1'),
    ("table1_cell('as_coded', 'h50')", 'yes'),
    ("table1_cell('as_coded', 'teacher')", 'one seed: no verdict'),
    ("table1_cell('as_coded', 'h50', 'accuracy %')", '96.50 ± 0.71'),
    ("table1_teachers('as_coded') | d", '1'),
    ("teacher_accuracy('stored', 'unit') | .1f", '93.9'),
    ("cell('run', 'One table', 0, 'error') | .2f", '0.25'),
    ("seed('run/h50', 1, 'reliability.count.1') | d", '10'),
    ("max(mean('run/h50'), 99) * 2 | .0f", '198'),
    ("value('run', 'students', 0, 'time', 'train_s') | .1f", '2.0'),
    (
      "quartiles('run', 'benchmark', 'networks', 'h50', 'batches', '1', "
      "'ratio', digits=0)",
      '40 (20–80)',
    ),
  ],
)
def test_an_expression_gives_its_text(results, source, text):
  assert inline_numbers.evaluate(source, results) == text


def test_a_p_value_is_that_of_the_paired_test(results):
  # t = 1.25 / (0.3536 / sqrt(2)) = 5; two-sided p with one degree of freedom.
  source = "p_value('run/h50', 'run/h50_hard') | .4f"
  assert inline_numbers.evaluate(source, results) == '0.1257'


@pytest.mark.parametrize(
  'source, message',
  [
    ("mean('none/h50') | .1f", "unknown record 'none'"),
    ("mean('run/x') | .1f", "unknown network 'run/x'; run has teacher, h50"),
    ("mean('run/h50')", 'a number needs a format'),
    ("mean('run/h50') | s1", 'ValueError'),
    ("mean('run/h50', 'test.x') | .1f", 'KeyError'),
    ("sd('run/teacher') | .1f", 'StatisticsError'),
    ("open('file')", "unknown function 'open'; expected one of value"),
    ('mean.__globals__ | .1f', 'Attribute is not allowed'),
    ('[1][0] | .1f', 'Subscript is not allowed'),
    ('mean( | .1f', 'not an expression'),
  ],
)
def test_a_wrong_expression_is_named(results, source, message):
  with pytest.raises(errors.UserError, match=message):
    inline_numbers.evaluate(source, results)


def test_only_numbers_are_written(results):
  text = (
    "a <!-- number: mean('run/h50') | .1f -->old<!-- end --> % b\n"
    'c <!-- quote: Hinton et al. 2015 -->146<!-- end -->\n'
  )
  filled = inline_numbers.fill(text, results)
  assert filled == text.replace('old', '96.5')
  assert inline_numbers.fill(filled, results) == filled


def test_a_number_without_a_record_is_found():
  text = """Text of 5 seeds, `T = 3.5`, [x](a-1.5.md):
<!-- number: mean('run/h50') | .1f -->96.5<!-- end --> %,
a <!-- quote: the paper -->95.97 %<!-- end --> b
| 97.1 |

```
run --rate=0.1
```
<!-- table: all cifar -->
9.9
<!-- end of table -->
but 97.2 % and 3 ± 1 and 7 % here.
"""
  found = inline_numbers.unsupported(text)
  assert len(found) == 3
  assert '97.2' in found[0] and '± 1' in found[1] and '7 %' in found[2]


def test_a_comment_that_starts_a_line_is_found():
  text = (
    'a\n- <!-- number: x -->1<!-- end -->\nb <!-- quote: y -->2<!-- end -->'
  )
  found = inline_numbers.comments_at_line_starts(text)
  assert found == ['- <!-- number: x -->1<!-- end -->']


def test_the_level_of_an_interval_is_no_measurement():
  text = 'the 95 % prediction\ninterval, the 95 % interval, and 95 % of all'
  assert inline_numbers.unsupported(text) == ['the #, the #, and 95 % of all']


def test_a_version_of_python_is_no_measurement():
  text = 'Python 3.11 to 3.13, Python 3.11 or later, and 3.11 times'
  assert inline_numbers.unsupported(text) == ['#, # or later, and 3.11 times']


def test_a_comment_in_a_table_escapes_its_bar(results):
  source = r"mean('run/h50') \| .1f"
  assert inline_numbers.evaluate(source, results) == '96.5'
  row = '| a <!-- number: {} -->1<!-- end --> | b |'
  wrong, right = row.format('x | d'), row.format(r'x \| d')
  found = inline_numbers.comments_that_end_cells(f'{right}\n{wrong}\n')
  assert found == ['<!-- number: x | d -->']
  assert not inline_numbers.comments_that_end_cells('no <!-- x | y --> row')
