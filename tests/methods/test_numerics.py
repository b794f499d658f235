"""All methods in float32 against float64: random, extreme, degenerate inputs.

The registry gives the list of functions, so a new method is tested without a
line here. Values and gradients are compared with those of the method's own code
in float64. Where the formulas of references.py hold, values are compared with
these as well.
"""

import inspect

import jax
import numpy as np
import pytest

from tests.methods import float64
from tests.methods.method_calls import (
  BATCH,
  FUNCTIONS,
  INPUTS,
  NUM_CLASSES,
  gradient,
  loss_and_gradient,
  make_inputs,
  take,
)

# The inputs of both networks that a function compares.
_STUDENT = ('student_features', 'student_logits', 'peer_logits')
_TEACHER = ('teacher_features', 'teacher_logits')


def _change(inputs, ending, change):
  """Returns inputs in which the arrays of some names are changed."""

  def changed(x):
    return np.asarray(change(x), x.dtype if hasattr(x, 'dtype') else 'float32')

  return inputs | {
    name: jax.tree.map(changed, value)
    for name, value in inputs.items()
    if name.endswith(ending)
  }


def _scale(ending, factor):
  return lambda inputs: _change(inputs, ending, lambda x: factor * x)


def _with_temperature(temperature):
  return lambda inputs: _change(inputs, 'temperature', lambda _: temperature)


def _clusters(spread):
  """Returns a change of inputs after which examples lie in two clusters."""

  def move(x):
    centers = x[:2][np.arange(len(x)) % 2]
    return centers + spread * (x - centers)

  return lambda inputs: _change(inputs, ('_features', '_logits'), move)


def _zero_rows(inputs):
  """Sets rows of both networks to 0, such as ReLUs without an active unit.

  As in a training's first step, adapters have no bias.
  """

  def clear(*rows):
    return lambda x: (
      x * ~np.isin(np.arange(len(x)), rows).reshape(-1, *(1,) * (x.ndim - 1))
    )

  inputs = _change(inputs, _STUDENT, clear(0, 1))
  inputs = _change(inputs, _TEACHER, clear(1, 2))
  without_bias = jax.tree_util.tree_map_with_path(
    lambda path, x: 0 * x if path[-1].key == 'bias' else x,
    {'adapters': inputs.get('adapters', ())},
  )
  return inputs | (without_bias if 'adapters' in inputs else {})


def _sure(inputs):
  """Makes the teacher sure of a class, and the student of another."""
  logits = 1e4 * np.eye(NUM_CLASSES)[np.arange(BATCH) % NUM_CLASSES]
  inputs = _change(inputs, 'teacher_logits', lambda _: logits)
  others = np.roll(logits, 1, axis=1)
  return _change(inputs, ('student_logits', 'peer_logits'), lambda _: others)


