"""Parts of the data that lack classes, each named with its field."""

import functools

import numpy as np
import pytest

from kd_jax import config as config_lib
from kd_jax.config_checks import class_checks
from kd_jax.data import dataset as dataset_lib
from kd_jax.experiments import run_checks
from kd_jax.training import context
from tests import helpers

NAMES = ('ant', 'bee', 'cat')


def _dataset(train_labels):
  arrays = {
    'train_images': np.zeros((len(train_labels), 6, 6, 1), np.uint8),
    'train_labels': np.asarray(train_labels),
    'test_images': np.zeros((6, 6, 6, 1), np.uint8),
    'test_labels': np.arange(6) % 3,
  }
  return dataset_lib.make_dataset(
    'own', arrays, num_classes=3, digest='digest', class_names=NAMES
  )


def _find(fields, train_labels=None):
  if train_labels is None:
    train_labels = np.arange(24) % 3
  config = helpers.tiny_mnist(fields={'train.folds': 0} | fields)
  configs = {row: config_lib.close_row(config, row) for row in config.rows}
  run_context = context.make_context(config, lambda _: _dataset(train_labels))
  context_for = functools.partial(context.on_transfer_set, run_context)
  plans = run_checks.check_run_and_plan(config, configs, context_for)
  return class_checks.find_lacking(config, configs, plans, context_for)


@pytest.mark.parametrize(
  'fields, sentence',
  [
    (
      {'data.train_examples': 2, 'teacher.logits': 'x.npy'},
      'config.data.train_examples=2 leaves no train example of 1 of 3 classes: '
      'cat',
    ),
    (
      {'data.test_examples': 1},
      'config.data.test_examples=1 leaves no test example of 2 of 3 classes: '
      'bee, cat',
    ),
    (
      {'data.holdout_examples': 2},
      'config.data.holdout_examples=2 leaves no test example of 1 of 3 '
      'classes: ant',
    ),
    (
      {'train.holdout_fraction': 0.95},
      'config.train.holdout_fraction=0.95 leaves no training example of 2 of 3 '
      'classes: bee, cat',
    ),
    (
      {'teacher.train.holdout_fraction': 0.95},
      'config.teacher.train.holdout_fraction=0.95 leaves no training example '
      'of 2 of 3 classes: bee, cat',
    ),
    (
      {'eval.attacked_examples': 2},
      'config.eval.attacked_examples=2 leaves no attacked example of 1 of 3 '
      'classes: cat',
    ),
  ],
)
def test_a_part_without_a_class_is_named_with_its_field(fields, sentence):
  assert _find(fields) == [sentence]


def test_folds_and_subsets_of_sorted_examples_are_named():
  """Built-in data keeps its order, which may be sorted."""
  sorted_labels = np.repeat(np.arange(3), 8)
  kept = 'config.teacher.train.holdout_fraction=0.2 leaves no training example'
  alone = {'teacher.train.holdout_fraction': 0.0}
  folds = _find(alone | {'train.folds': 3}, sorted_labels)
  assert folds == [
    f'config.train.folds=3 (fold {i}) leaves no training example of 1 of 3 '
    f'classes: {name}'
    for i, name in enumerate(NAMES)
  ]
  (subset,) = _find(alone | {'train.subset': 'as_published'}, sorted_labels)
  assert "config.train.subset='as_published' leaves no training" in subset
  labels = np.concatenate([sorted_labels[:20], [2]])
  fields = {'teacher.train.holdout_fraction': 0.5}
  (sentence,) = _find(fields, labels)
  assert sentence == kept.replace('0.2', '0.5') + ' of 1 of 3 classes: cat'


def test_classes_that_the_files_lack_are_named_with_the_split():
  sentences = _find({}, np.arange(24) % 2)
  assert sentences == [
    'the train split of own has no train example of 1 of 3 classes: cat'
  ]


def test_a_class_that_no_split_has_was_not_held_out():
  sentences = _find({'data.holdout_examples': 6}, np.arange(24) % 2)
  assert sentences == [
    f'the {split} split of own has no {split} example of 1 of 3 classes: cat'
    for split in ('train', 'test')
  ]


@pytest.mark.parametrize(
  'fields', [{}, {'train.subset': 'only0_1'}, {'train.subset': 'without2'}]
)
def test_subsets_that_name_their_classes_are_no_mistake(fields):
  assert _find(fields) == []
