"""Data that a training cannot learn from is refused before any work."""

import dataclasses

import numpy as np
import pytest

from configs import mnist
from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.config_checks import data_checks
from kd_jax.data.dataset import Dataset, Split
from kd_jax.runtime import errors
from tests.configs import recipe_rows


def _dataset(labels, num_classes=4):
  labels = np.asarray(labels, np.int32)
  images = np.zeros((len(labels), 28, 28, 1), np.uint8)
  good = Split(np.zeros((8, 28, 28, 1), np.uint8), np.arange(8) % num_classes)
  return Dataset('toy', Split(images, labels), good, num_classes, 'digest')


def _check(dataset, method='kl', **fields):
  (config,) = recipe_rows.close(mnist, f'h300,method={method}').values()
  config.train.update({'folds': 0} | fields)
  data_checks.check_training_and_plan(
    config_lib.student_sections(config), dataset
  )


def test_labels_outside_the_classes_are_named():
  _check(_dataset([0, 1, 2, 3]))
  for wrong in (-1, 4):
    message = rf'toy: train_labels\[2\] is {wrong}; expected .* from 0 to 3'
    bad = _dataset([0, 1, wrong, 3])
    with pytest.raises(data.DataError, match=message):
      _check(bad)
    swapped = dataclasses.replace(bad, train=bad.test, test=bad.train)
    with pytest.raises(data.DataError, match=r'test_labels\[2\]'):
      _check(swapped)


def test_a_single_class_is_refused():
  _check(_dataset([0, 1], num_classes=2))
  with pytest.raises(data.DataError, match='toy: 1 class; expected 2 or more'):
    _check(_dataset([0, 0], num_classes=1))


def test_batches_in_which_a_method_has_nothing_to_compare_are_refused():
  labels = np.arange(40) % 4
  for method, least in (('rkd', 3), ('kl+similarity', 2), ('kl', 1)):
    _check(_dataset(labels), method, batch_size=least)
    _check(_dataset(labels[:least]), method, batch_size=8)
    if least == 1:
      continue
    name = method.rpartition('+')[2]
    message = (
      rf'config\.train\.batch_size=.*batches of {least - 1} examples are too '
      f'few for the method {name}.*expected {least} or more'
    )
    for size, dataset in (
      (least - 1, _dataset(labels)),
      (8, _dataset(labels[: least - 1])),
    ):
      with pytest.raises(errors.UserError, match=message):
        _check(dataset, method, batch_size=size)
