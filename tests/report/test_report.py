"""Reports: numbers from records, and from nothing else."""

import contextlib
import json
import pathlib
import re
import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from kd_jax.report import plots, report
from kd_jax.runtime import environment, errors, files, run_records

ROOT = pathlib.Path(__file__).parents[2]


def _student(row, seed, accuracy):
  return {
    'row': row,
    'seed': seed,
    'test': {
      'accuracy': accuracy, 'errors': round(1000 * (1 - accuracy)),
      'nll': 0.1, 'ece': 0.01, 'brier': 0.05, 'teacher_agreement': 0.98,
      'teacher_kl': 0.02,
    },
    'reliability': {
      'count': [0, 10], 'accuracy': [0, 0.9], 'confidence': [0, 0.8],
    },
    'parameters': 1000,
    'test_accuracy_after': {'fold0': accuracy - 0.1, 'fit': accuracy},
    'time': {'train_s': 2.0 + seed, 'fold_loop_s': 1.0, 'fit_s': 1.0 + seed},
  }  # fmt: skip


def _batch(median):
  spread = {'median': median, 'lower': median / 2, 'upper': median * 2, 'n': 9}
  return {'call_s': spread, 'ratio': spread, 'compile_s': 0.5}


@pytest.fixture(name='record')
def _record():
  return {
    'name': 'mnist-table1-as_coded',
    'status': 'complete',
    'command': 'launch.py --config=configs/mnist.py:table1',
    'config': {
      'data': {'name': 'mnist'},
      'paper': {
        'h50': {'accuracy': 95.97, 'train_s': 30.998, 'inference_ratio': 315.3},
        'teacher': {'accuracy': 97.41},
      }
    },
    'environment': environment.describe(),
    'teacher': _student('teacher', 0, 0.978),
    'students': [
      _student('h50', 0, 0.96), _student('h50', 1, 0.97),
      _student('h50_hard', 0, 0.95),
    ],
    'benchmark': {
      'reference': 'teacher',
      'network_of': {'h50': 'h50', 'h50_hard': 'h50'},
      'networks': {
        name: {
          'parameters': 39_760, 'macs': 39_700, 'batches': {'1': _batch(m)},
        }
        for name, m in (('teacher', 1.0), ('h50', 40.0))
      },
      'cold_calls': {
        'h50': {
          'first_call_ratio': _batch(7.0)['ratio'],
          'second_call_ratio': _batch(9.0)['ratio'],
        }
      },
    },
  }  # fmt: skip


def _cells(table, row):
  (line,) = [ln for ln in table.splitlines() if ln.startswith(f'| {row} ')]
  return [cell.strip() for cell in line.strip('|').split('|')]


def test_accuracy_is_a_mean_with_its_standard_deviation(record):
  cells = _cells(report.accuracy_table(record), 'h50')
  assert cells[1:5] == ['2', '96.50 ± 0.71', '95.97', '+0.53']
  assert cells[5] == '35 ± 7'
  hard = _cells(report.accuracy_table(record), 'h50_hard')
  assert hard[1:5] == ['1', '95.00', '–', '–']
  teacher = _cells(report.accuracy_table(record), 'teacher')
  assert teacher[2:5] == ['97.80', '97.41', '+0.39']


def test_cost_has_ratios_with_their_spread(record):
  cells = _cells(report.cost_table(record), 'h50')
  assert cells == [
    'h50', '2.5 ± 0.7', '1.0 ± 0.0', '31.0', '39,760', '39,700',
    '40.0 (20.0–80.0)', '7.0 (3.5–14.0)',
    '9.0 (4.5–18.0)', '315.3',
  ]  # fmt: skip


def test_what_other_code_trained_or_timed_is_named(record):
  own, *others = ({'code': code, 'time': f'at {code}'} for code in 'abc')
  record['environment'] |= own
  assert report.provenance(record).endswith('code a; at a.')
  for student, surroundings in zip(
    record['students'], (own, others[0], others[0]), strict=True
  ):
    student['environment'] = surroundings
  record['benchmark']['environment'] = others[1]
  assert report.provenance(record).endswith(
    'code a; at a; code b: h50, h50_hard; code c: timings of at c.'
  )


def test_the_paper_stands_beside_accuracy_and_ratio(record):
  table = report.beside_paper_table(record)
  assert 'teacher / student, batch 1 ' in table.splitlines()[0]
  assert _cells(table, 'h50') == [
    'h50', '2', '96.50 ± 0.71', '95.97', '40.0 (20.0–80.0)', '315.3',
  ]  # fmt: skip
  assert _cells(table, 'h50_hard')[3:] == ['–', '40.0 (20.0–80.0)', '–']


