"""The students of a run: which of those in its folder are the run's."""

import jax.numpy as jnp
import pytest

from kd_jax.experiments import students
from kd_jax.training import training_folder
from kd_jax.training.training_record import TrainingResult
from tests import helpers


@pytest.fixture(name='run')
def _run(generated, tmp_path):
  run = helpers.make_rows(helpers.tiny_mnist(), generated)
  return run._replace(workdir=tmp_path)


def _finish(run, name, *, seed, identity=None):
  (row,) = run.by_name.values()
  training_folder.finish(
    TrainingResult({'w': jnp.zeros(1)}, {'row': 'h50', 'seed': seed}),
    run.folder(row) / name,
    identity or row.identity,
  )


def _seeds(run):
  results, _ = students.collect_results(run)
  return [result['seed'] for result in results]


def test_the_students_of_a_row_are_collected_by_seed(run):
  for seed in (10, 9):
    _finish(run, f'seed-{seed}', seed=seed)
  assert _seeds(run) == [9, 10]


@pytest.mark.faults
def test_students_of_other_data_are_named_and_left_out(run):
  """Students of other data in a run's folder: they are named and left out."""
  (row,) = run.by_name.values()
  other = row.identity | {'data_digest': 'of other data'}
  _finish(run, 'seed-0', seed=0)
  _finish(run, 'seed-1', seed=1, identity=other)
  assert _seeds(run) == [0]
  _, (line,) = students.collect_results(run)
  assert line.startswith('students/h50/seed-1 is left out: it was trained on')


@pytest.mark.faults
def test_a_folder_that_was_copied_to_another_seed_is_left_out(run):
  """A student's folder copied to another seed: it is left out."""
  _finish(run, 'seed-0', seed=0)
  _finish(run, 'seed-1', seed=0)
  assert _seeds(run) == [0]
  _, (line,) = students.collect_results(run)
  assert line.startswith('students/h50/seed-1 is left out')


def test_a_folder_that_was_copied_from_another_row_is_this_rows(run):
  (row,) = run.by_name.values()
  training_folder.finish(
    TrainingResult({'w': jnp.zeros(1)}, {'row': 'another', 'seed': 0}),
    run.folder(row) / 'seed-0',
    row.identity,
  )
  results, left_out = students.collect_results(run)
  assert [result['row'] for result in results] == ['h50'] and not left_out
