"""All methods: values and gradients of their formulas, and invariances.

Also tests `kd_jax/methods/adapters.py` and `kd_jax/methods/review.py`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import methods
from tests.methods import float64, references
from tests.methods.method_calls import (
  BATCH,
  FUNCTIONS,
  INPUTS,
  gradient,
  is_finite,
  is_learned,
  loss,
  make_inputs,
  split_static,
  take,
)


def _unmasked(inputs):
  inputs = float64.in_float64(inputs)
  return {k: v for k, v in inputs.items() if k != 'mask'}


def test_every_method_has_its_function_as_name_and_a_reference():
  for name, method in methods.METHODS.items():
    assert method.fn.__name__ == name
    assert 'Reference: ' in method.fn.__doc__
  assert all(hasattr(references, name) for name in FUNCTIONS)


@pytest.mark.parametrize('bits', (0, 2, 3, 8))
def test_quantized_equals_the_formula_for_other_bits(bits):
  inputs = make_inputs('quantized') | {
    'student_bits': bits,
    'feature_levels': 2 ** (bits or 16) - 1,
  }
  np.testing.assert_allclose(
    loss('quantized', inputs),
    float64.reference_loss('quantized', inputs),
    rtol=2e-4,
  )


@pytest.mark.parametrize('name', FUNCTIONS)
def test_gradients_equal_finite_differences_of_the_formula(name):
  inputs = make_inputs(name, 1)
  computed, rng = gradient(name, inputs), np.random.default_rng(2)
  reference, in_float64 = getattr(references, name), _unmasked(inputs)
  learned = jax.tree.map(
    np.float64, {k: v for k, v in inputs.items() if is_learned(name, k)}
  )
  constants = float64.constants(name, inputs)
  for _ in range(4):
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), learned)

    def moved_loss(step, direction=direction):
      moved = jax.tree.map(lambda x, way: x + step * way, learned, direction)
      return np.sum(reference(**in_float64 | constants | moved))

    expected = (moved_loss(1e-6) - moved_loss(-1e-6)) / 2e-6
    slope = sum(
      np.sum(np.float64(g) * d)
      for g, d in zip(
        jax.tree.leaves(computed), jax.tree.leaves(direction), strict=True
      )
    )
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-4)


# Objectives stop the gradient of the teacher's features, and training stops the
# gradient of a discriminator's loss into the student: see test_objective.py
# and test_adversarial.py.
@pytest.mark.parametrize(
  'name',
  [
    name
    for name in FUNCTIONS
    if 'teacher_logits' in INPUTS[name]
    and not name.endswith('_discriminator_loss')
  ],
)
def test_no_gradient_flows_into_the_teachers_logits(name):
  inputs = make_inputs(name)
  arrays, static = split_static(inputs)
  total = lambda teacher: jnp.sum(
    FUNCTIONS[name][1](**arrays | teacher, **static)
  )
  teacher = {'teacher_logits': inputs['teacher_logits']}
  teacher_gradient = jax.jit(jax.grad(total))(teacher)['teacher_logits']
  np.testing.assert_array_equal(teacher_gradient, 0)


@pytest.mark.parametrize('name', FUNCTIONS)
def test_the_order_of_examples_does_not_matter(name):
  inputs, order = make_inputs(name), np.array([3, 0, 5, 1, 4, 2])
  np.testing.assert_allclose(
    loss(name, take(inputs, order)),
    loss(name, inputs)[order],
    rtol=1e-4,
    atol=1e-6,
  )


def _spoil_padding(inputs, value):
  """Returns inputs in which the examples from the fifth on have a value."""

  def spoil(x):
    x = x.copy()
    x[4:] = value
    return x

  return inputs | {
    k: jax.tree.map(spoil, v)
    for k, v in inputs.items()
    if value is not None and k.endswith(('_logits', '_features'))
  }


@pytest.mark.parametrize(
  'name, padding',
  [(name, None) for name in FUNCTIONS]
  + [
    (name, padding)
    for name in FUNCTIONS
    if 'mask' in INPUTS[name]
    for padding in (np.nan, np.inf)
  ],
)
def test_a_masked_batch_equals_its_unmasked_part(name, padding):
  inputs = make_inputs(name)
  if 'mask' not in inputs:  # The losses of examples are independent.
    part = loss(name, take(inputs, np.arange(4)))
    np.testing.assert_allclose(part, loss(name, inputs)[:4], rtol=1e-5)
    return
  masked = _spoil_padding(inputs, padding)
  masked |= {'mask': (np.arange(BATCH) < 4).astype('float32')}
  part = take(inputs, np.arange(4))
  np.testing.assert_allclose(
    loss(name, masked)[:4], loss(name, part), rtol=1e-4, atol=1e-6
  )
  computed = gradient(name, masked, count=4)
  expected = gradient(name, part)
  for key in expected.keys() & {'adapters', 'discriminator'}:
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5),
      computed[key],
      expected[key],
    )
  for key in expected.keys() - {'adapters', 'discriminator'}:
    for masked_part, unmasked in zip(
      jax.tree.leaves(computed[key]),
      jax.tree.leaves(expected[key]),
      strict=True,
    ):
      np.testing.assert_allclose(
        masked_part[:4], unmasked, rtol=1e-3, atol=1e-5
      )
      np.testing.assert_allclose(masked_part[4:], 0, atol=1e-6)


# A discriminator distinguishes classes.
@pytest.mark.parametrize(
  'name',
  [
    name
    for name in FUNCTIONS
    if 'student_logits' in INPUTS[name] and 'discriminator' not in INPUTS[name]
  ],
)
def test_the_order_of_classes_does_not_matter(name):
  inputs, order = make_inputs(name), np.array([2, 0, 3, 1])
  moved = {
    k: v[:, order] if k.endswith('_logits') else v for k, v in inputs.items()
  }
  if 'labels' in inputs:
    moved['labels'] = np.argsort(order)[inputs['labels']]
  np.testing.assert_allclose(
    loss(name, moved), loss(name, inputs), rtol=1e-4, atol=1e-6
  )


# The least value of `soft_cross_entropy` is the teacher's entropy. Losses with
# adapters, a discriminator or a peer also depend on these.
@pytest.mark.parametrize(
  'name',
  [
    name
    for name in FUNCTIONS
    if name != 'soft_cross_entropy'
    and not {'adapters', 'discriminator', 'peer_logits'} & INPUTS[name]
  ],
)
def test_a_student_that_equals_its_teacher_has_no_loss_and_no_gradient(name):
  inputs = make_inputs(name)
  for kind in ('logits', 'features'):
    if f'student_{kind}' in inputs:
      inputs[f'student_{kind}'] = inputs[f'teacher_{kind}']
  np.testing.assert_allclose(loss(name, inputs), 0, atol=1e-5)
  for leaf in jax.tree.leaves(gradient(name, inputs)):
    np.testing.assert_allclose(leaf, 0, atol=1e-3)


# Feature maps of a ResNet for 28x28 images, and larger ones: sizes that divide
# each other (7 and 14), and sizes that do not (4 and 7).
_ODD = ((7, 7, 4), (4, 4, 5))
_LARGER = ((14, 14, 3), (7, 7, 4))


@pytest.mark.parametrize(
  'name',
  [
    name
    for name, (method, _) in FUNCTIONS.items()
    if method.layers != 'last' and 'teacher_features' in INPUTS[name]
  ],
)
def test_maps_of_any_size_can_be_compared(name):
  for shapes in ((_ODD, _LARGER), (_LARGER, _ODD)):
    assert is_finite(name, make_inputs(name, batch=2, shapes=shapes))
