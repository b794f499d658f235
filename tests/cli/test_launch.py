"""The command line: mistakes, and whole runs.

test_kills.py and test_faults.py test runs that are killed or whose files are
damaged.
"""

import json
import os
import pathlib
import re
from unittest import mock

import numpy as np
import pytest

from kd_jax.report import plots
from kd_jax.runtime import environment
from tests import helpers

# Generated data, and networks that train in seconds.
QUICK = (
  '--config.data.name=generated',
  '--config.data.test_examples=256',
  '--config.teacher.model.filters=(2,)',
  '--config.teacher.model.hidden=(32,32)',
  '--config.teacher.model.dropout_rate=0',
  '--config.teacher.model.temperature=1',
  '--config.teacher.train.epochs=5',
  '--config.benchmark.batch_sizes=(1,)',
  '--config.benchmark.budget_s=0.01',
  '--config.benchmark.cold_calls=0',
)


def _launch(*args, env=None):
  """Runs launch.py; returns its exit code, stdout and stderr."""
  result = helpers.run_python('launch.py', *args, env=env)
  return result.returncode, result.stdout, result.stderr


def _launch_here(*args):
  """Runs launch.py in this process; returns what `_launch` returns."""
  result = helpers.launch_here(*args)
  return result.returncode, result.stdout, result.stderr


def _run(workdir, *args, recipe='h300', with_plots=False):
  """Runs a recipe without an error; returns stdout and stderr."""
  write_plots = plots.write if with_plots else lambda *_: {}
  with mock.patch.object(plots, 'write', write_plots):
    code, output, error = _launch_here(
      f'--config=configs/mnist.py:{recipe}',
      *QUICK,
      f'--workdir={workdir}',
      f'--runs_dir={workdir.parent}',
      *args,
    )
  assert code == 0, error
  return output, error


def test_a_network_too_large_for_memory_ends_in_one_line(tmp_path):
  np.save(tmp_path / 'logits.npy', np.zeros((64, 10), np.float32))
  code, _, error = _launch_here(
    '--config=configs/mnist.py:h300',
    *QUICK,
    f'--workdir={tmp_path / "run"}',
    f'--runs_dir={tmp_path}',
    f'--config.teacher.logits={tmp_path / "logits.npy"}',
    '--config.data.train_examples=64',
    '--config.student.hidden=(2000000000,)',
  )
  assert code == 1
  last = error.strip().splitlines()[-1]
  assert last.startswith('error: there is too little memory (')


@pytest.mark.skipif(
  bool(environment.accelerators()), reason='the machine may have a GPU'
)
def test_a_missing_device_ends_in_one_line(tmp_path):
  code, _, error = _launch(
    '--config=configs/mnist.py:h300,smoke',
    f'--runs_dir={tmp_path}',
    env={'JAX_PLATFORMS': 'cuda'},
  )
  assert code == 1
  assert 'Traceback' not in error
  last = error.strip().splitlines()[-1]
  assert last.startswith('error: JAX finds no device to compute on (')
  assert last.endswith('JAX_PLATFORMS is cuda')


def test_a_tilde_in_workdir_means_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'run' / 'students').mkdir(parents=True)
  code, _, error = _launch_here(
    '--config=configs/mnist.py:h300,smoke',
    '--workdir=~/run',
    '--config.data.name=generated',
  )
  assert code == 1
  assert f'error: {tmp_path}/run holds students but no sound' in error


def _record(workdir):
  return json.loads((workdir / 'run.json').read_text())


def _weights(workdir):
  return {
    (student['row'], student['seed']): student['weights']
    for student in _record(workdir)['students']
  }


def test_list_prints_the_recipes_of_each_file_in_columns():
  code, output, _ = _launch_here('--list')
  groups = [group.splitlines() for group in output.split('\n\n')]
  (table1,) = [group for group in groups if 'Table 1' in group[0]]
  assert code == 0
  assert table1[0].startswith('# ')
  names = [line.split()[0] for line in table1[1:]]
  assert {'configs/mnist.py:table1', 'configs/mnist.py:h300_b16'} <= {*names}
  recipe = re.compile(r'configs/mnist.py:\S+ +')
  columns = {m.end() for line in table1[1:] if (m := recipe.match(line))}
  assert len(columns) == 1
  assert max(map(len, output.splitlines())) <= 100


def test_help_describes_every_flag_in_sentences():
  output = helpers.run_python('launch.py', '--help').stdout
  described = re.findall(r'^  --(\w+)(?:=\w+)?$\n((?:    .*\n)+)', output, re.M)
  assert {'config', 'workdir', 'workers', 'list'} <= {
    name for name, _ in described
  }
  for name, text in described:
    sentences = ' '.join(text.split())
    assert sentences[0].isupper() and sentences[-1] == '.', name
  assert 'kd-jax run' in output


