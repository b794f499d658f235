"""A small data set of a user, with three classes of insects.

The images are easy to learn, and sorted by class.
"""

import numpy as np
from PIL import Image

from tests import helpers

NUM_CLASSES = 3
NAMES = ('ant', 'bee', 'cat')


def make_arrays():
  """Returns images that are easy to learn, sorted by class."""
  rng = np.random.default_rng(0)
  arrays = {}
  for split, count in (('train', 24), ('test', 8)):
    labels = np.repeat(np.arange(NUM_CLASSES), count)
    images = rng.integers(90, size=(len(labels), 6, 6, 1), dtype=np.uint8)
    images[np.arange(len(labels)), labels] += 150  # A bright row.
    arrays |= {f'{split}_images': images, f'{split}_labels': labels}
  return arrays


def make_logits(arrays, order=range(NUM_CLASSES)):
  """Returns logits of a perfect teacher, with its classes in an order."""
  onehot = 5 * np.eye(NUM_CLASSES, dtype=np.float32)[:, list(order)]
  return {
    split: onehot[arrays[f'{split}_labels']] for split in ('train', 'test')
  }


def save_npz(folder, arrays=None):
  np.savez(folder / 'own.npz', **(arrays or make_arrays()))
  return str(folder / 'own.npz')


def save_folder(folder, names=NAMES, splits=('train', 'test')):
  arrays = make_arrays()
  for split in splits:
    for i, (image, label) in enumerate(
      zip(arrays[f'{split}_images'], arrays[f'{split}_labels'], strict=True)
    ):
      path = folder / split / names[label] / f'{i:03d}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(image[..., 0]).save(path)
  return str(folder)


def make_config(name, **fields):
  """Returns a config whose student learns from the logits beside the data."""
  own = {
    'data.name': name,
    'student.hidden': (8,),
    'train.folds': 0,
    'train.batch_size': 8,
    'optim.learning_rate': 0.03,
  }
  return helpers.tiny_mnist(fields=own | fields)


def save_logits(folder, logits):
  np.savez(folder / 'logits.npz', **logits)
  return {'teacher.logits': str(folder / 'logits.npz')}
