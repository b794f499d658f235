"""The folder of a training: whose it is, and what is kept in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.runtime import files
from kd_jax.training import checkpoint, epoch_loop, training_folder
from kd_jax.training.training_record import TrainingResult
from tests import helpers
from tests.training import toy_training as toy

IDENTITY = {'student': {'hidden': [3]}, 'data_digest': 'd'}
VARIABLES = {'params': {'w': jnp.arange(6.0).reshape(2, 3)}, 'batch_stats': {}}


def _finish(folder, **fields):
  trained = TrainingResult(VARIABLES, {'row': 'toy', 'seed': 0}, **fields)
  return training_folder.finish(trained, folder, IDENTITY)


def test_a_training_is_done_with_its_record(tmp_path):
  folder = tmp_path / 'seed-0'
  training_folder.make_or_replace(folder, IDENTITY)
  assert not training_folder.is_done(folder, IDENTITY, 0)
  (folder / 'checkpoints').mkdir()
  (folder / training_folder.MID_EPOCH).mkdir()
  record = _finish(folder)
  assert training_folder.is_done(folder, IDENTITY, 0)
  assert not training_folder.is_done(folder, IDENTITY | {'data_digest': 'e'}, 0)
  assert training_folder.read_result(folder) == record
  assert record['row'] == 'toy' and record['bytes'] > 0
  assert {path.name for path in folder.iterdir()} == {
    'identity.json',
    'result.json',
    'weights',
  }


def test_variables_come_back(tmp_path):
  _finish(tmp_path)
  restored = training_folder.restore(
    tmp_path, jax.eval_shape(lambda: VARIABLES)
  )
  jax.tree.map(np.testing.assert_array_equal, restored, VARIABLES)


def test_quantized_variables_are_kept_beside_the_others(tmp_path):
  quantized = {'codes': jnp.arange(4, dtype=jnp.uint8)}
  trained = TrainingResult(VARIABLES, {'packed': {'accuracy': 1.0}}, quantized)
  record = training_folder.finish(trained, tmp_path, IDENTITY)
  size = _size(tmp_path / 'packed')
  assert record['packed'] == {'accuracy': 1.0, 'bytes': size}
  restored = training_folder.restore_quantized(tmp_path, quantized)
  np.testing.assert_array_equal(restored['codes'], quantized['codes'])


def _size(folder):
  return sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())


# After a failed read, Orbax leaves tasks that outlive their event loop.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_damaged_variables_are_not_restored(tmp_path):
  _finish(tmp_path)
  for path in (tmp_path / 'weights').rglob('d/*'):
    helpers.flip_middle_byte(path)
  assert training_folder.restore(tmp_path, VARIABLES) is None


def test_a_training_of_another_seed_is_not_that_of_the_folder(tmp_path):
  _finish(tmp_path)
  assert training_folder.is_done(tmp_path, IDENTITY, 0)
  assert not training_folder.is_done(tmp_path, IDENTITY, 1)


@pytest.mark.faults
def test_weights_that_the_record_was_not_written_for_are_not_used(
  tmp_path, caplog
):
  """Weights of another training in a folder: they are not used."""
  trained = TrainingResult(
    VARIABLES,
    {'row': 'toy', 'seed': 0, 'weights': checkpoint.tree_digest(VARIABLES)},
  )
  training_folder.finish(trained, tmp_path, IDENTITY)
  assert training_folder.restore(tmp_path, VARIABLES) is not None
  training_folder.finish(
    trained._replace(record=trained.record | {'weights': 'others'}),
    tmp_path,
    IDENTITY,
  )
  assert training_folder.restore(tmp_path, VARIABLES) is None
  assert 'result.json was written for other weights' in caplog.text


def test_a_folder_of_another_identity_is_emptied(tmp_path, caplog):
  folder = tmp_path / 'seed-0'
  _finish(folder)
  training_folder.make_or_replace(folder, IDENTITY)
  assert training_folder.is_done(folder, IDENTITY, 0)
  training_folder.make_or_replace(folder, IDENTITY | {'data_digest': 'e'})
  assert 'is trained again: ' in caplog.text and 'data_digest' in caplog.text
  assert [path.name for path in folder.iterdir()] == ['identity.json']
  assert files.read_json(folder / 'identity.json')['data_digest'] == 'e'


def test_a_checkpoint_within_an_epoch_is_used_until_the_epoch_is_done(tmp_path):
  zero_totals = toy.make_epoch_functions().zero_totals
  restore = lambda done_epochs: training_folder.restore_mid_epoch(
    tmp_path, toy.init_state(seed=1), zero_totals, done_epochs
  )
  assert restore(0) is None
  totals = jax.tree.map(lambda value: value - 3, zero_totals())
  state = toy.init_state()._replace(step=jnp.int32(12))
  position = epoch_loop.EpochPosition(
    epoch=2, step_in_epoch=4, state=state, totals=totals, train_s=1.5
  )
  training_folder.save_mid_epoch(tmp_path, position)
  for done_epochs in (1, 2):
    restored = restore(done_epochs)
    assert (restored.epoch, restored.step_in_epoch, restored.train_s) == (
      2,
      4,
      1.5,
    )
    toy.assert_equal(restored.state, state)
    toy.assert_equal(restored.totals, totals)
  assert restore(3) is None
  # A later checkpoint replaces the first.
  later = position._replace(
    step_in_epoch=5, state=state._replace(step=jnp.int32(13))
  )
  training_folder.save_mid_epoch(tmp_path, later)
  assert restore(2).step_in_epoch == 5