@pytest.mark.parametrize(
  'args, message',
  [
    ((), 'there is no --config'),
    (('--config=configs/mnist.py:h31',), "unknown recipe 'h31'; the recipes"),
    (('--config=configs/mnist.py:h300,x=1',), "unknown argument 'x'"),
    (
      ('--config=configs/mnist.py:h300', '--config.optim.rate=1'),
      'there is no field config.optim.rate; the fields of config.optim are: '
      'bias_factor, learning_rate',
    ),
    (
      ('--config=configs/mnist.py:h300', '--config.optim.learning_rate=fast'),
      'config.optim.learning_rate=fast',
    ),
    (
      ('--config=configs/mnist.py:h300', '--config.optim.learning_rate=-1'),
      'config.optim.learning_rate=-1.0: expected a number above 0',
    ),
    (('--config=README.md:h300',), 'README.md is no file of recipes ('),
    (('--config=requirements.txt',), 'expected Python, in a file *.py'),
    (('--config=configs/minst.py:h300',), '(did you mean configs/mnist.py?)'),
    (('--config=configs/mnist.py:h30',), '(did you mean h300?)'),
    (
      ('--config=configs/mnist.py:h300', '--config.optim.learning_rat=1'),
      '(did you mean learning_rate?)',
    ),
    (
      ('--config=configs/mnist.py:h300', '--config.data.name=mnits'),
      '(did you mean mnist?)',
    ),
    (
      ('--config=configs/mnist.py:h300', '--config.distill.method=dkdd'),
      "config.distill.method='dkdd': there is no method 'dkdd' (did you mean "
      'dkd?); expected one of adversarial_features',
    ),
    (
      ('--config=configs/mnist.py:h300', '--config=configs/mnist.py:h50'),
      '--config is given more than once',
    ),
    (('--config=configs/mnist.py:h300', '--wordir=x'), 'wordir'),
    (('--config=configs/mnist.py:h300', 'smoke'), "'smoke' is not a flag"),
    (
      ('configs/mnist.py:h300',),
      "'configs/mnist.py:h300' is not a flag (did you mean "
      '--config=configs/mnist.py:h300?)',
    ),
    (
      ('--config=configs/mnist.py:h300', '--config.data.name=mnits'),
      'mnits',
    ),
    (
      (
        '--config=configs/mnist.py:h300',
        '--config.data.name=generated',
        '--config.data.train_examples=2001',
      ),
      'config.data.train_examples=2001: generated has 2000',
    ),
    (('--config=configs/mnist.py:h300', '--workers=0'), '--workers'),
    (
      (
        '--config=configs/mnist.py:h300',
        '--config.data.name=generated',
        '--config.data.scaling=cifar10',
      ),
      "config.data.scaling='cifar10': expected one of unit, symmetric for "
      'images [28, 28, 1]',
    ),
    (
      (
        '--config=configs/mnist.py:h300',
        '--config.student.kind=tests.breaks_on_import:student',
      ),
      'RuntimeError: half written',
    ),
    (
      (
        '--config=configs/mnist.py:h300',
        '--config.data.name=generated',
        '--config.teacher.logits=~/no_such.npz',
      ),
      f'there is no file {pathlib.Path.home()}/no_such.npz',
    ),
    (
      ('--config=configs/theory.py:lemma1', '--workers=2'),
      'has no students to share out',
    ),
    (
      ('--config=configs/mnist.py:h300', '--workers=2', '--distributed'),
      'leave one of the two out',
    ),
  ],
)
def test_a_mistake_ends_in_one_line_that_names_it(args, message, tmp_path):
  # An error that is not turned into a line is raised here.
  code, _, error = _launch_here(*args, f'--runs_dir={tmp_path}')
  assert code != 0
  assert message in error


@pytest.mark.parametrize('config', [['--config={}'], ['--config', '{}']])
def test_overrides_may_stand_before_the_config(config, tmp_path):
  code, _, error = _launch_here(
    '--config.data.name=generated',
    f'--runs_dir={tmp_path}',
    '--config.data.train_examples=2001',
    *(part.format('configs/mnist.py:h300') for part in config),
  )
  assert code != 0
  assert 'config.data.train_examples=2001: generated has 2000' in error


def test_a_weight_that_is_infinite_is_refused_before_any_work(tmp_path):
  code, _, error = _launch_here(
    '--config=configs/mnist.py:h300',
    '--config.distill.kd_weight=inf',
    f'--runs_dir={tmp_path}',
  )
  assert code != 0
  assert (
    'config.distill.kd_weight=inf: expected a finite number of at least'
    in error
  )


def test_a_mistake_of_a_run_with_workers_ends_in_one_line(tmp_path, capfd):
  code, _, _ = _launch_here(
    '--config=configs/mnist.py:h300',
    '--config.data.name=generated',
    '--config.data.train_examples=2001',
    '--workers=2',
    f'--runs_dir={tmp_path}',
  )
  error = capfd.readouterr().err  # Another process prepares the run.
  assert code != 0
  assert 'config.data.train_examples=2001: generated has 2000' in error
  assert 'Traceback' not in error


