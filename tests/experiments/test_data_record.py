"""The data in a run's record."""

import numpy as np

from kd_jax.data import dataset as dataset_lib
from kd_jax.experiments import data_record


def test_the_record_names_classes_shapes_and_counts():
  arrays = {
    'train_images': np.zeros((7, 6, 5, 1), np.uint8),
    'train_labels': np.arange(7) % 3,
    'test_images': np.zeros((2, 6, 5, 1), np.uint8),
    'test_labels': np.array([2, 2]),
  }
  names = ('ant', 'bee', 'cat')
  dataset = dataset_lib.make_dataset(
    'insects', arrays, num_classes=3, digest='d', class_names=names
  )
  assert data_record.describe(dataset) == {
    'name': 'insects',
    'digest': 'd',
    'image_shape': [6, 5, 1],
    'num_classes': 3,
    'class_names': list(names),
    'examples': {'train': 7, 'test': 2},
    'examples_by_class': {'train': [3, 2, 2], 'test': [0, 0, 2]},
  }
