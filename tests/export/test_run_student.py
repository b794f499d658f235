"""The student of a run that is exported: records that are not believed."""

import json
import sys

import jax.numpy as jnp
import pytest

from kd_jax import config as config_lib
from kd_jax.export import exporter, run_datasets, run_student
from kd_jax.models import from_config
from kd_jax.runtime import errors, json_records
from kd_jax.training import training_folder
from kd_jax.training.training_record import TrainingResult
from tests import helpers

pytestmark = pytest.mark.faults

IDENTITY = {'data_digest': 'd'}


def _write(folder, *, entry=None, kind='mlp', row='h50'):
  """Writes a run folder with one student, as somebody else could."""
  config = config_lib.to_json(helpers.tiny_mnist(fields={'student.kind': kind}))
  config['rows'][row] = config['rows'].pop('h50')
  student = {'row': row, 'seed': 0, 'weights': 'w'} | (entry or {})
  record = {
    'name': 'theirs',
    'status': 'complete',
    'config': config,
    'students': [student],
  }
  json_records.write(folder / 'run.json', record)


def _find(folder, *, allow_code=False):
  return run_student.find(folder, None, None, allow_code=allow_code)


def test_a_student_is_found_with_its_folder(tmp_path):
  """The run folder of somebody else: its student is found."""
  _write(tmp_path)
  found = _find(tmp_path)
  assert found.folder == tmp_path / 'students' / 'h50' / 'seed-0'
  assert found.config.student.kind == 'mlp'


def test_a_module_that_run_json_names_is_not_imported(tmp_path, monkeypatch):
  """A run folder that names code: it is not imported without --allow-code."""
  (tmp_path / 'theirs_module.py').write_text('raise SystemExit("run")')
  monkeypatch.syspath_prepend(str(tmp_path))
  _write(tmp_path, kind='theirs_module:student')
  with pytest.raises(errors.UserError, match='import and run.*--allow-code'):
    exporter.export(tmp_path)
  assert 'theirs_module' not in sys.modules
  found = _find(tmp_path, allow_code=True)
  assert found.config.student.kind == 'theirs_module:student'


@pytest.mark.parametrize('name', ['../../h50', '..', '/h50', 'a\\b', 'a\n'])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
  """A row whose name leads out of the folder: it is refused."""
  _write(tmp_path / 'run', row=name)
  with pytest.raises(errors.UserError, match='is no name of a file'):
    exporter.export(tmp_path / 'run')
  _write(tmp_path / 'run', entry={'same_as': name})
  with pytest.raises(errors.UserError, match='is no name of a file'):
    exporter.export(tmp_path / 'run')
  assert [path.name for path in tmp_path.iterdir()] == ['run']


def test_weights_that_run_json_does_not_describe_are_refused(tmp_path):
  """Weights that run.json does not describe: they are refused."""
  _write(tmp_path)
  training_folder.finish(
    TrainingResult(
      {'w': jnp.zeros(1)}, {'row': 'h50', 'seed': 0, 'weights': 'new'}
    ),
    tmp_path / 'students' / 'h50' / 'seed-0',
    IDENTITY,
  )
  with pytest.raises(errors.UserError, match=r'other weights \(new\) than'):
    _find(tmp_path)


@pytest.mark.parametrize(
  'content',
  [
    '[]',
    '5',
    'null',
    '{"students": 5}',
    '{"name": "a", "status": "", "config": {}, "students": [{"row": "a", '
    '"seed": 0}]}',
    '{"name": "a", "status": "", "config": {"rows": {"a": {}}}, "students": '
    '[{"row": "a", "seed": 0}]}',
    '{"name": "a", "status": "", "config": {"rows": {"a": {"b": 1}}}, '
    '"students": [{"row": "a", "seed": 0}]}',
  ],
)
def test_a_run_json_of_another_shape_is_one_line(tmp_path, content):
  """A run.json of another shape, to be exported: one line."""
  (tmp_path / 'run.json').write_text(content)
  with pytest.raises(errors.UserError) as raised:
    _find(tmp_path)
  assert str(tmp_path) in str(raised.value)
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize('value', [False, 5, 'x', None, {}, [True], [[1]]])
def test_a_student_of_another_shape_is_one_line(tmp_path, value):
  """Another type in a student's section of run.json: one line."""
  _write(tmp_path)
  record = json.loads((tmp_path / 'run.json').read_text())
  del record[json_records.CHECKSUM]
  record['config']['student']['hidden'] = value
  record['config']['rows'] = {'h50': {}}
  (tmp_path / 'run.json').write_text(json.dumps(record))
  with pytest.raises(errors.UserError, match='run.json: (config|its config)'):
    _find(tmp_path)


def test_every_value_of_a_run_json_can_be_something_else(tmp_path):
  """Any other value in run.json, to be exported: a student, or one line.

  The command ends with a line, or with a student, but never otherwise.
  """
  _write(tmp_path)
  record = json.loads((tmp_path / 'run.json').read_text())
  del record[json_records.CHECKSUM]
  for key in ('name', 'status', 'config', 'students'):
    for value in ([], {}, 5, 'text', None, [[]], {'rows': []}):
      changed = json.dumps(record | {key: value})
      (tmp_path / 'run.json').write_text(changed)
      try:
        _find(tmp_path)
      except errors.UserError:
        continue


@pytest.mark.parametrize(
  'section, needed',
  [
    ('student', {'kind', 'hidden', 'dtype'}),
    ('data', {'name', 'scaling', 'train_examples', 'test_examples'}),
  ],
)
def test_a_field_that_run_json_lacks_is_named_or_not_needed(
  tmp_path, section, needed
):
  """A field that run.json lacks, to be exported: one line, if it is needed."""
  _write(tmp_path)
  record = json.loads((tmp_path / 'run.json').read_text())
  del record[json_records.CHECKSUM]
  refused = set()
  for field in record['config'][section]:
    fields = {k: v for k, v in record['config'][section].items() if k != field}
    config = record['config'] | {section: fields}
    (tmp_path / 'run.json').write_text(json.dumps(record | {'config': config}))
    try:
      found = _find(tmp_path)
    except errors.UserError as error:
      assert field in str(error)
      refused.add(field)
      continue
    from_config.make_module(found.config.student, num_classes=10)
    run_datasets.load(found.config, None)
  assert refused >= needed


def test_a_section_that_run_json_lacks_is_named_or_not_needed(tmp_path):
  """A section that run.json lacks, to be exported: one line, if needed."""
  _write(tmp_path)
  record = json.loads((tmp_path / 'run.json').read_text())
  del record[json_records.CHECKSUM]
  refused = set()
  for section in record['config']:
    config = {k: v for k, v in record['config'].items() if k != section}
    (tmp_path / 'run.json').write_text(json.dumps(record | {'config': config}))
    try:
      _find(tmp_path)
    except errors.UserError as error:
      assert section.removesuffix('s') in str(error)  # 'no row'
      refused.add(section)
  assert refused >= {'data', 'eval', 'rows', 'student'}