_BOTH = ('_features', '_logits')
# By case: endings of the names of inputs that change, and the change.
# The formulas of references.py hold for these.
REGULAR = {
  'random': ('', lambda inputs: inputs),
  'tiny_features': ('_features', _scale('_features', 1e-6)),
  'huge_features': ('_features', _scale('_features', 1e6)),
  'tiny_student': ('student_features', _scale('student_features', 1e-6)),
  'tiny_logits': ('_logits', _scale('_logits', 1e-3)),
  'large_logits': ('_logits', _scale('_logits', 10)),
  'temperature_20': ('temperature', _with_temperature(20)),
  'temperature_1e3': ('temperature', _with_temperature(1e3)),
  'temperature_1e4': ('temperature', _with_temperature(1e4)),
  'clusters_1e-2': (_BOTH, _clusters(1e-2)),
  'clusters_1e-3': (_BOTH, _clusters(1e-3)),
}
DEGENERATE = {
  'zero_rows': (_BOTH, _zero_rows),
  'zeros': (_BOTH, lambda inputs: _zero_rows(_scale(_BOTH, 0)(inputs))),
  'equal_examples': ('', lambda inputs: take(inputs, np.zeros(BATCH, int))),
  'equal_pairs': ('', lambda inputs: take(inputs, np.arange(BATCH) // 2)),
  'one_class': ('labels', _scale('labels', 0)),
  'only_padding': ('mask', _scale('mask', 0)),
  'sure': ('_logits', _sure),
}
# Cases without an example that is further from its target than usual.
SMALL = ('zero_rows', 'zeros', 'equal_examples', 'equal_pairs')


def _cases(changes):
  """Returns (function, case) for changes of inputs that a function takes."""
  return [
    (name, case)
    for name, (_, fn) in FUNCTIONS.items()
    for case, (ending, _) in changes.items()
    if any(key.endswith(ending) for key in inspect.signature(fn).parameters)
  ]


def _flat(tree):
  leaves = [np.ravel(np.float64(leaf)) for leaf in jax.tree.leaves(tree)]
  return np.concatenate(leaves)


def _assert_near(computed, expected, *, rtol, atol=0.0):
  """Compares all leaves together, by the length of their difference."""
  computed, expected = _flat(computed), _flat(expected)
  difference = np.linalg.norm(computed - expected)
  assert difference <= rtol * np.linalg.norm(expected) + atol


@pytest.mark.parametrize('name, case', _cases(REGULAR))
def test_float32_equals_float64(name, case):
  inputs = REGULAR[case][1](make_inputs(name))
  values, slopes = loss_and_gradient(name, inputs)
  with np.errstate(all='ignore'):
    formula = float64.reference_loss(name, inputs)
  if np.isfinite(formula).all():  # That of `vid` can be too small a density.
    _assert_near(values, formula, rtol=2e-4)
  expected_values, expected_slopes = float64.own_loss_and_gradient(name, inputs)
  _assert_near(values, expected_values, rtol=2e-4)
  _assert_near(slopes, expected_slopes, rtol=1e-3)


@pytest.mark.parametrize('name, case', _cases(DEGENERATE))
def test_degenerate_inputs_have_the_values_and_small_gradients_of_float64(
  name, case
):
  usual = make_inputs(name)
  inputs = DEGENERATE[case][1](usual)
  values, slopes = loss_and_gradient(name, inputs)
  expected = float64.own_loss_and_gradient(name, inputs)
  _assert_near(values, expected[0], rtol=1e-4, atol=1e-5)
  _assert_near(slopes, expected[1], rtol=1e-3, atol=1e-4)
  if case in SMALL:  # A step moves no further than one of usual examples.
    most = 1e3 * (1 + np.linalg.norm(_flat(gradient(name, usual))))
    assert np.linalg.norm(_flat(slopes)) < most


@pytest.mark.parametrize('factor', (1e-6, 1e-3, 1e3, 1e6))
@pytest.mark.parametrize('side', ('student_features', 'teacher_features'))
@pytest.mark.parametrize(
  'name', ('attention', 'similarity', 'rkd', 'correlation', 'crd')
)
def test_the_scale_of_features_does_not_matter(name, side, factor):
  inputs = make_inputs(name)
  if name == 'crd':  # A bias has a scale.
    for layer in jax.tree.leaves(
      inputs['adapters'], is_leaf=lambda x: 'bias' in x
    ):
      layer['bias'] = 0 * layer['bias']
  values, slopes = loss_and_gradient(name, inputs)
  scaled = _scale(side, factor)(inputs)
  scaled_values, scaled_slopes = loss_and_gradient(name, scaled)
  _assert_near(scaled_values, values, rtol=1e-5)
  of_features = scaled_slopes['student_features']
  if side == 'student_features':
    of_features = jax.tree.map(lambda x: factor * x, of_features)
  _assert_near(of_features, slopes['student_features'], rtol=1e-4)


def _student_slope(name, inputs):
  slopes = gradient(name, inputs)
  return np.linalg.norm(_flat([slopes[k] for k in _STUDENT if k in slopes]))


@pytest.mark.parametrize(
  'name',
  [
    name
    for name in FUNCTIONS
    if 'student_logits' in INPUTS[name]
    and not name.endswith('_discriminator_loss')
  ],
)
def test_two_classes_are_enough_to_learn_or_are_refused(name):
  inputs = make_inputs(name, num_classes=2)
  try:
    assert _student_slope(name, inputs) > 1e-3
  except ValueError as error:
    assert '2 classes are too few' in str(error)


@pytest.mark.parametrize(
  'name',
  [
    name for name, (method, _) in FUNCTIONS.items() if method.least_examples > 1
  ],
)
def test_the_least_number_of_examples_is_the_least_that_has_a_gradient(name):
  method, _ = FUNCTIONS[name]
  # Vectors of a large scale: a map has positions to compare even in a single
  # example, and a batch norm adds a constant. And two classes, for `dist`.
  shapes = (((5,),), ((7,),))
  inputs = make_inputs(name, num_classes=2, shapes=shapes)
  inputs = _scale('student_features', 100)(inputs)

  def slope(count):
    mask = (np.arange(BATCH) < count).astype('float32')
    part = inputs | {'mask': mask}
    slopes = gradient(name, part, count=1)
    return np.linalg.norm(_flat([slopes[k] for k in _STUDENT if k in slopes]))

  assert slope(method.least_examples - 1) < 1e-3 * slope(method.least_examples)


def test_fewer_classes_than_a_method_needs_are_refused():
  for name, classes in (('logit_standardization', 2), ('dkd', 1)):
    with pytest.raises(ValueError, match=f'{classes} classes are too few'):
      loss_and_gradient(name, make_inputs(name, num_classes=classes))


def test_a_label_that_is_no_class_makes_its_examples_loss_nan():
  inputs = make_inputs('dkd', batch=4) | {
    'labels': np.array([0, -1, NUM_CLASSES, NUM_CLASSES - 1], 'int32')
  }
  values, slopes = loss_and_gradient('dkd', inputs)
  np.testing.assert_array_equal(np.isnan(values), [False, True, True, False])
  assert np.isfinite(slopes['student_logits']).all()  # Padding may be -1.
