"""The report of one run: numbers from its files, and from nothing else."""

import pytest

from kd_jax.report import run_report
from kd_jax.runtime import errors, files, run_records


def test_provenance_names_rows_and_timings_of_other_code(record):
  a, b, c = ({'code': code, 'time': f'at {code}'} for code in 'abc')
  record['environment'] |= a
  assert run_report.provenance(record).endswith('code a; at a.')
  for student, environment in zip(record['students'], (a, b, b), strict=True):
    student['environment'] = environment
  record['benchmark']['environment'] = c
  assert run_report.provenance(record).endswith(
    'code a; at a; code b: h50, h50_hard; code c: timings of at c.'
  )


def test_provenance_gives_the_number_of_students_side_by_side(record):
  assert 'side by side' not in run_report.provenance(record)
  record['students'][1]['environment'] = record['environment'] | {'workers': 4}
  expected = f'{record["environment"]["cores"]} cores, 4 students side by side)'
  assert expected in run_report.provenance(record)


def test_a_report_begins_with_its_rows_seeds_and_minutes(record):
  record['config']['teacher'] = {}
  for student in record['students']:
    student['time']['train_s'] = 100.0
  head, _, _ = run_report.render(record).partition('## Accuracy')
  assert 'Rows: 2. Seeds of a row: 1 or 2. ' in head
  assert 'Trainings, each counted once: 5.0 minutes.' in head


def test_the_minutes_of_the_parts_say_what_they_leave_out(record):
  record['part_seconds'] = {'students': 18.0, 'environment': 108.0}
  text = run_report.render(record)
  assert (
    'Minutes of each part, without commands that were stopped: students 0.3. '
    'The environment was set up once, in 1.8 minutes.'
  ) in text


def test_a_teacher_alone_is_reported_without_empty_tables(record):
  alone = record | {'students': []}
  del alone['benchmark']
  text = run_report.render(alone)
  assert '97.80' in text and 'Trained in 2 s' in text
  assert text.count('\n|---') == 1


@pytest.mark.parametrize(
  'fields, expected',
  [
    ({}, 'on the whole test split.'),
    ({'test_examples': 256}, 'on a part of the test split.'),
    (
      {'holdout_examples': 5000},
      'on 5,000 held-out training images.',
    ),
  ],
)
def test_the_report_names_the_evaluated_images(record, fields, expected):
  record['config']['data'].update(fields)
  assert expected in run_report.render(record)


def test_warnings_come_before_all_numbers(record):
  assert '## Warnings' not in run_report.render(record)
  record['warnings'] = ['the teacher is at chance']
  text = run_report.render(record)
  assert '## Warnings\n\n- the teacher is at chance.\n' in text
  assert text.index('## Warnings') < text.index('## Accuracy')
  assert run_report.summary(record).endswith(
    '\nwarning: the teacher is at chance'
  )


def test_the_summary_fits_a_terminal_and_the_report_has_the_rest(record):
  record['config']['data']['name'] = 'mnist'
  record['warnings'] = ['the teacher has learned nothing ' * 9]
  record['students'] = [
    student | {'row': f'{student["row"]}_of_probabilities'}
    for student in record['students']
  ]
  summary = run_report.summary(record)
  header = summary.partition('\n')[0]
  assert max(map(len, summary.splitlines())) <= 100
  for column in ('row', 'accuracy % (n)', 'paper %', 'difference'):
    assert f' {column} ' in header
  assert 'NLL' not in summary and 'NLL' in run_report.render(record)


def test_an_excerpt_of_the_summary_has_its_first_rows_and_its_last(record):
  record['students'] = [
    record['students'][0] | {'row': f'row_{i}'} for i in range(6)
  ]
  lines = run_report.terminal_excerpt(record).splitlines()
  assert lines[0] == lines[-1] == '```'
  rows = [line.split()[1] for line in lines if line.startswith('| row_')]
  assert rows[0] == 'row_0' and rows[-1] == 'row_5'
  assert len(rows) < 6 and '...' in lines
  summary = run_report.summary(record).splitlines()
  assert set(lines) - {'```', '...'} <= set(summary)


def test_the_summary_leaves_wide_tables_of_theory_to_the_report():
  tables = {
    'narrow': {'columns': ['a', 'b'], 'rows': [['x', 1.0]]},
    'wide': {'columns': ['a' * 60, 'b' * 60], 'rows': [['x', 1.0]]},
  }
  summary = run_report.summary({'results': {'tables': tables}})
  assert '| x   |   1 |' in summary
  assert 'wide:\n\nThis table is wider than a terminal' in summary


def test_a_run_folder_gets_a_report_and_plots(record, tmp_path):
  files.write_json(tmp_path / 'run.json', record)
  log = run_records.MetricsLog(tmp_path / 'metrics.jsonl')
  for epoch in range(3):
    log.append({'row': 'h50', 'seed': 0, 'epoch': epoch, 'eval/accuracy': 0.9})
  text = run_report.write(tmp_path)
  assert (tmp_path / 'report.md').read_text() == text
  for name in ('accuracy_cost',
               'learning_curves', 'reliability'):  # fmt: skip
    content = (tmp_path / f'{name}.png').read_bytes()
    assert content.startswith(b'\x89PNG') and len(content) > 10_000
    assert f'({name}.png)' in text


def test_a_record_at_hand_is_not_read_again(record, tmp_path):
  theory = {
    'name': 'theory-lemma1',
    'command': record['command'],
    'environment': record['environment'],
    'seconds': 1.0,
    'results': {'tables': {}, 'curves': {}},
  }
  text = run_report.write(tmp_path, theory)
  assert text.startswith('# theory-lemma1\n')
  assert (tmp_path / 'report.md').read_text() == text


def test_a_folder_without_a_run_is_an_error(tmp_path):
  with pytest.raises(errors.UserError, match='run.json is missing or damaged'):
    run_report.write(tmp_path)
