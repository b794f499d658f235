"""The JSON files of runs: their shapes and their checksums."""

import json

import hypothesis
import hypothesis.strategies as st
import pytest

from kd_jax.runtime import json_records
from tests import helpers

pytestmark = pytest.mark.faults

RECORD = {'row': 'h50', 'seed': 0, 'test': {'accuracy': 0.75}, 'weights': 'a'}


@pytest.mark.parametrize('value', [[], 5, None, 'text', True, {}])
@pytest.mark.parametrize(
  'shape',
  [json_records.RESULT, json_records.RUN, json_records.OUTPUTS, {'a': 1.0}],
)
def test_json_of_another_shape_is_not_used(tmp_path, caplog, value, shape):
  """A JSON file of another shape: it is named and not used."""
  path = tmp_path / 'a.json'
  path.write_text(json.dumps(value))
  shape = {'a': float} if shape == {'a': 1.0} else shape
  assert json_records.read(path, shape) is None
  assert f'{path} is not used: ' in caplog.text
  json_records.read(path, shape)
  assert caplog.text.count('is not used') == 1  # Workers look many times.


@pytest.mark.parametrize(
  'change, problem',
  [
    ({'seed': '0'}, 'seed is "0", expected a whole number'),
    ({'seed': True}, 'seed is true, expected a whole number'),
    ({'test': {'accuracy': []}}, r'test.accuracy is \[\], expected a number'),
    ({'weights': None}, 'weights is null, expected a text'),
  ],
)
def test_a_mismatch_names_the_field(change, problem):
  """A field of another type: the line names the field."""
  with pytest.raises(AssertionError, match=problem):
    assert not json_records.mismatch(RECORD | change, json_records.RESULT)


def test_a_mismatch_names_the_item_of_a_list():
  """A wrong item of a list: the line names the item."""
  run = {'name': 'a', 'status': 'complete', 'config': {}}
  assert json_records.mismatch(run, json_records.RUN) is None
  run['students'] = [RECORD, {'row': 'h50'}]
  problem = json_records.mismatch(run, json_records.RUN)
  assert problem == 'students[1].seed is missing'


def test_what_is_written_is_read(tmp_path, caplog):
  """A record with special numbers: it is read as it was written."""
  record = RECORD | {'nan': float('inf'), 'tuple': (1, 2), 'names': {1: 'a'}}
  json_records.write(tmp_path / 'a.json', record)
  read = json_records.read(tmp_path / 'a.json', json_records.RESULT)
  assert read == record | {'tuple': [1, 2], 'names': {'1': 'a'}}
  assert not caplog.text


def test_a_flipped_bit_in_a_number_is_damage(tmp_path, caplog):
  """A flipped bit in a number of a record: the record is not used."""
  path = tmp_path / 'a.json'
  json_records.write(path, RECORD)
  text = path.read_text()
  path.write_text(text.replace('0.75', '0.74'))
  assert json_records.read(path, json_records.RESULT) is None
  assert 'does not match its checksum' in caplog.text


def test_every_flipped_byte_is_damage_or_changes_nothing(tmp_path):
  """Each byte of a record flipped: it is not used, or nothing changes."""
  path = tmp_path / 'a.json'
  json_records.write(path, RECORD)
  content = path.read_bytes()
  for position in range(len(content)):
    path.write_bytes(content)
    helpers.flip_byte(path, position)
    found = json_records.read(path, json_records.RESULT)
    # If the name of the checksum is damaged, all fields are still there.
    assert found is None or RECORD.items() <= found.items()


def test_files_of_older_versions_have_no_checksum(tmp_path):
  """A record of an older version, without a checksum: it is read."""
  path = tmp_path / 'a.json'
  path.write_text(json.dumps(RECORD))
  assert json_records.read(path, json_records.RESULT) == RECORD
  assert json_records.read(tmp_path / 'b.json', json_records.RESULT) is None


@pytest.mark.parametrize('section', ['data', 'rows', 'benchmark', 'teacher'])
@pytest.mark.parametrize('value', [None, [1], 'x'])
def test_a_section_of_a_config_is_an_object(section, value):
  """A record's config with another value as a section: it is not used."""
  record = {'name': 'a', 'status': 'complete', 'config': {section: value}}
  problem = json_records.mismatch(record, json_records.RUN)
  assert problem is not None and f'config.{section}' in problem


@pytest.mark.parametrize('field', ['name', 'train_examples', 'test_examples'])
@pytest.mark.parametrize('value', [None, [1], 0.5])
def test_a_config_says_which_data_it_is_of(field, value):
  """A record's config that lacks a field of its data: it is not used."""
  section = {'name': 'mnist', 'train_examples': 0, 'test_examples': 0}
  record = {'name': 'a', 'status': 'complete', 'config': {'data': section}}
  assert json_records.mismatch(record, json_records.RUN) is None
  section[field] = value
  problem = json_records.mismatch(record, json_records.RUN)
  assert problem is not None and f'config.data.{field}' in problem
  del section[field]
  problem = json_records.mismatch(record, json_records.RUN)
  assert problem is not None and field in problem


SHAPES = [
  json_records.RESULT,
  json_records.RUN,
  json_records.OUTPUTS,
  json_records.PRETRAINED,
  json_records.CHECKPOINT,
  json_records.METRICS,
]
_FIELDS = ['row', 'seed', 'test', 'config', 'rows', 'sha256', 'epoch', 'a']
VALUES = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
  lambda values: (
    st.lists(values, max_size=3)
    | st.dictionaries(st.sampled_from(_FIELDS), values, max_size=4)
  ),
  max_leaves=4,
)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(VALUES, st.sampled_from(SHAPES))
def test_any_json_value_is_described_or_has_the_fields(value, shape):
  """Any JSON value as a record: it is read, or one line says why not."""
  found, problem = json_records.check(value, shape)
  if problem is None:
    required = {field for field in shape if not field.endswith('?')}
    assert required <= found.keys()
  else:
    assert problem and '\n' not in problem


@hypothesis.settings(deadline=None)
@hypothesis.given(st.binary(max_size=40))
def test_any_content_of_a_file_is_read_or_described(tmp_path_factory, content):
  """Any content of a JSON file: it is read, or one line says why not."""
  path = tmp_path_factory.getbasetemp() / 'fuzz.json'
  path.write_bytes(content)
  value, problem = json_records.find(path, json_records.RUN)
  assert problem is not None or value is None
