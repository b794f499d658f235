"""The arguments of a call: each mistake names its argument.

Also tests `kd_jax/api/array_data.py`, `kd_jax/api/call_config.py`,
`kd_jax/api/scalars.py` and `kd_jax/models/given.py`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import kd_jax
from kd_jax.api import call_inputs, scalars
from kd_jax.export import artifact
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
    (
      {'labels': LABELS + 1, 'teacher': None},
      '^labels are from 1 to 3: they start at 1: give labels - 1; or, if',
    ),
    (
      {'labels': LABELS + 1},
      r'^labels\[2\] is 3; .* each image: they start at 1: give labels - 1$',
    ),
    (
      {'eval_data': (IMAGES, LABELS + 1)},
      r'^eval_data: labels\[2\] is 3; .*: they start at 1: give labels - 1$',
    ),
    ({'teacher': Small()}, r'network \(Small\); .*store_outputs\(\(apply, var'),
    (
      {'teacher': (lambda v, x: x, {})},
      r'^teacher: it is a network \(function\); expected its outputs for the '
      r'images: kd_jax.store_outputs\(\(apply, variables\), images\)$',
    ),
    (
      {'teacher': nnx.Linear(2, 3, rngs=nnx.Rngs(0))},
      r'^teacher: it is a network .*: kd_jax.store_outputs\(module, images\)$',
    ),
    (
      {'teacher': artifact.Artifact(np.asarray, {})},
      r'^teacher: it is a network .*: np.log\(np.maximum\(loaded.predict',
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
    ({'eval_data': (IMAGES, None)}, 'teacher from `store_outputs`'),
    ({'epochs': 0}, '^epochs=0: expected'),
    ({'epochs': 2.5}, '^epochs=2.5: expected a whole number of at least 1'),
    ({'epochs': True}, '^epochs=True: expected a whole number'),
    ({'batch_size': 32.0}, '^batch_size=32.0: expected a whole number'),
    ({'seed': 1.5}, '^seed=1.5: expected a whole number of at least 0'),
    ({'seed': 2**32}, r'^seed=4294967296: expected a number from 0 to 2\*\*32'),
    ({'temperature': '4'}, "^temperature='4': expected a number"),
    ({'temperature': 0}, '^temperature=0.0: expected a number above 0'),
    ({'learning_rate': None}, '^learning_rate=None: expected a number'),
    ({'alpha': '0.5'}, "^alpha='0.5': expected a number"),
    ({'method': ['kl']}, r"^method=\['kl'\]: expected a text"),
    ({'scaling': 1}, '^scaling=1: expected a text'),
    ({'augmentation': None}, '^augmentation=None: expected a text'),
    ({'class_names': 3}, '^class_names=3: expected a name for each class'),
    ({'workdir': 5}, '^workdir=5: expected a path'),
    ({'callbacks': kd_jax.Callback()}, 'Callback is none; expected a list of'),
    ({'callbacks': [print]}, '^callbacks: builtin_function_or_method is none'),
    ({'fields': ['a']}, r"^fields=\['a'\]: expected {'SECTION.FIELD': value}"),
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


@pytest.mark.parametrize(
  'call, message',
  [
    (
      lambda: kd_jax.store_outputs(lambda x: x, IMAGES),
      r'^teacher: function is no trained network; expected \(apply, variables',
    ),
    (
      lambda: kd_jax.store_outputs((np.dot, {}), IMAGES, batch_size=2.5),
      '^batch_size=2.5: expected a whole number',
    ),
    (
      lambda: kd_jax.store_outputs((np.dot, {}), IMAGES, scaling='unt'),
      r"^scaling='unt': expected one of .* \(did you mean unit\?\)",
    ),
    (lambda: kd_jax.load_data(5), '^name=5: expected a folder, FILE.npz'),
    (
      lambda: kd_jax.load_data('mnist', image_size=2.5),
      '^image_size=2.5: expected a whole number of at least 0',
    ),
  ],
)
def test_a_mistake_in_other_calls_names_its_argument(call, message):
  with pytest.raises(errors.UserError, match=message):
    call()


def test_numbers_of_numpy_and_jax_are_numbers():
  assert scalars.whole_number('epochs', np.int64(3)) == 3
  assert scalars.whole_number('epochs', jnp.int32(3)) == 3
  assert scalars.real_number('alpha', np.float32(0.5)) == 0.5
  assert scalars.real_number('alpha', jnp.float32(0.5)) == 0.5
  assert scalars.fields({'a.b': np.int64(3)}) == {'a.b': 3}
  assert type(scalars.fields({'a.b': np.int64(3)})['a.b']) is int
  inputs = call_inputs.check_inputs(IMAGES, LABELS, None, np.float32(0.25))
  assert inputs.held_out == 24


def test_outputs_of_other_images_are_refused():
  module = Small()
  variables = module.init(jax.random.key(1), IMAGES[:1] / 255, train=False)
  teacher = kd_jax.store_outputs((module, variables), IMAGES[::-1])
  with pytest.raises(errors.UserError, match='those of other images'):
    kd_jax.distill(IMAGES, LABELS, teacher, **QUICK)
