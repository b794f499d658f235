"""A teacher: its logits on the device, and its record."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.teachers import sharded_logits
from kd_jax.teachers import teacher as teacher_lib
from kd_jax.teachers.teacher import Teacher
from kd_jax.training import context
from tests.teachers import toy_network


@pytest.fixture(name='dataset', scope='module')
def _dataset(generated):
  return toy_network.select(generated)


@pytest.fixture(name='network')
def _network(dataset, tmp_path):
  return toy_network.make_network(dataset, tmp_path / 'teacher')


def test_the_teacher_of_a_network_has_its_logits_on_the_device(network):
  record = {'row': 'teacher'}
  teacher = teacher_lib.network_teacher(network, record)
  assert teacher.record is record and teacher.variables is network.variables
  for name, logits in network.logits('unit').items():
    assert isinstance(teacher.logits[name], jax.Array)
    np.testing.assert_array_equal(teacher.logits[name], logits)


def test_a_teacher_with_other_logits_is_else_the_same(network):
  teacher = teacher_lib.network_teacher(network, {'row': 'teacher'})
  other = teacher.with_logits({'train': jnp.ones((2, 3))})
  assert other.logits['train'].shape == (2, 3)
  assert (other.record, other.network) == (teacher.record, network)
  assert teacher.logits['train'].shape == (40, 10)


def test_logits_alone_have_no_variables():
  assert Teacher({}, {}).variables is None


def test_a_teacher_is_shown_a_transfer_set(network, dataset):
  teacher = teacher_lib.network_teacher(network, {'row': 'teacher'})
  run_context = context.Context(dataset, None, None)
  shown = context.on_transfer_set(run_context, 'shuffled_pixels').dataset
  other = teacher.on_transfer_set('shuffled_pixels', shown)
  expected, _ = toy_network.forward(network, shown.train.images)
  np.testing.assert_allclose(
    other.logits['train'], expected, rtol=1e-4, atol=1e-5
  )
  # The run's record describes the teacher on its own data.
  assert other.record is teacher.record


# --- The record. ---


def _perfect(split):
  return 8 * np.eye(10, dtype=np.float32)[np.asarray(split.labels)]


def test_the_record_has_the_metrics_of_the_outputs_students_get(dataset):
  training = {'row': 'teacher', 'test': {'accuracy': 0.1}, 'steps': 3}
  logits = {'train': _perfect(dataset.train), 'test': -_perfect(dataset.test)}
  record = teacher_lib.make_record(training, logits, dataset)
  assert record['steps'] == 3
  assert record['train']['accuracy'] == 1 and record['test']['accuracy'] == 0
  assert training['test'] == {'accuracy': 0.1}
  # The digest of the outputs is what students are known by.
  same = teacher_lib.make_record({}, logits, dataset)
  negated = {split: -array for split, array in logits.items()}
  other = teacher_lib.make_record({}, negated, dataset)
  assert record['outputs'] == same['outputs'] != other['outputs']


def test_the_record_of_logits_without_a_test_split_has_no_test(dataset):
  logits = {'train': _perfect(dataset.train)}
  record = teacher_lib.make_record({'test': {}}, logits, dataset)
  assert 'test' not in record and 'reliability' not in record


def test_logits_on_disk_stay_there_and_are_known_by_their_identity(
  dataset, tmp_path
):
  logits = _perfect(dataset.train)
  on_disk = sharded_logits.ShardedLogits(
    tmp_path,
    {'weights': 'a'},
    lambda start, stop: logits[start:stop],
    shape=logits.shape,
  )
  splits = {'train': on_disk, 'test': _perfect(dataset.test)}
  assert teacher_lib.on_device(splits)['train'] is on_disk
  record = teacher_lib.make_record({}, splits, dataset)
  assert record['outputs'] == on_disk.digest
  assert record['train']['accuracy'] == 1 and record['train_examples'] == 40
