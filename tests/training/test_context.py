"""The data and the functions that the trainings of a run share."""

import dataclasses
import types

import numpy as np
import pytest

from kd_jax import data
from kd_jax.data.dataset import Dataset, Split
from kd_jax.runtime import errors
from kd_jax.training import context, training_functions
from tests import helpers


def _dataset(name='toy', num_classes=3):
  """Returns a data set of 6 training and 4 test images."""
  rng = np.random.default_rng(len(name))
  train, test = (
    Split(
      rng.integers(0, 256, (count, 4, 4, 1), np.uint8),
      np.arange(count, dtype=np.int32) % num_classes,
    )
    for count in (6, 4)
  )
  return Dataset(name, train, test, num_classes, f'digest-of-{name}')


def _context(**fields):
  config = helpers.tiny_mnist(fields={'data.name': 'toy', **fields})
  return context.make_context(config, _dataset)


def test_a_context_holds_the_part_of_the_data_that_the_config_uses():
  whole = _context().dataset
  assert len(whole.train.labels) == 6 and len(whole.test.labels) == 4
  part = _context(
    **{'data.holdout_examples': 2, 'data.train_examples': 3}
  ).dataset
  np.testing.assert_array_equal(part.train.images, whole.train.images[:3])
  np.testing.assert_array_equal(part.test.images, whole.train.images[4:])
  assert part.digest == whole.digest


def test_each_spec_is_compiled_once_in_a_run(monkeypatch):
  specs = []
  monkeypatch.setattr(
    training_functions,
    'make_training_functions',
    lambda spec: specs.append(spec) or object(),
  )
  run_context = _context()
  first, second = map(run_context.functions_for, ('spec', 'spec'))
  assert first is second and specs == ['spec']
  assert run_context.functions_for('other') is not first
  # Another run compiles again.
  _context().functions_for('spec')
  assert specs == ['spec', 'other', 'spec']


def test_without_a_transfer_set_the_context_is_the_runs():
  run_context = _context()
  assert context.on_transfer_set(run_context, '') is run_context


def test_a_transfer_set_replaces_the_training_images_alone():
  run_context = _context()
  dataset = run_context.dataset
  changed = context.on_transfer_set(run_context, 'noise')
  assert changed.functions_for is run_context.functions_for
  np.testing.assert_array_equal(
    changed.dataset.train.labels, dataset.train.labels
  )
  assert (changed.dataset.train.images != dataset.train.images).any()
  assert changed.dataset.test is dataset.test
  assert changed.dataset.digest == dataset.digest


def test_a_transfer_set_can_be_another_data_set():
  run_context = _context(**{'data.train_examples': 5})
  changed = context.on_transfer_set(run_context, 'clothes')
  np.testing.assert_array_equal(
    changed.dataset.train.images, _dataset('clothes').train.images[:5]
  )
  # The class names and the test split stay those of the task.
  assert changed.dataset.name == 'toy'


def test_images_on_disk_cannot_be_replaced():
  run_context = _context()
  on_disk = types.SimpleNamespace(batches=None)
  dataset = dataclasses.replace(
    run_context.dataset,
    train=dataclasses.replace(run_context.dataset.train, images=on_disk),
  )
  with pytest.raises(
    errors.UserError, match="transfer_set='noise': .* raise config.data.memory"
  ):
    context.on_transfer_set(run_context._replace(dataset=dataset), 'noise')


def test_images_without_labels_join_the_training_split(tmp_path):
  run_context = _context()
  dataset = run_context.dataset
  np.savez(tmp_path / 'more.npz', images=np.asarray(dataset.train.images[:2]))
  name = f'unlabeled:{tmp_path}/more.npz'
  joined = context.on_transfer_set(run_context, name).dataset
  count = len(dataset.train.labels)
  assert isinstance(joined.train.images, type(dataset.train.images))
  assert joined.train.labels[count:].tolist() == [data.NO_LABEL] * 2
  assert joined.num_labeled == count
