"""Runs on a user's data that has changed, or gone away.

Also tests `kd_jax/export/run_datasets.py`.
"""

import json
import shutil

import pytest
from PIL import Image

from kd_jax import data
from kd_jax.export import exporter, measurement
from kd_jax.runtime import errors, files
from tests import helpers
from tests.experiments import insects


@pytest.fixture(name='own_run', scope='module')
def _own_run(tmp_path_factory):
  """The folder of a run of two seeds on a folder of images, beside its data."""
  folder = tmp_path_factory.mktemp('own')
  insects.save_folder(folder / 'insects')
  insects.save_logits(folder, insects.make_logits(insects.make_arrays()))
  _continue(folder)
  return folder


def _continue(folder, runs=None, **fields):
  """Runs the command of `own_run` again; returns the record."""
  own = {
    'teacher.logits': str(folder / 'logits.npz'),
    'train.epochs': 4,
    'seeds': 2,
  }
  config = insects.make_config(str(folder / 'insects'), **own | fields)
  return helpers.run(config, runs or folder)


@pytest.fixture(name='copied_run')
def _copied_run(own_run, tmp_path):
  """A copy of the run's folder, without its data."""
  shutil.copytree(own_run / 'run', tmp_path / 'run')
  return tmp_path


def _edit(path, change):
  """Changes the content of a JSON file."""
  content = json.loads(path.read_text())
  content.pop('checksum', None)
  change(content)
  path.write_text(json.dumps(content))


def test_logits_in_the_order_of_the_files_teach(own_run):
  record = files.read_json(own_run / 'run' / 'run.json')
  for split in ('train', 'test'):
    assert record['teacher'][split]['accuracy'] == 1
  assert record['students'][0]['test']['accuracy'] > 0.9
  assert record['warnings'] == []
  assert '## Warnings' not in (own_run / 'run' / 'report.md').read_text()


def test_a_run_is_not_continued_with_other_data(own_run, copied_run):
  image = own_run / 'insects' / 'test' / 'bee' / '008.png'
  before = image.read_bytes()
  Image.new('L', (6, 6)).save(image)
  message = r'holds a run of other data \(digest .*files of insects have change'
  with pytest.raises(errors.UserError, match=message):
    _continue(own_run, copied_run, seeds=3)
  # Without the digest in run.json, the students tell.
  _edit(copied_run / 'run' / 'run.json', lambda record: record.pop('data'))
  with pytest.raises(errors.UserError, match=message):
    _continue(own_run, copied_run, seeds=3)
  image.write_bytes(before)
  assert len(_continue(own_run, copied_run)['students']) == 2


def test_a_run_of_a_version_that_took_parts_by_position_is_refused(
  own_run, copied_run
):
  files_digest = data.load(str(own_run / 'insects')).files_digest
  _edit(copied_run / 'run' / 'run.json', lambda record: record.pop('data'))
  for path in copied_run.rglob('seed-*/identity.json'):
    _edit(path, lambda identity: identity.update(data_digest=files_digest))
  with pytest.raises(
    errors.UserError, match='older version took parts of inse'
  ):
    _continue(own_run, copied_run)


def test_results_of_another_identity_are_not_gathered(
  own_run, copied_run, caplog
):
  (path,) = copied_run.rglob('seed-0/identity.json')
  _edit(path, lambda identity: identity.update(teacher_outputs='of another'))
  record = _continue(own_run, copied_run, first_seed=1, seeds=1)
  assert [student['seed'] for student in record['students']] == [1]
  assert 'seed-0 is left out: it was trained on other data' in caplog.text


@pytest.fixture(autouse=True)
def _measure_quickly(monkeypatch):
  monkeypatch.setattr(measurement, 'BUDGET_S', 0.01)


def _export(own_run, output):
  return exporter.export(own_run / 'run', output=output)[1]


def test_an_export_takes_its_classes_from_the_run(own_run, tmp_path, caplog):
  train, test = (own_run / 'insects' / s for s in ('train', 'test'))
  whole = _export(own_run, tmp_path / 'whole')
  record = files.read_json(own_run / 'run' / 'run.json')
  expected = record['students'][0]['test']['accuracy']
  assert whole['measured']['loaded']['test']['accuracy'] == expected
  assert whole['data_digest'] == record['data']['digest']
  # Another name in the same place of the order leaves the images the same.
  for split in (train, test):
    (split / 'bee').rename(split / 'bumblebee')
  assert _export(own_run, tmp_path / 'same')['classes'] == list(insects.NAMES)
  # Another order: accuracy on today's data would be of other classes.
  for split in (train, test):
    (split / 'bumblebee').rename(split / 'zebra')
  manifest = _export(own_run, tmp_path / 'renamed')
  assert manifest['classes'] == list(insects.NAMES)
  assert 'test' not in manifest['measured']['loaded']
  assert (
    'its digest is' in caplog.text and 'The classes are those' in caplog.text
  )
  for split in (train, test):
    (split / 'zebra').rename(split / 'bee')


def test_a_run_whose_data_has_gone_away_is_exported(own_run, tmp_path, caplog):
  (own_run / 'insects').rename(own_run / 'elsewhere')
  manifest = _export(own_run, tmp_path / 'gone')
  (own_run / 'elsewhere').rename(own_run / 'insects')
  assert manifest['classes'] == list(insects.NAMES)
  assert manifest['image_shape'] == [6, 6, 1]
  assert manifest['measured']['loaded']['mean_difference'] < 1e-6
  assert 'today it cannot be loaded (unknown data set' in caplog.text


def test_an_old_run_of_changed_data_is_not_exported(own_run, copied_run):
  """Versions that did not record the classes cannot say what they were."""
  run = copied_run / 'run'
  _edit(run / 'run.json', lambda record: record.pop('data'))
  assert exporter.export(run)[1]['classes'] == list(insects.NAMES)
  folder = own_run / 'insects' / 'train' / 'bee'
  (folder / '024.png').rename(folder / '.hidden')
  with pytest.raises(errors.UserError, match='has changed since .*restore'):
    exporter.export(run)
  (folder / '.hidden').rename(folder / '024.png')