# Reports the threads and whether JAX is imported, at the time of the call.
_SPY = """
import os, runpy, sys
from kd_jax.runtime import host_memory
host_memory.keep_freed_memory = lambda: print(
  f'threads: {len(os.listdir("/proc/self/task"))}, jax: {"jax" in sys.modules}'
)
sys.argv = ['launch.py', '--list']
runpy.run_path('launch.py', run_name='__main__')
"""


@pytest.mark.skipif(not os.path.isdir('/proc/self/task'), reason='no /proc')
def test_freed_memory_is_kept_before_threads_start():
  """Later calls have no effect, and a ResNet's step takes a fifth longer."""
  output = helpers.run_python('-c', _SPY).stdout
  assert output.startswith('threads: 1, jax: False')


def test_a_run_reports_resumes_and_adds_seeds(tmp_path):
  workdir = tmp_path / 'run'
  output, error = _run(workdir, '--config.train.epochs=1', with_plots=True)
  assert 'teacher: training it' in error and 'outputs: computed' in error
  assert '97.26' not in output  # The paper's accuracy, on other data.
  for name in ('run.json', 'metrics.jsonl', 'report.md', 'reliability.png'):
    assert (workdir / name).exists()
  record = _record(workdir)
  assert record['status'] == 'complete'
  assert record['environment']['backend'] == 'cpu'
  (student,) = record['students']
  assert 0.3 < student['test']['accuracy'] <= 1
  assert student['parameters'] == 238_510
  first = _weights(workdir)

  # The same command again trains, computes and times nothing.
  _, error = _run(workdir, '--config.train.epochs=1')
  assert 'outputs: read from' in error
  for word in ('training it', 'computed', 'trained in', 'benchmark'):
    assert word not in error
  assert _weights(workdir) == first

  # A second seed is added to the first.
  _, error = _run(workdir, '--config.train.epochs=1', '--config.seeds=2')
  assert 'h300 seed 1' in error and 'h300 seed 0' not in error
  both = _weights(workdir)
  assert both[('h300', 0)] == first[('h300', 0)] != both[('h300', 1)]

  # Another config is refused.
  code, _, error = _launch_here(
    '--config=configs/mnist.py:h300', *QUICK, f'--workdir={workdir}',
    f'--runs_dir={tmp_path}', '--config.optim.learning_rate=0.01',
    '--config.train.epochs=1',
  )  # fmt: skip
  assert code != 0
  assert 'config.optim.learning_rate: 0.01, was 0.001' in error
  assert '--workdir' in error
  assert _weights(workdir) == both


@pytest.fixture(name='logits', scope='module')
def _logits(tmp_path_factory, generated):
  """Returns a file of a teacher's logits, whose decisions are all right."""
  path = tmp_path_factory.mktemp('logits') / 'mine.npz'
  onehot = 5.0 * np.eye(10, dtype=np.float32)
  np.savez(
    path,
    train=onehot[generated.train.labels],
    test=onehot[generated.test.labels[:256]],
  )
  return path


def test_teacher_outputs_can_come_from_a_file(tmp_path, logits):
  workdir = tmp_path / 'run'
  output, error = _run(
    workdir, f'--config.teacher.logits={logits}', '--config.train.epochs=1'
  )
  assert 'h300 seed 0' in error and 'teacher: training' not in error
  record = _record(workdir)
  assert record['teacher']['test']['accuracy'] == 1
  (student,) = record['students']
  assert student['test']['accuracy'] == pytest.approx(
    student['test']['teacher_agreement']
  )
  np.save(tmp_path / 'short.npy', np.zeros((7, 10), np.float32))
  code, _, error = _launch_here(
    '--config=configs/mnist.py:h300', *QUICK,
    f'--workdir={tmp_path / "other"}', f'--runs_dir={tmp_path}',
    f'--config.teacher.logits={tmp_path / "short.npy"}',
  )  # fmt: skip
  assert not (tmp_path / 'other' / 'run.json').exists()
  assert code != 0
  assert 'shape (7, 10); the train split needs (2000, 10)' in error


@pytest.mark.slow
def test_seeds_in_one_program_agree_with_seeds_in_workers(tmp_path, logits):
  accuracies = {}
  for name, flag in (
    ('one_program', '--config.seeds_per_program=2'),
    ('workers', '--workers=2'),
  ):
    workdir = tmp_path / name
    output, _ = _run(
      workdir,
      '--config.seeds=2',
      flag,
      # Without a teacher to train or restore, each process does less.
      f'--config.teacher.logits={logits}',
      '--config.benchmark.enabled=false',
      '--config.train.epochs=1',
      recipe='h50',
    )
    assert f'{workdir}/report.html (or report.md' in output
    students = _record(workdir)['students']
    assert [s['seed'] for s in students] == [0, 1]
    accuracies[name] = [s['test']['accuracy'] for s in students]
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    assert len(lines) == 8
    folders = {p.name for p in (workdir / 'students' / 'h50').glob('[!.]*')}
    assert folders == {'seed-0', 'seed-1'}
  by_workers = accuracies['workers']
  np.testing.assert_allclose(accuracies['one_program'], by_workers, atol=0.02)
  assert by_workers[0] != by_workers[1]
