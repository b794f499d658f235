"""Images on disk: the same order, and the same results.

Also tests `kd_jax/data/images_on_disk.py`.
"""

import functools

import pytest

from kd_jax.data.user_data import decoded_files
from kd_jax.export import exporter
from kd_jax.runtime import errors, run_records
from kd_jax.training import checkpoint, pace, train, training_folder
from tests import helpers, large_toy
from tests.experiments import insects


def _config(memory_gib, fields):
  config = helpers.tiny_mnist()
  config.data.update(name=large_toy.NAME, memory_gib=memory_gib)
  config.teacher.module = 'tests.user_networks:linear_teacher'
  config.train.update(folds=2, batch_size=32)
  config.student.dropout_rate = 0.1
  config.update_from_flattened_dict(fields)
  return config


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


def _run(folder, data_dir, memory_gib, **fields):
  """Returns a run's student; with memory_gib=0 the images lie on disk."""
  record = helpers.run(
    _config(memory_gib, fields),
    folder,
    f'run-{memory_gib}',
    teachers=folder / f'teachers-{memory_gib}',
    data_dir=data_dir,
  )
  return record['students'][0]


@pytest.fixture(name='plain', scope='module')
def _plain(tmp_path_factory, data_dir):
  """Returns a function: memory_gib -> the student of a run without options."""
  folder = tmp_path_factory.mktemp('plain')
  return functools.cache(lambda gib: _run(folder, data_dir, gib))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
  'fields',
  [
    pytest.param({}, marks=SLOW),
    pytest.param(
      {'train.drop_remainder': True, 'train.holdout_fraction': 0.1}, marks=SLOW
    ),
    pytest.param(
      {'train.subset': 'first10', 'data.train_examples': 250}, marks=SLOW
    ),
    {'train.augmentation': 'jitter', 'teacher.live': True},
    pytest.param(
      {
        'train.augmentation': 'jitter',
        'distill.ce_weight': 1.0,
        'distill.kd_weight': 0.0,
      },
      marks=SLOW,
    ),
  ],
  ids=['plain', 'held_out', 'subset', 'augmented', 'labels'],
)
def test_students_of_images_on_disk_equal_those_of_images_in_memory(
  tmp_path, data_dir, plain, fields
):
  run = (
    functools.partial(_run, tmp_path, data_dir, **fields) if fields else plain
  )
  memory, disk = map(run, (4.0, 0.0))
  assert disk['weights'] == memory['weights']
  assert disk['test'] == memory['test']
  assert disk['by_class'] == memory['by_class']


def test_augmented_images_on_disk_have_a_live_teacher(tmp_path, data_dir):
  disk = _run(tmp_path, data_dir, 0.0, **{'train.augmentation': 'jitter'})
  live = _run(
    tmp_path,
    data_dir,
    4.0,
    **{'train.augmentation': 'jitter', 'teacher.live': True},
  )
  assert disk['weights'] == live['weights']


def test_a_transfer_set_instead_of_images_on_disk_is_refused(
  tmp_path, data_dir
):
  with pytest.raises(
    errors.UserError, match='stay on disk and cannot be replaced'
  ):
    _run(tmp_path, data_dir, 0.0, **{'train.transfer_set': 'noise'})


@pytest.mark.parametrize(
  'memory_gib, epochs_saved',
  [
    (0.0, True),
    pytest.param(4.0, True, marks=SLOW),
    pytest.param(4.0, False, marks=SLOW),
  ],
  ids=['disk', 'memory', 'saves_are_slow'],
)
def test_a_run_stopped_within_an_epoch_resumes_within_it(
  tmp_path, data_dir, plain, memory_gib, epochs_saved, monkeypatch, caplog
):
  whole = plain(memory_gib)
  save, saved = training_folder.save_mid_epoch, []

  def stop(folder, position):
    save(folder, position)
    saved.append((position.epoch, position.step_in_epoch))
    if (position.epoch, position.step_in_epoch) == (1, 2):
      raise KeyboardInterrupt

  monkeypatch.setattr(train, 'MID_EPOCH_EVERY_S', 0.0)
  monkeypatch.setattr(pace, 'CALL_S', 0.0)  # One step a call.
  monkeypatch.setattr(training_folder, 'save_mid_epoch', stop)
  if not epochs_saved:  # As if a save took longer than an epoch.
    monkeypatch.setattr(checkpoint.Checkpoints, 'is_due', lambda self: False)
  with pytest.raises(KeyboardInterrupt):
    _run(tmp_path / 'stopped', data_dir, memory_gib)
  monkeypatch.setattr(training_folder, 'save_mid_epoch', save)
  epoch, step = saved[-1]
  # With several processes, Orbax needs the checkpoint's number in 32 bits.
  (number,) = (tmp_path / 'stopped').rglob('within_epoch/[0-9]*')
  assert step < int(number.name) < 100
  with caplog.at_level('INFO'):
    stopped = _run(tmp_path / 'stopped', data_dir, memory_gib)
  assert f'resumed after step {step} of epoch {epoch}' in caplog.text
  assert stopped['weights'] == whole['weights']
  assert stopped['test'] == whole['test']
  assert not list((tmp_path / 'stopped').rglob('within_epoch'))
  (log,) = (tmp_path / 'stopped').glob('*/metrics.jsonl')
  lines = run_records.MetricsLog(log).read()
  assert [line['epoch'] for line in lines] == [0, 1, 2]


def test_a_folder_that_stays_on_disk_gives_the_results_of_memory(
  tmp_path, monkeypatch
):
  """Both splits stay on disk; predictions, errors and the export read them."""
  monkeypatch.setattr(decoded_files, 'LEAST_BYTES', 0)
  name = insects.save_folder(tmp_path / 'insects')
  logits = insects.save_logits(
    tmp_path, insects.make_logits(insects.make_arrays())
  )
  students = []
  for memory_gib in (4.0, 0.0):
    fields = {'data.memory_gib': memory_gib, 'eval.attacked_examples': 8}
    config = insects.make_config(name, **logits, **fields)
    run = f'run-{memory_gib}'
    record = helpers.run(config, tmp_path, run, data_dir=tmp_path / 'data')
    students.append(record['students'][0])
    with helpers.timed_briefly():
      _, manifest = exporter.export(tmp_path / run, data_dir=tmp_path / 'data')
    students[-1]['exported'] = manifest['measured']['loaded']['test']
  memory, disk = students
  for key in ('weights', 'test', 'by_class', 'robust', 'exported'):
    assert disk[key] == memory[key], key
