"""Checkpoints: the round trip, damage and the digest."""

import contextlib
import json
import os
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.runtime import errors
from kd_jax.training import checkpoint
from tests import helpers


def _state(value):
  return {
    'params': {'w': jnp.full((3, 2), value), 'b': jnp.arange(2.0)},
    'step': jnp.int32(value),
  }


@pytest.fixture(name='checkpoints')
def _checkpoints(tmp_path):
  checkpoints = checkpoint.Checkpoints(tmp_path / 'checkpoints')
  yield checkpoints
  checkpoints.close()


def _damage(folder):
  """Flips a byte in the middle of every file that holds array data."""
  paths = list(folder.rglob('d/*'))
  assert paths
  for path in paths:
    helpers.flip_middle_byte(path)


def test_round_trip_of_the_newest(checkpoints):
  for epoch in (1, 2, 3):
    checkpoints.save(epoch, _state(epoch))
  epoch, state = checkpoints.restore(jax.eval_shape(lambda: _state(0)))
  assert epoch == 3
  jax.tree.map(np.testing.assert_array_equal, state, _state(3))
  jax.tree.map(
    lambda a, b: a.dtype == b.dtype or pytest.fail(), state, _state(3)
  )


def test_nothing_to_restore(checkpoints):
  assert checkpoints.restore(_state(0)) is None


# After a failed read, Orbax leaves tasks that outlive their event loop.
@pytest.mark.faults
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_damaged_checkpoint_is_passed_over(checkpoints, tmp_path, caplog):
  """A damaged checkpoint: the checkpoint before it is used."""
  for epoch in (1, 2):
    checkpoints.save(epoch, _state(epoch))
  _damage(tmp_path / 'checkpoints' / '2')
  epoch, state = checkpoints.restore(_state(0))
  assert epoch == 1
  jax.tree.map(np.testing.assert_array_equal, state, _state(1))
  assert 'checkpoints/2 is damaged' in caplog.text
  # The damaged checkpoint stays until the same epoch is saved again.
  assert (tmp_path / 'checkpoints' / '2').exists()
  checkpoints.save(2, _state(5))
  epoch, state = checkpoints.restore(_state(0))
  assert epoch == 2
  jax.tree.map(np.testing.assert_array_equal, state, _state(5))


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_damaged_checkpoint_does_not_prevent_saving_an_earlier_epoch(
  checkpoints, tmp_path
):
  checkpoints.save(9, _state(9))
  _damage(tmp_path / 'checkpoints' / '9')
  assert checkpoints.restore(_state(0)) is None
  checkpoints.save(4, _state(4))
  assert checkpoints.restore(_state(0))[0] == 4


def test_a_sound_checkpoint_of_another_network_is_refused_and_kept(
  checkpoints,
):
  checkpoints.save(1, _state(1))
  other = _state(0)
  other['params']['w'] = jnp.zeros((3, 4))
  with pytest.raises(
    errors.UserError,
    match=r"another network.*'w'.*int32\[3, 2\], and.*float32\[3, 4\]",
  ):
    checkpoints.restore(other)
  more = _state(0) | {'more': jnp.zeros(1)}
  with pytest.raises(errors.UserError, match="'more'.* not at all, and this"):
    checkpoints.restore(more)
  assert checkpoints.restore(_state(0))[0] == 1


def _description_file(folder, number):
  return folder / 'checkpoints' / str(number) / 'digest' / 'metadata'


@pytest.mark.faults
def test_every_flipped_byte_of_a_description_is_passed_over(
  checkpoints, tmp_path
):
  """Each byte of a checkpoint's description flipped: it is passed over."""
  for number in (1, 2):
    checkpoints.save(number, _state(number))
  path = _description_file(tmp_path, 2)
  content = path.read_bytes()
  for position in range(0, len(content), 11):
    path.write_bytes(content)
    helpers.flip_byte(path, position)
    number, state = checkpoints.restore(_state(0))
    assert (number, int(state['step'])) in [(1, 1), (2, 2)]


@pytest.mark.faults
def test_a_description_that_is_no_object_is_passed_over(
  checkpoints, tmp_path, caplog
):
  """A checkpoint's description of another shape: it is passed over."""
  checkpoints.save(1, _state(1))
  for content in ('[]', '5', '{}', 'null', '{"sha256": 1}'):
    _description_file(tmp_path, 1).write_text(content)
    assert checkpoints.restore(_state(0)) is None
  assert 'is damaged' in caplog.text


def _metadata_file(tmp_path, number):
  """Returns the path of the file in which Orbax keeps the time of a save."""
  return tmp_path / 'checkpoints' / str(number) / '_CHECKPOINT_METADATA'


@pytest.mark.faults
@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('commit_timestamp_nsecs', 10**26),
    ('commit_timestamp_nsecs', 10**400),
    ('commit_timestamp_nsecs', 'text'),
    ('init_timestamp_nsecs', 1.5),
    ('metrics', 5),
    ('item_handlers', []),
  ],
)
def test_damaged_metadata_of_a_checkpoint_is_removed(
  tmp_path, caplog, field, value
):
  """A wrong time of a checkpoint: named, and the checkpoint is used."""
  with contextlib.closing(
    checkpoint.Checkpoints(tmp_path / 'checkpoints')
  ) as checkpoints:
    checkpoints.save(1, _state(1))
    checkpoints.save(2, _state(2))
  path = _metadata_file(tmp_path, 2)
  content = json.loads(path.read_text())
  assert field in content
  path.write_text(json.dumps(content | {field: value}))
  _check_the_second_is_restored(tmp_path)
  assert f'{path} is damaged' in caplog.text and not path.exists()


