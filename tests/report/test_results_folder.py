"""The places of records below results/."""

import pathlib

import pytest

from kd_jax.report import results_folder
from kd_jax.runtime import errors, files

RESULTS = pathlib.Path(__file__).parents[2] / 'results'


@pytest.mark.parametrize(
  'name, expected',
  [
    ('mnist-table1-as_coded', 'mnist/table1/mnist-table1-as_coded.json'),
    ('theory-lemma1', 'theory/lemma1/theory-lemma1.json'),
    ('bench-avx2-training-h300', 'bench/avx2/bench-avx2-training-h300.json'),
    ('faults', 'faults.json'),
  ],
)
def test_a_record_lies_in_the_folder_that_its_name_says(name, expected):
  assert results_folder.path(RESULTS, name) == RESULTS / expected


def test_records_are_found_by_name_and_misplaced_records_are_named(tmp_path):
  for name in ('b-c-d', 'a-b', 'c'):
    files.write_json(results_folder.path(tmp_path, name), {})
  assert list(results_folder.find(tmp_path)) == ['a-b', 'b-c-d', 'c']
  files.write_json(tmp_path / 'x' / 'a-b.json', {})
  with pytest.raises(errors.UserError, match='a/b/a-b.json; move the file'):
    results_folder.find(tmp_path)


def test_every_report_and_plot_lies_beside_a_record_of_its_name():
  """A file whose record was renamed or removed would show old numbers."""
  for folder in {path.parent for path in results_folder.find(RESULTS).values()}:
    records = [path.stem for path in folder.glob('*.json')]
    if folder == RESULTS:
      continue
    for path in folder.iterdir():
      if path.is_dir() or path.stem.endswith('-roofline'):
        continue
      assert any(path.stem.startswith(name) for name in records), path
