"""The record of a run that goes on: whose it is, and whether it is sound."""

import json

import pytest

from kd_jax import config as config_lib
from kd_jax.experiments import runner
from kd_jax.runtime import errors, json_records
from tests import helpers

pytestmark = pytest.mark.faults

CONFIG = helpers.tiny_mnist()


def _new_or_stored_record(config, workdir):
  options = runner.RunOptions(workdir, workdir / 'teachers')
  return runner.new_or_stored_record(config, options)


@pytest.fixture(name='workdir')
def _workdir(tmp_path):
  """A run folder with a student, and a benchmark that cost hours."""
  (tmp_path / 'students').mkdir()
  record = _new_or_stored_record(CONFIG, tmp_path / 'new') | {
    'benchmark': {'a': 1}
  }
  json_records.write(tmp_path / 'run.json', record)
  return tmp_path


def _change(workdir, old, new):
  path = workdir / 'run.json'
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new, 1))


def test_a_record_goes_on(workdir):
  """A run that was stopped: its record goes on."""
  assert _new_or_stored_record(CONFIG, workdir)['benchmark'] == {'a': 1}


def test_a_record_of_an_older_version_goes_on(workdir):
  """A record of an older version: the run goes on."""
  record = json.loads((workdir / 'run.json').read_text())
  del record[json_records.CHECKSUM]
  (workdir / 'run.json').write_text(json.dumps(record))
  assert _new_or_stored_record(CONFIG, workdir)['benchmark'] == {'a': 1}


def test_a_damaged_number_is_made_anew_and_the_students_stay(workdir, caplog):
  """A damaged number in run.json: it is made anew, and the students stay.

  Each student has a separate record with a checksum.
  """
  _change(workdir, '"a": 1', '"a": 2')
  record = _new_or_stored_record(CONFIG, workdir)
  assert 'benchmark' not in record
  assert record['config'] == config_lib.recorded(CONFIG)
  assert 'run.json is written anew: its content does not match' in caplog.text


def test_another_config_is_refused_field_by_field(workdir):
  """The folder of another config: it is refused, field by field."""
  other = helpers.tiny_mnist(fields={'train.epochs': 7})
  with pytest.raises(errors.UserError, match='config.train.epochs: 7, was 1'):
    _new_or_stored_record(other, workdir)


def test_a_damaged_config_of_students_is_refused(workdir):
  """A damaged config beside students: it is refused, and nothing is lost."""
  _change(workdir, '"epochs": 1', '"epochs": 3')
  with pytest.raises(errors.UserError, match='no sound run.json .its content'):
    _new_or_stored_record(CONFIG, workdir)


@pytest.mark.parametrize(
  'content', ['[]', '5', 'null', '"text"', '{}', '{"config": []}', '{', '\xff']
)
def test_a_run_json_of_another_shape_is_refused_beside_students(
  workdir, caplog, content
):
  """A run.json of another shape beside students: it is refused."""
  (workdir / 'run.json').write_bytes(content.encode('latin-1'))
  with pytest.raises(errors.UserError, match='students but no sound run.json'):
    _new_or_stored_record(CONFIG, workdir)
  (workdir / 'students').rmdir()
  assert 'benchmark' not in _new_or_stored_record(CONFIG, workdir)
  assert 'run.json is written anew: ' in caplog.text


def test_a_record_of_theory_is_another_run(workdir):
  """The folder of a run of theory: it is refused."""
  theory = {'name': 'a', 'status': 'complete', 'config': {'theory': 'lemma1'}}
  (workdir / 'run.json').write_text(json.dumps(theory))
  with pytest.raises(errors.UserError, match='a run of another config'):
    _new_or_stored_record(CONFIG, workdir)
