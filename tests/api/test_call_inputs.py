"""The arguments of a call: each mistake names its argument.

Also tests `kd_jax/api/array_data.py`, `kd_jax/api/call_config.py` and
`kd_jax/models/given.py`.
"""

import flax.linen as nn
import jax
import numpy as np
import pytest

import kd_jax
from kd_jax.runtime import errors
from tests.api.toy_call import (
  IMAGES,
  LABELS,
  LOGITS,
  MLP,
  QUICK,
  Constant,
  Small,
)


class WithFields(nn.Module):
  """A module whose first field is no number of classes."""

  units: int

  @nn.compact
  def __call__(self, images):
    hidden = nn.Dense(self.units)(images.reshape(images.shape[0], -1))
    return nn.Dense(3)(nn.relu(hidden))


class Failing(nn.Module):
  """A module with a mistake in its call."""

  @nn.compact
  def __call__(self, images, *, train):
    return nn.Dense(3 // (len(images.shape) - 4))(images)


def _bad_labels():
  labels = LABELS.copy()
  labels[5] = 3
  return labels


NAN = LOGITS.copy()
NAN[3, 1] = np.nan


@pytest.mark.parametrize(
  'change, message',
  [
    ({'images': IMAGES / 255}, 'images are float64; expected uint8'),
    ({'images': IMAGES[:, 0, 0]}, r'images are uint8 \[96, 1\]; expected'),
    ({'images': IMAGES[:0]}, 'images: there is none'),
    ({'labels': LABELS[:5]}, r'labels are int64 \[5\]; expected integers'),
    ({'labels': LABELS / 2}, r'labels are float64 \[96\]; .* each image$'),
    ({'labels': LABELS * 1.0}, r'each image: labels\.astype\(int\)'),
    (
      {'labels': LABELS.astype(str)},
      r'of names, np\.unique\(labels, return_inv',
    ),
    (
      {'labels': np.eye(3)[LABELS]},
      r'^labels are float64 \[96, 3\]; expected .* labels\.argmax\(1\)$',
    ),
    ({'labels': LABELS - 1}, r'labels\[0\] is -1; expected a class of at le'),
    (
      {'eval_data': (IMAGES, np.eye(3)[LABELS])},
      r'^eval_data: labels are float64 .* labels\.argmax\(1\)$',
    ),
    ({'labels': None, 'teacher': None}, 'labels=None and teacher=None'),
    ({'eval_data': None}, r'eval_data=None: expected \(images, labels\)'),
    ({'eval_data': 0}, r'eval_data=0: expected \(images, labels\)'),
    ({'eval_data': 0.999}, 'it holds out all 96 images'),
    ({'class_names': ['a']}, 'class_names are 1; expected 3, since the teach'),
    (
      {'labels': LABELS + 1, 'teacher': None, 'class_names': 'abc'},
      r'labels\[2\] is 3; .* since there are 3 class_names',
    ),
    (
      {'labels': _bad_labels()},
      r'labels\[5\] is 3; expected a class from 0 to 2',
    ),
    (
      {'teacher': LOGITS[:5]},
      r'logits have shape \[5, 3\]; expected \[96, K\]',
    ),
    ({'teacher': LOGITS.argmax(-1)}, r"teacher's logits have shape \[96\]"),
    ({'teacher': NAN}, "teacher's logits are not all finite"),
    (
      {'teacher': np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)},
      "teacher's logits are probabilities",
    ),
    ({'teacher': LOGITS.astype(int)}, 'expected floating-point logits'),
    ({'teacher': 'logits.npz'}, "teacher's logits have shape"),
    ({'method': 'kl+hint'}, "method='kl\\+hint' takes features"),
    ({'method': 'lk'}, "^method='lk': there is no method 'lk'; expected one"),
    ({'method': 'kl+dkkd'}, r"'dkkd' \(did you mean dkd\?\)"),
    ({'labels': None, 'alpha': 0.5}, 'without labels, expected 1'),
    ({'alpha': 1.5}, 'alpha=1.5: expected the weight'),
    ({'eval_data': IMAGES}, r'eval_data=ndarray: expected \(images, labels\)'),
    ({'eval_data': (IMAGES[:, :4], LABELS)}, r'images are \(8, 8, 1\), but'),
    ({'eval_data': (IMAGES, LABELS + 1)}, r'eval_data: labels\[2\] is 3'),
    ({'eval_data': (IMAGES, None)}, 'teacher from `store_outputs`'),
    ({'epochs': 0}, '^epochs=0: expected'),
    ({'learning_rate': -1.0}, '^learning_rate=-1.0: expected'),
    ({'fields': {'optim.momentum': -1.0}}, r"^fields\['optim.momentum'\]=-1.0"),
    ({'augmentation': 'jitter'}, "^augmentation='jitter' takes outputs of"),
    ({'augmentation': 'flip', 'teacher': None}, '^augmentation=.flip.: expec'),
    ({'model': 7}, 'model: it is of type int; expected a module'),
    ({'model': lambda num_classes: 7}, 'model: returned int'),
    (
      {'model': WithFields},
      r'WithFields is a class, .* WithFields\(units=...\)$',
    ),
    ({'model': Constant}, r'^model: Constant is a class, .* Constant\(\)$'),
    ({'model': lambda: MLP}, 'too many positional arguments'),
    (
      {'model': nn.Dense(3)},
      r'^model: for images .* float32 \[2, 8, 8, 3\]; e',
    ),
    (
      {'model': Failing()},
      r'^model: for images \[B, 8, 8, 1\] .* ZeroDivision',
    ),
    ({'fields': {'optim.learning_rat': 1.0}}, 'did you mean learning_rate?'),
    ({'fields': {'train.epochs': 'two'}}, "train.epochs='two'"),
  ],
)
def test_a_mistake_names_its_argument(change, message):
  call = {'images': IMAGES, 'labels': LABELS, 'teacher': LOGITS, **QUICK}
  with pytest.raises(errors.UserError, match=message):
    kd_jax.distill(**call | change)


def test_outputs_of_other_images_are_refused():
  module = Small()
  variables = module.init(jax.random.key(1), IMAGES[:1] / 255, train=False)
  teacher = kd_jax.store_outputs((module, variables), IMAGES[::-1])
  with pytest.raises(errors.UserError, match='those of other images'):
    kd_jax.distill(IMAGES, LABELS, teacher, **QUICK)