def test_the_paper_stands_beside_accuracy_where_nothing_was_timed(record):
  del record['benchmark']
  table = report.beside_paper_table(record)
  assert 'batch' not in table
  assert _cells(table, 'h50') == ['h50', '2', '96.50 ± 0.71', '95.97']


def test_fits_show_what_each_adds(record):
  cells = _cells(report.fits_table(record), 'h50')
  assert cells == ['h50', '86.50 ± 0.71', '96.50 ± 0.71', '95.97']


def test_methods_are_sorted_and_held_against_one_of_them(record):
  record['config']['benchmark'] = {'steps_against': 'h50'}
  record['benchmark']['steps_against'] = {'h50_hard': _batch(1.1)}
  table = report.methods_table(record)
  assert [line.split('|')[1].strip() for line in table.splitlines()[2:]] == [
    'h50', 'h50_hard',
  ]  # fmt: skip
  assert _cells(table, 'h50')[1:4] == ['2', '96.50 ± 0.71', '+0.00']
  hard = _cells(table, 'h50_hard')
  assert hard[3] == '-1.50' and hard[-1] == '1.10 (0.55–2.20)'
  assert 'accuracy_rows' in plots.names(record)
  record['config']['benchmark'] = {'steps_against': ''}
  assert 'accuracy_rows' not in plots.names(record)


def test_a_grid_names_the_best_weight_of_each_method():
  students = [
    _student(f'{name}_{percent}', seed, accuracy + 0.01 * seed)
    for name, percent, accuracy in (
      ('kl', 10, 0.5), ('kl', 100, 0.6), ('kl', 300, 0.6),
      ('dkd', 10, 0.9), ('dkd', 100, 0.8),
    )
    for seed in (0, 1)
  ]  # fmt: skip
  record = {'students': students}
  assert report.best_weights(record) == {'kl': 100, 'dkd': 10}
  cells = _cells(report.grid_table(record), 'dkd')
  assert cells == ['dkd', '**90.50 ± 0.71**', '80.50 ± 0.71', '–']


def test_shipped_outputs_have_a_line_for_each_scaling_and_split():
  metrics = {
    'accuracy': 0.9, 'errors': 1000, 'nll': 0.3, 'ece': 0.01, 'brier': 0.14,
  }  # fmt: skip
  manifest = {'accuracy': {'symmetric': {'test': metrics}}}
  assert _cells(report.shipped_table(manifest), 'symmetric') == [
    'symmetric', 'test', '90.00', '1000', '0.3000', '0.0100', '0.1400',
  ]  # fmt: skip


def test_a_teacher_alone_is_reported_without_empty_tables(record):
  alone = record | {'students': []}
  del alone['benchmark']
  text = report.render(alone)
  assert '97.80' in text and 'Trained in 2 s' in text
  assert text.count('\n|---') == 1


def test_a_run_without_timing_or_teacher_metrics_has_dashes(record):
  del record['benchmark'], record['teacher']['test']
  for student in record['students']:
    del student['test']['teacher_agreement']
  assert _cells(report.accuracy_table(record), 'teacher')[2] == '–'
  assert _cells(report.accuracy_table(record), 'h50')[-2] == '–'
  assert _cells(report.cost_table(record), 'h50')[-2] == '–'


def test_what_was_trained_side_by_side_is_said(record):
  assert 'side by side' not in report.provenance(record)
  record['students'][1]['environment'] = record['environment'] | {'workers': 4}
  cores = record['environment']['cores']
  assert f'{cores} cores, 4 students side by side)' in report.provenance(record)


def test_a_folder_gets_a_report_and_plots(record, tmp_path):
  files.write_json(tmp_path / 'run.json', record)
  log = run_records.MetricsLog(tmp_path / 'metrics.jsonl')
  for epoch in range(3):
    log.append({'row': 'h50', 'seed': 0, 'epoch': epoch, 'eval/accuracy': 0.9})
  text = report.write(tmp_path)
  assert (tmp_path / 'report.md').read_text() == text
  for name in ('accuracy_size', 'accuracy_time', 'accuracy_inference',
               'learning_curves', 'reliability'):  # fmt: skip
    content = (tmp_path / f'{name}.png').read_bytes()
    assert content.startswith(b'\x89PNG') and len(content) > 10_000
    assert f'({name}.png)' in text