@pytest.mark.faults
def test_metadata_of_a_checkpoint_that_are_a_pipe_are_removed(tmp_path, caplog):
  """A pipe in the place of a checkpoint's file: named, and no hang."""
  with contextlib.closing(
    checkpoint.Checkpoints(tmp_path / 'checkpoints')
  ) as checkpoints:
    checkpoints.save(2, _state(2))
  path = _metadata_file(tmp_path, 2)
  path.unlink()
  os.mkfifo(path)
  with helpers.time_limit(30):
    _check_the_second_is_restored(tmp_path)
  assert f'{path} is damaged (ValueError: it is a pipe' in caplog.text


def _check_the_second_is_restored(tmp_path):
  """Checks that the second checkpoint is restored, and that a third can be."""
  with contextlib.closing(
    checkpoint.Checkpoints(tmp_path / 'checkpoints')
  ) as checkpoints:
    number, state = checkpoints.restore(_state(0))
    assert number == 2
    jax.tree.map(np.testing.assert_array_equal, state, _state(2))
    checkpoints.save(3, _state(3))
    assert checkpoints.restore(_state(0))[0] == 3


def test_older_descriptions_are_believed_if_no_checkpoint_is_sound(
  checkpoints, tmp_path
):
  """They have no checksum: one that differs may be damaged, or another's."""
  for number in (1, 2):
    checkpoints.save(number, _state(number))
    path = _description_file(tmp_path, number)
    content = json.loads(path.read_text())
    del content['checksum']
    path.write_text(json.dumps(content))
  damaged = path.read_text().replace('[3,', '[9,')
  path.write_text(damaged)
  assert checkpoints.restore(_state(0))[0] == 1
  _description_file(tmp_path, 1).write_text(damaged)
  with pytest.raises(errors.UserError, match='another network'):
    checkpoints.restore(_state(0))


@pytest.mark.faults
@pytest.mark.parametrize(
  'error',
  [
    OSError(28, 'No space left on device'),
    ValueError('RESOURCE_EXHAUSTED: Error writing "/a": No space left\nTrace'),
  ],
)
def test_a_save_that_fails_is_one_line_with_the_mend(
  checkpoints, monkeypatch, error
):
  """A save that fails: one line has the mend."""

  def save(*args, **kwargs):
    raise error

  monkeypatch.setattr(checkpoints._manager, 'save', save)
  with pytest.raises(errors.UserError) as raised:
    checkpoints.save(3, _state(1))
  line = str(raised.value)
  assert 'checkpoints/3 cannot be saved (' in line and '\n' not in line
  assert 'No space left' in line and 'the same command' in line


def test_arrays_without_their_digest_are_passed_over(
  checkpoints, monkeypatch, caplog
):
  checkpoints.save(1, _state(1))
  with monkeypatch.context() as patch:
    patch.setattr(checkpoint, 'tree_digest', lambda tree: 'another digest')
    checkpoints.save(2, _state(2))
  epoch, _ = checkpoints.restore(_state(0))
  assert epoch == 1
  assert 'do not have their digest' in caplog.text


def test_saves_take_a_tenth_of_the_time_at_most(checkpoints, monkeypatch):
  clock = [checkpoints._saved_at]
  clocks = types.SimpleNamespace(perf_counter=lambda: clock[0])
  monkeypatch.setattr(checkpoint, 'time', clocks)
  # The time of a save is not known yet: a tenth of a second is expected.
  assert not checkpoints.is_due()
  clock[0] += 1.01
  assert checkpoints.is_due()
  save = checkpoints._manager.save

  def slow_save(*args, **kwargs):
    save(*args, **kwargs)
    clock[0] += 3

  monkeypatch.setattr(checkpoints._manager, 'save', slow_save)
  checkpoints.save(1, _state(1))
  clock[0] += 29
  assert not checkpoints.is_due()
  clock[0] += 1
  assert checkpoints.is_due()


def test_only_the_newest_are_kept(checkpoints, tmp_path):
  for epoch in range(5):
    checkpoints.save(epoch, _state(epoch))
  kept = {p.name for p in (tmp_path / 'checkpoints').iterdir()}
  assert kept == {'3', '4'}


def test_the_digest_sees_names_types_shapes_and_values():
  base = {'a': np.zeros(4, np.float32)}
  others = [
    {'b': np.zeros(4, np.float32)},
    {'a': np.zeros(4, np.int32)},
    {'a': np.zeros((2, 2), np.float32)},
    {'a': np.array([0, 0, 0, 1e-30], np.float32)},
  ]
  digests = {checkpoint.tree_digest(tree) for tree in (base, *others)}
  assert len(digests) == 5
  assert checkpoint.tree_digest(base) == checkpoint.tree_digest(
    {'a': jnp.zeros(4)}
  )
