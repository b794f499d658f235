"""Runs of theory: their JSON values, report, plots and folder."""

import copy
import json

import pytest

from configs import theory as recipes
from kd_jax.report import tables
from kd_jax.runtime import errors, files, json_records
from kd_jax.theory import run_theory


@pytest.mark.parametrize(
  'theory',
  [
    # tests/theory/test_bayes_teacher.py trains its students.
    pytest.param(
      name, marks=pytest.mark.slow if name == 'bayes_teacher' else ()
    )
    for name in run_theory.COMPUTATIONS
  ],
)
def test_results_are_json_and_the_report_shows_all_tables(theory, request):
  results = request.getfixturevalue(f'{theory}_results')
  json.dumps(results)
  text = tables.theory_tables({'results': results})
  for title in results['tables']:
    assert f'{title}:' in text
  for curve in results['curves'].values():
    for line in curve['lines'].values():
      assert len(line['x']) == len(line['y']) > 0


@pytest.fixture(name='computed')
def _computed(monkeypatch, lemma1_results):
  """Lets a run of lemma 1 take the results that all tests share."""
  monkeypatch.setitem(
    run_theory.COMPUTATIONS, 'lemma1', lambda _: copy.deepcopy(lemma1_results)
  )


def test_a_second_run_reads_the_results_of_the_first(
  tmp_path, monkeypatch, computed
):
  config = recipes.get_config('lemma1,smoke')
  record = run_theory.run_theory(config, workdir=tmp_path)
  path = tmp_path / 'run.json'
  assert record == json_records.read(path, json_records.RUN)
  assert (tmp_path / 'mixture_random.png').stat().st_size > 10_000
  assert '| mixture, bayes ' in (tmp_path / 'report.md').read_text()
  monkeypatch.setitem(run_theory.COMPUTATIONS, 'lemma1', None)
  assert run_theory.run_theory(config, workdir=tmp_path) == record
  config.seed = 1
  with pytest.raises(errors.UserError, match='config.seed'):
    run_theory.run_theory(config, workdir=tmp_path)


def test_a_folder_with_the_old_name_of_the_field_is_read(
  tmp_path, monkeypatch, computed
):
  config = recipes.get_config('lemma1,smoke')
  record = run_theory.run_theory(config, workdir=tmp_path)
  record['config']['experiment'] = record['config'].pop('theory')
  files.write_json(tmp_path / 'run.json', record)
  monkeypatch.setitem(run_theory.COMPUTATIONS, 'lemma1', None)
  assert run_theory.run_theory(config, workdir=tmp_path) == record


def test_a_mistake_in_the_config_leaves_no_folder(tmp_path):
  config = recipes.get_config('lemma1,smoke')
  config.num_samples = 0
  with pytest.raises(errors.UserError, match='config.num_samples=0'):
    run_theory.run_theory(config, workdir=tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