def _sizes(record, count):
  """A run of one student on so many training sets, with KD and without."""
  sizes = [10 * 2**i for i in range(count)]
  rows = {
    f'n{size}{suffix}': {'distill': {'kd_weight': kd_weight}}
    for size in sizes
    for suffix, kd_weight in (('', 1.0), ('_no_kd', 0.0))
  }
  record['config'] |= {
    'train': {'batch_size': 10}, 'distill': {'kd_weight': None}, 'rows': rows,
  }  # fmt: skip
  record['students'] = [
    _student(f'n{size}{suffix}', seed, accuracy + seed / 100)
    | {'steps': 4 * size // 10, 'epochs': 4}
    for size in sizes
    for suffix, accuracy in (('', 0.9), ('_no_kd', 0.8))
    for seed in range(2)
  ]
  return record


def test_a_plot_is_drawn_where_there_is_something_to_show(record):
  assert 'accuracy_examples' not in plots.names(record)
  record['benchmark']['reference'] = 'h50'
  assert 'accuracy_inference' not in plots.names(record)
  assert set(plots.names(record | {'students': []})) == {
    'learning_curves', 'reliability',
  }  # fmt: skip


def test_rows_that_differ_in_temperature_alone_are_a_line(record):
  rows = {
    f'units{units}_t{temperature:g}': {
      'student': {'hidden': [units]},
      'distill': {'temperature': temperature, 'kd_weight': 1.0},
    }
    for units in (30, 300)
    for temperature in (8.0, 1.0, 20.0, 4.0)
  }
  rows['hard'] = {
    'student': {'hidden': [300]},
    'distill': {'temperature': 20.0, 'kd_weight': 0.0},
  }
  record['config'] |= {
    'rows': rows,
    'distill': {'temperature': None, 'kd_weight': None, 'ce_weight': 1.0},
  }
  record['students'] = [
    _student(row, 0, 0.9 + i / 100) for i, row in enumerate(rows)
  ]
  lines = plots._of_temperature(record)
  assert lines == {
    'units30_t': [(1, [91]), (4, [93]), (8, [90]), (20, [92])],
    'units300_t': [(1, [95]), (4, [97]), (8, [94]), (20, [96])],
  }
  assert 'accuracy_temperature' in plots.names(record)


def test_a_few_training_sets_are_no_curve(record):
  assert 'accuracy_examples' not in plots.names(_sizes(record, 3))
  assert 'accuracy_examples' in plots.names(_sizes(record, 4))


def test_accuracy_against_examples_has_a_line_with_a_teacher_and_one_without(
  record,
):
  axes = Figure().add_subplot()
  plots.accuracy_examples(axes, _sizes(record, 2), [])
  lines = {
    container.get_label(): container.lines[0].get_xydata().tolist()
    for container in axes.containers
  }
  assert lines == {
    'with KD': [[10, pytest.approx(90.5)], [20, pytest.approx(90.5)]],
    'labels alone': [[10, pytest.approx(80.5)], [20, pytest.approx(80.5)]],
  }


def _cifar(record):
  record['config'] |= {
    'data': {'name': 'cifar10'},
    'teacher': {'model': {'block': 'bottleneck'}},
    'student': {'kind': 'resnet', 'blocks': None, 'min_blocks': 1},
    'rows': {
      'h50': {'student': {'blocks': [1, 0]}},
      'h50_hard': {'student': {'blocks': [1, 1]}},
    },
  }
  for i, student in enumerate(record['students']):
    student['test_accuracy_by_epoch'] = [0.1] + [0.8 + 0.01 * i] * 5
  return record


def test_the_table_of_cifar_runs_has_the_last_epochs_and_the_paper(record):
  table = report.cifar_table({'cifar-a': _cifar(record)})
  cells = table.splitlines()[2].strip('|').split('|')
  assert [cell.strip() for cell in cells] == [
    'a', 'h50', '2', '96.50 ± 0.71', '80.50 ± 0.53', '96.0', '+0.5', '2 ± 1',
    '40.0 (20.0–80.0)', '–', '315.3',
  ]  # fmt: skip
  del record['benchmark']
  assert '| – |' in report.cifar_table({'cifar-a': record}).replace('  ', '')
  other = record | {'config': {'data': {'name': 'mnist'}}}
  assert len(report.cifar_table({'b': other}).splitlines()) == 2


def test_a_run_that_timed_nothing_has_the_ratios_of_its_networks(
  record, tmp_path, monkeypatch
):
  timed = _cifar(record)
  untimed = json.loads(json.dumps(timed))
  del untimed['benchmark']
  untimed['config']['rows']['h50_hard']['student']['blocks'] = [2, 2]
  own_figure, drawn = plots._figure, []

  @contextlib.contextmanager
  def figure(path):
    with own_figure(path) as axes:
      yield axes
      drawn.extend(
        (own.get_label(), own.lines[0].get_xydata().round(2).tolist())
        for own in axes.containers
      )

  monkeypatch.setattr(plots, '_figure', figure)
  plots.write_cifar(tmp_path, {'cifar-cpu': timed, 'cifar-gpu': untimed})
  # A stage of no blocks has one: both rows are one network, the other is none.
  assert drawn == [
    ('cpu', [[40, 96.5], [40, 95]]),
    ('gpu', [[40, 96.5]]),
  ]


def test_documents_beside_the_results_are_filled_and_reports_are_not(
  record, tmp_path
):
  results = tmp_path / 'results'
  files.write_json(results / 'mnist-table1-as_coded.json', _cifar(record))
  (tmp_path / 'README.md').write_text(README)
  (results / 'table2.md').write_text(
    README.replace('mnist-table1-as_coded accuracy', 'all cifar')
  )
  report.publish(results, tmp_path / 'README.md')
  text = (results / 'table2.md').read_text()
  assert report.cifar_table({'mnist-table1-as_coded': record}) in text
  assert '## Latency' in (results / 'mnist-table1-as_coded.md').read_text()
  assert (results / 'table2.png').read_bytes().startswith(b'\x89PNG')


def test_no_run_is_an_error(tmp_path):
  with pytest.raises(errors.UserError, match='no sound run.json'):
    report.write(tmp_path)


README = """# Title
<!-- table: mnist-table1-as_coded accuracy -->
old
<!-- end of table -->
after
"""


def test_results_fill_the_readme_and_only_its_tables(record, tmp_path):
  results, readme = tmp_path / 'results', tmp_path / 'README.md'
  files.write_json(results / 'mnist-table1-as_coded.json', record)
  readme.write_text(README)
  report.publish(results, readme)
  text = readme.read_text()
  assert text.startswith('# Title\n<!-- table: mnist-table1-as_coded accuracy')
  assert text.endswith('<!-- end of table -->\nafter\n')
  assert report.accuracy_table(record) in text
  assert 'launch.py --config=configs/mnist.py:table1' in text
  assert 'old' not in text
  assert (results / 'mnist-table1-as_coded.md').exists()
  report.publish(results, readme)
  assert readme.read_text() == text


def test_without_a_teacher_network_there_are_no_ratios(record):
  record['benchmark']['reference'] = 'h50'
  cells = _cells(report.cost_table(record), 'h50')
  assert cells[4:] == ['39,760', '39,700', '–', '–', '–', '315.3']


def test_a_table_over_all_runs(record):
  record['config']['teacher'] = {'model': {'dropout_rate': 0.5}, 'seed': 3}
  record['students'].append(_student('h300', 0, 0.971))
  other = record | {'students': [_student('h50', 0, 0.9)]}
  text = README.replace('mnist-table1-as_coded accuracy', 'all teachers')
  filled = report.fill_tables(text, {'a-run': record, 'without': other})
  assert _cells(filled, 'a-run') == ['a-run', '0.5', '3', '97.80', '97.10']
  assert 'without' not in filled


def test_the_command_line_adds_a_run_and_writes_the_tables(record, tmp_path):
  run_dir, results = tmp_path / 'runs' / 'my-run', tmp_path / 'results'
  files.write_json(run_dir / 'run.json', record)
  (tmp_path / 'README.md').write_text(
    README.replace('mnist-table1-as_coded', 'my-run')
  )
  command = [sys.executable, '-m', 'kd_jax.report', str(results)]
  subprocess.run([*command, f'--add={run_dir}'], cwd=ROOT, check=True)
  assert json.loads((results / 'my-run.json').read_text()) == record
  assert report.accuracy_table(record) in (tmp_path / 'README.md').read_text()
  record['status'] = 'running'
  files.write_json(run_dir / 'run.json', record)
  refused = subprocess.run(
    [*command, f'--add={run_dir}'], cwd=ROOT, capture_output=True, text=True
  )
  assert refused.returncode != 0
  assert 'holds no complete run' in refused.stdout + refused.stderr


@pytest.mark.parametrize('marker', ['none accuracy', 'mnist-table1-as_coded x'])
def test_a_table_that_is_not_there_is_an_error(record, marker):
  text = README.replace('mnist-table1-as_coded accuracy', marker)
  with pytest.raises(errors.UserError, match='there is no table'):
    report.fill_tables(text, {record['name']: record})


def test_the_readme_is_what_the_results_say():
  """Tables are generated: by hand, or stale, they would differ."""
  results = report.load_results(ROOT)
  for path in report.documents(ROOT / 'results', ROOT / 'README.md', results):
    text = path.read_text(encoding='utf-8')
    assert '<!-- table: ' in text
    assert report.fill_tables(text, results) == text


def test_no_record_names_a_path_of_the_machine_it_was_made_on():
  for name, record in report.load_results(ROOT).items():
    words = re.split('[ =:]', record.get('command', ''))
    assert not [word for word in words if word.startswith('/')], name


@pytest.mark.parametrize(
  'held_out, said',
  [
    (0, 'on the whole test split.'),
    (5000, 'on 5,000 held-out training images.'),
  ],
)
def test_what_networks_were_evaluated_on_is_said(record, held_out, said):
  record['config']['data']['holdout_examples'] = held_out
  assert said in report.render(record)
