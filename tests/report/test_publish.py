"""Publishing results: the reports, the documents' tables, the command line."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from kd_jax.report import (
  cross_run_tables,
  inline_numbers,
  publish,
  results_folder,
  tables,
  text_blocks,
)
from kd_jax.runtime import errors, files
from tests.report import example_records

ROOT = pathlib.Path(__file__).parents[2]
# Pages in whose prose no measured number is typed by hand.
COMPUTED_PAGES = (
  'results/README.md',
  'results/methods.md',
  'results/speed.md',
  'results/table1.md',
  'results/table2.md',
  'results/theory.md',
)
README = """# Title
<!-- table: mnist-table1-as_coded accuracy -->
old
<!-- end of table -->
after
"""


def test_pages_beside_the_results_are_filled_and_reports_are_not(
  record, tmp_path
):
  results = tmp_path / 'results'
  example_records.as_cifar_run(record)
  files.write_json(
    results_folder.path(results, 'mnist-table1-as_coded'), record
  )
  (tmp_path / 'README.md').write_text(README)
  (results / 'table2.md').write_text(
    README.replace('mnist-table1-as_coded accuracy', 'all cifar')
  )
  publish.publish(results, tmp_path / 'README.md')
  text = (results / 'table2.md').read_text()
  table = cross_run_tables.cifar_table({'mnist-table1-as_coded': record})
  assert table in text
  assert (
    '## Latency'
    in (results / 'mnist/table1/mnist-table1-as_coded.md').read_text()
  )
  assert (results / 'table2.png').read_bytes().startswith(b'\x89PNG')


def test_results_fill_the_readme_and_only_its_tables(record, tmp_path):
  results, readme = tmp_path / 'results', tmp_path / 'README.md'
  files.write_json(
    results_folder.path(results, 'mnist-table1-as_coded'), record
  )
  readme.write_text(README)
  publish.publish(results, readme)
  text = readme.read_text()
  assert text.startswith('# Title\n<!-- table: mnist-table1-as_coded accuracy')
  assert text.endswith('<!-- end of table -->\nafter\n')
  assert tables.accuracy_table(record) in text
  assert 'launch.py --config=configs/mnist.py:table1' in text
  assert 'old' not in text
  assert (results / 'mnist/table1/mnist-table1-as_coded.md').exists()
  publish.publish(results, readme)
  assert readme.read_text() == text


def test_a_page_in_docs_is_filled_and_gets_no_marks(record, tmp_path):
  results, page = tmp_path / 'results', tmp_path / 'docs/how-to/page.md'
  files.write_json(
    results_folder.path(results, 'mnist-table1-as_coded'), record
  )
  files.write_text(tmp_path / 'README.md', '# Title\n')
  files.write_text(page, README)
  silent = tmp_path / 'docs/silent.md'
  files.write_text(silent, 'It explains `<!-- table: NAME KIND -->`.\n')
  publish.publish(results, tmp_path / 'README.md', {})
  text = page.read_text()
  assert tables.accuracy_table(record) in text
  assert text.endswith('<!-- end of table -->\nafter\n')
  found = publish.documents(results, tmp_path / 'README.md', {})
  assert silent not in found


def test_a_document_can_ask_for_a_table_over_all_runs(record):
  record['config']['teacher'] = {'model': {'dropout_rate': 0.5}, 'seed': 3}
  record['students'].append(example_records.student('h300', 0, 0.971))
  other = record | {'students': [example_records.student('h50', 0, 0.9)]}
  text = README.replace('mnist-table1-as_coded accuracy', 'all teachers')
  filled = publish.fill_tables(text, {'a-run': record, 'without': other})
  table = cross_run_tables.teachers_table({'a-run': record})
  assert table in filled and '| a-run ' in table
  assert 'without' not in filled


@pytest.mark.parametrize(
  'marker, message',
  [
    ('none accuracy', "unknown record 'none'; expected one of mnist-table1"),
    ('mnist-table1-as_coded x', "unknown kind 'x'; expected one of accuracy, "),
    ('all x', "unknown kind 'x'; expected one of teachers, "),
  ],
)
def test_an_unknown_table_is_an_error(record, marker, message):
  text = README.replace('mnist-table1-as_coded accuracy', marker)
  with pytest.raises(errors.UserError, match=message):
    publish.fill_tables(text, {record['name']: record})


def test_missing_and_damaged_records_are_named(tmp_path):
  with pytest.raises(errors.UserError, match='has no records'):
    publish.load_results(tmp_path)
  files.write_text(tmp_path / 'results' / 'cut.json', '{"name": ')
  with pytest.raises(errors.UserError, match='damaged records .*: cut;'):
    publish.load_results(tmp_path)


def test_the_command_line_adds_a_run_and_writes_the_tables(record, tmp_path):
  run_dir, results = tmp_path / 'runs' / 'my-run', tmp_path / 'results'
  files.write_json(run_dir / 'run.json', record)
  (tmp_path / 'README.md').write_text(
    README.replace('mnist-table1-as_coded', 'my-run')
  )
  command = [sys.executable, '-m', 'kd_jax.report', str(results)]
  added = subprocess.run(
    [*command, f'--add={run_dir}'],
    cwd=ROOT,
    check=True,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert f'{tmp_path} is no git repository, or a shallow one' in added.stdout
  assert json.loads((results / 'my/run/my-run.json').read_text()) == record
  assert tables.accuracy_table(record) in (tmp_path / 'README.md').read_text()
  record['status'] = 'running'
  files.write_json(run_dir / 'run.json', record)
  refused = subprocess.run(
    [*command, f'--add={run_dir}'], cwd=ROOT, capture_output=True, text=True
  )
  assert refused.returncode != 0
  assert 'holds no complete run' in refused.stdout + refused.stderr


def test_published_figures_are_those_of_the_records():
  """A table or number that was edited by hand, or is out of date, differs."""
  results = publish.load_results(ROOT)
  templates = text_blocks.load(ROOT / 'results/text')
  for path in publish.documents(ROOT / 'results', ROOT / 'README.md', results):
    text = path.read_text(encoding='utf-8')
    assert re.search('<!-- (?:table|text|number): ', text)
    assert publish.fill(text, results, templates) == text


@pytest.mark.parametrize('page', COMPUTED_PAGES)
def test_measured_numbers_in_prose_have_a_record_or_a_source(page):
  text = (ROOT / page).read_text(encoding='utf-8')
  assert inline_numbers.unsupported(text) == []
  assert inline_numbers.comments_at_line_starts(text) == []
  assert inline_numbers.comments_that_end_cells(text) == []


def test_no_record_names_a_path_of_the_machine_that_made_it():
  for name, record in publish.load_results(ROOT).items():
    words = re.split('[ =:]', record.get('command', ''))
    assert not [word for word in words if word.startswith('/')], name
