"""The command line of reports: mistakes, and records that are added.

Also tests `kd_jax/report/__main__.py`.
"""

import copy
import json

import hypothesis
import hypothesis.strategies as st
import pytest

from kd_jax.report import publish, run_report
from kd_jax.runtime import errors, files, json_records
from tests import helpers


def _report(*args):
  result = helpers.run_python('-m', 'kd_jax.report', *args)
  return result.returncode, result.stderr


def test_a_wrong_folder_is_one_line(tmp_path):
  code, error = _report(tmp_path)
  assert code == 1
  assert error.startswith(f'error: {tmp_path} holds no run.json, and is no')
  assert error.count('\n') == 1


@pytest.mark.parametrize('name', ['docs', 'results', 'missing'])
def test_a_folder_without_records_gets_no_reports(tmp_path, name):
  """Beside a folder results/, every folder would get its reports."""
  (tmp_path / 'docs').mkdir()
  (tmp_path / 'docs' / 'a.json').write_text('{}')
  (tmp_path / 'results').mkdir()
  with pytest.raises(errors.UserError, match='expected RUN_DIR or results/'):
    publish.check_folder(tmp_path / name, is_empty_allowed=False)
  publish.check_folder(tmp_path / 'results', is_empty_allowed=True)


def test_a_run_is_not_added_to_a_run(record, tmp_path):
  json_records.write(tmp_path / 'run.json', record)
  code, error = _report(tmp_path, f'--add={tmp_path}')
  assert code == 1
  assert f'error: --add={tmp_path}: {tmp_path} is the folder of a run' in error


@pytest.mark.faults
@pytest.mark.parametrize('value', [[], {}, 5, 'text', None])
def test_any_value_of_a_record_can_be_something_else(record, tmp_path, value):
  """Any other value in a record: the report is written, or one line.

  A report ends with one line, or is written, but never otherwise.
  """
  for key in record:
    path = tmp_path / 'run.json'
    path.write_text(json.dumps(record | {key: value}))
    try:
      with run_report.explain_missing_fields(path):
        run_report.render(run_report.read(tmp_path))
    except errors.UserError as error:
      assert str(path) in str(error)


def test_a_damaged_number_is_not_reported(record, tmp_path):
  json_records.write(tmp_path / 'run.json', record)
  path = tmp_path / 'run.json'
  path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
  with pytest.raises(errors.UserError, match='does not match its checksum'):
    run_report.write(tmp_path)


@pytest.mark.faults
def test_a_call_that_took_no_time_is_one_line(record, tmp_path):
  """A record of a call that took no time: one line instead of a report."""
  batches = record['benchmark']['networks']['h50']['batches']
  batches['1']['call_s']['median'] = 0
  files.write_json(tmp_path / 'run.json', record)
  with pytest.raises(errors.UserError, match='run.json.*ZeroDivisionError'):
    run_report.write(tmp_path)


def _paths(value, path=()):
  """Yields the path of every value within a JSON value."""
  items = value.items() if isinstance(value, dict) else ()
  if isinstance(value, list):
    items = enumerate(value)
  for key, item in items:
    yield (*path, key)
    yield from _paths(item, (*path, key))


@pytest.mark.faults
@hypothesis.settings(
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
  deadline=None,
)
@hypothesis.given(data=st.data())
def test_any_change_within_a_record_is_a_report_or_a_line(
  record, tmp_path, data
):
  """Any change within a record: the report is written, or one line."""
  changed = copy.deepcopy(record)
  *way, last = data.draw(st.sampled_from(list(_paths(changed))))
  place = changed
  for key in way:
    place = place[key]
  values = st.sampled_from([None, 0, 5, -1.5, 1e308, 'x', [], {}, [[]]])
  place[last] = data.draw(values)
  path = tmp_path / 'run.json'
  path.write_text(json.dumps(changed))
  try:
    with run_report.explain_missing_fields(path):
      run_report.render(run_report.read(tmp_path))
  except errors.UserError as error:
    assert str(path) in str(error)
