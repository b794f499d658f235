"""Files as arrays: what `distill` takes, and mistakes in the call's words."""

import numpy as np
import pytest
from PIL import Image

import kd_jax

RNG = np.random.RandomState(0)


def _draw(folder, side=6):
  folder.mkdir(parents=True)
  for name in '01':
    pixels = RNG.randint(0, 255, (side, side, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f'{name}.png')


def test_a_folder_becomes_the_arguments_of_distill(tmp_path):
  for name in ('cat', 'dog'):
    _draw(tmp_path / 'train' / name)
  loaded = kd_jax.load_data(tmp_path)
  assert loaded.images.shape == (4, 6, 6, 3) and loaded.eval_data == 0.1
  assert loaded.class_names == ('cat', 'dog')
  assert sorted(loaded.labels) == [0, 0, 1, 1]
  expected = 'LoadedData(images=4 of 6x6x3, eval_data=0.1, classes=2)'
  assert repr(loaded) == expected


def test_a_test_split_is_evaluated_on(tmp_path):
  images = RNG.randint(0, 255, (4, 5, 5)).astype(np.uint8)
  labels = np.arange(4) % 2
  np.savez(
    tmp_path / 'data.npz',
    train_images=images,
    train_labels=labels,
    test_images=images[:2],
    test_labels=labels[:2],
  )
  loaded = kd_jax.load_data(tmp_path / 'data.npz')
  assert len(loaded.eval_data[0]) == len(loaded.eval_data[1]) == 2
  assert 'eval_data=2 images' in repr(loaded)


def test_a_mistake_names_the_argument(tmp_path):
  with pytest.raises(kd_jax.UserError, match='^image_size=8: the arrays'):
    np.savez(tmp_path / 'data.npz', x=1)
    kd_jax.load_data(tmp_path / 'data.npz', image_size=8)
  with pytest.raises(kd_jax.UserError, match='unknown data set'):
    kd_jax.load_data(tmp_path / 'none')
