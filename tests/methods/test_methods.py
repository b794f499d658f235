"""Every method: its formula in float64, its identities, and bad inputs."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references

from kd_jax import losses, methods
from kd_jax.methods import vectors

METHODS = methods.METHODS
# By name: the method each belongs to, and the function. `ard`, which calls the
# student, is in test_adversarial.py.
FUNCTIONS = {
  fn.__name__: (method, fn)
  for method in METHODS.values()
  for fn in (method.fn, method.discriminator_loss)
  if fn is not None and fn.__name__ != 'ard'
}
INPUTS = {
  name: {*inspect.signature(fn).parameters} & {*methods.INPUTS}
  for name, (_, fn) in FUNCTIONS.items()
}
RESPONSES = [n for n in FUNCTIONS if 'student_logits' in INPUTS[n]]
BATCH, NUM_CLASSES, TEMPERATURE = 6, 4, 2.5
# Of two layers, of other sizes and channels in the teacher.
STUDENT_SHAPES = ((4, 4, 3), (2, 2, 6))
TEACHER_SHAPES = ((8, 8, 5), (2, 2, 4))
# What is differentiated, by a method and by its rival.
LEARNED = ('student_logits', 'student_features', 'peer_logits', 'adapters')


def _is_learned(name, key):
  if FUNCTIONS[name][1] is FUNCTIONS[name][0].discriminator_loss:
    return key == 'discriminator'
  return key in LEARNED


def _inputs(name, seed=0, batch=BATCH, num_classes=NUM_CLASSES, shapes=None):
  """Random inputs of a method, and its options at their defaults."""
  (method, fn), rng = FUNCTIONS[name], np.random.default_rng(seed)
  student_shapes, teacher_shapes = shapes or (STUDENT_SHAPES, TEACHER_SHAPES)
  normal = lambda *shape: rng.normal(size=shape).astype('float32')
  inputs = {
    'student_logits': 2 * normal(batch, num_classes),
    'teacher_logits': 2 * normal(batch, num_classes),
    'labels': (np.arange(batch) % num_classes).astype('int32'),
    'mask': np.ones(batch, 'float32'),
    'temperature': np.float32(TEMPERATURE),
    'student_features': tuple(normal(batch, *s) for s in student_shapes),
    'teacher_features': tuple(normal(batch, *s) for s in teacher_shapes),
    'peer_logits': 2 * normal(batch, num_classes),
    'feature_levels': 15,
  }
  options = {
    k: p.default
    for k, p in inspect.signature(fn).parameters.items()
    if k not in methods.INPUTS
  }
  key, shapes = jax.random.key(seed), (student_shapes, teacher_shapes)
  # Away from where they start, where biases are 0 and gains 1.
  move = lambda leaf: np.asarray(leaf) + 0.1 * normal(*leaf.shape)
  if method.init is not None:
    _, static = methods.split_options(options)
    inputs['adapters'] = jax.tree.map(move, method.init(key, *shapes, **static))
  if method.init_discriminator is not None:
    rival = method.init_discriminator(key, *shapes, num_classes=num_classes)
    inputs['discriminator'] = jax.tree.map(move, discriminator)
  return {k: v for k, v in inputs.items() if k in INPUTS[name]} | options


def _split(inputs):
  """Arrays and numbers, which are traced, and options that are not."""
  static = {k: v for k, v in inputs.items() if isinstance(v, int)}
  return {k: v for k, v in inputs.items() if k not in static}, static


@functools.cache
def _compiled(name, static, count):
  """Returns losses, and the gradient of the sum of the first `count`."""

  def total(learned, arrays):
    loss = FUNCTIONS[name][1](**arrays | learned, **dict(static))
    return jnp.sum(loss[:count]), loss

  return jax.jit(jax.grad(total, has_aux=True))


def _loss_and_gradient(name, inputs, count=None):
  arrays, static = _split(inputs)
  learned = {k: v for k, v in arrays.items() if _is_learned(name, k)}
  program = _compiled(name, tuple(static.items()), count)
  gradient, loss = program(learned, arrays)
  return loss, gradient


def _loss(name, inputs):
  return _loss_and_gradient(name, inputs)[0]


def _gradient(name, inputs, count=None):
  return _loss_and_gradient(name, inputs, count)[1]


def _reference(name, inputs):
  """The method in float64; of examples that all count."""
  inputs = jax.tree.map(
    lambda x: np.float64(x) if isinstance(x, np.ndarray | np.float32) else x,
    inputs,
  )
  inputs.pop('mask', None)
  if 'labels' in inputs:
    inputs['labels'] = inputs['labels'].astype(int)
  return getattr(references, name)(**inputs)


def test_every_method_has_its_name_and_says_where_it_is_from():
  for name, method in METHODS.items():
    assert method.fn.__name__ == name
    assert 'Reference: ' in method.fn.__doc__
  assert all(hasattr(references, name) for name in FUNCTIONS)


@pytest.mark.parametrize('name', FUNCTIONS)
def test_values_are_those_of_the_formula(name):
  for seed in range(3):
    inputs = _inputs(name, seed)
    loss = _loss(name, inputs)
    assert loss.shape == (BATCH,) and loss.dtype == jnp.float32
    np.testing.assert_allclose(
      loss,
      _reference(name, inputs | _constants(name, inputs)),
      rtol=2e-4,
      atol=1e-6,
    )


@pytest.mark.parametrize('bits', (0, 2, 3, 8))
def test_mimics_of_other_bits_are_those_of_the_formula(bits):
  inputs = _inputs('quantized') | {
    'student_bits': bits,
    'feature_levels': 2 ** (bits or 16) - 1,
  }
  np.testing.assert_allclose(
    _loss('quantized', inputs),
    _reference('quantized', inputs | _constants('quantized', inputs)),
    rtol=2e-4,
  )


def test_a_student_can_reach_what_it_mimics_where_its_map_is_smaller():
  # Levels of 2 bits, whose averages are between them.
  levels = np.random.default_rng(0).integers(0, 4, (BATCH, 2, 2, 3))
  teacher = (levels / 3).astype('float32')
  averages = teacher.mean((1, 2), keepdims=True)
  assert (np.abs(3 * averages - np.rint(3 * averages)) > 0.1).any()
  inputs = {
    'student_features': (averages,),
    'teacher_features': (teacher,),
    'feature_levels': 3,
    'adapters': [{'kernel': np.eye(3, dtype='float32'), 'bias': np.zeros(3)}],
    'student_bits': 2,
  }
  np.testing.assert_allclose(_loss('quantized', inputs), 0, atol=1e-12)


@pytest.mark.parametrize('name', FUNCTIONS)
def test_gradients_are_those_of_the_formula(name):
  inputs = _inputs(name, 1)
  gradient, rng = _gradient(name, inputs), np.random.default_rng(2)
  learned = jax.tree.map(
    np.float64, {k: v for k, v in inputs.items() if _is_learned(name, k)}
  )
  constant = _constants(name, inputs)
  for _ in range(4):
    way = jax.tree.map(lambda x: rng.normal(size=x.shape), learned)

    up, down = (
      np.sum(
        _reference(
          name,
          inputs
          | constant
          | jax.tree.map(lambda x, w, e=step: x + e * w, learned, way),
        )
      )
      for step in (1e-6, -1e-6)
    )
    slope = (up - down) / 2e-6
    ours = sum(
      np.sum(np.float64(g) * w)
      for g, w in zip(
        jax.tree.leaves(gradient), jax.tree.leaves(way), strict=True
      )
    )
    np.testing.assert_allclose(ours, slope, rtol=1e-3, atol=1e-4)


def _constants(name, inputs):
  """What a gradient takes as constant, though it is the student's."""
  if name == 'crd':
    return {'scales': _crd_scales(inputs)}
  if name == 'mutual':
    return {
      'constant': tuple(
        np.float64(inputs[k]) for k in ('student_logits', 'peer_logits')
      )
    }
  if name == 'quantized':
    in_float64 = jax.tree.map(
      np.float64,
      {k: v for k, v in inputs.items() if k.endswith(('features', 'adapters'))},
    )
    bits = inputs['student_bits']
    return {'offsets': references.quantized_offsets(**in_float64, bits=bits)}
  return {}


def _crd_scales(inputs):
  scales = []
  for s, t, own in zip(
    inputs['student_features'],
    inputs['teacher_features'],
    inputs['adapters'],
    strict=True,
  ):
    a, b = (
      (y := x.reshape(BATCH, -1) @ layer['kernel'] + layer['bias'])
      / np.linalg.norm(y, axis=1, keepdims=True)
      for x, layer in zip((s, t), own, strict=True)
    )
    scales.append(
      [
        references.crd_scale(x, y, inputs['labels'], inputs['tau'])
        for x, y in ((a, b), (b, a))
      ]
    )
  return scales


# Into features nothing flows that objectives have not stopped, and into the
# student nothing of a rival's (test_objectives.py, test_adversarial.py).
@pytest.mark.parametrize(
  'name',
  [
    name
    for name in FUNCTIONS
    if 'teacher_logits' in INPUTS[name] and not name.startswith('tell_')
  ],
)
def test_nothing_flows_into_the_teachers_logits(name):
  inputs = _inputs(name)
  arrays, static = _split(inputs)
  total = lambda teacher: jnp.sum(
    FUNCTIONS[name][1](**arrays | teacher, **static)
  )
  teacher = {'teacher_logits': inputs['teacher_logits']}
  gradient = jax.jit(jax.grad(total))(teacher)['teacher_logits']
  np.testing.assert_array_equal(gradient, 0)


def _take(inputs, index):
  """The inputs of some of the examples, or of these in another order."""
  by_example = set(methods.INPUTS) - {
    'temperature',
    'adapters',
    'discriminator',
    'feature_levels',
  }
  return {
    k: jax.tree.map(lambda x: x[index], v) if k in by_example else v
    for k, v in inputs.items()
  }


@pytest.mark.parametrize('name', FUNCTIONS)
def test_the_order_of_examples_does_not_matter(name):
  inputs, order = _inputs(name), np.array([3, 0, 5, 1, 4, 2])
  np.testing.assert_allclose(
    _loss(name, _take(inputs, order)),
    _loss(name, inputs)[order],
    rtol=1e-4,
    atol=1e-6,
  )


@pytest.mark.parametrize('name', FUNCTIONS)
def test_a_mask_is_a_subset(name):
  inputs = _inputs(name)
  if 'mask' not in inputs:  # Each example is on its own.
    part = _loss(name, _take(inputs, np.arange(4)))
    np.testing.assert_allclose(part, _loss(name, inputs)[:4], rtol=1e-5)
    return
  masked = inputs | {'mask': (np.arange(BATCH) < 4).astype('float32')}
  part = _take(inputs, np.arange(4))
  np.testing.assert_allclose(
    _loss(name, masked)[:4], _loss(name, part), rtol=1e-4, atol=1e-6
  )
  gradient = _gradient(name, masked, count=4)
  expected = _gradient(name, part)
  for key in expected.keys() & {'adapters', 'discriminator'}:
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5),
      gradient[key],
      expected[key],
    )
  for key in expected.keys() - {'adapters', 'discriminator'}:
    for ours, theirs in zip(
      jax.tree.leaves(gradient[key]),
      jax.tree.leaves(expected[key]),
      strict=True,
    ):
      np.testing.assert_allclose(ours[:4], theirs, rtol=1e-3, atol=1e-5)
      np.testing.assert_allclose(ours[4:], 0, atol=1e-6)


# A discriminator knows classes apart.
@pytest.mark.parametrize(
  'name', [name for name in RESPONSES if 'discriminator' not in INPUTS[name]]
)
def test_the_order_of_classes_does_not_matter(name):
  inputs, order = _inputs(name), np.array([2, 0, 3, 1])
  moved = {
    k: v[:, order] if k.endswith('_logits') else v for k, v in inputs.items()
  }
  if 'labels' in inputs:
    moved['labels'] = np.argsort(order)[inputs['labels']]
  np.testing.assert_allclose(
    _loss(name, moved), _loss(name, inputs), rtol=1e-4, atol=1e-6
  )


def _is_finite(name, inputs):
  leaves = jax.tree.leaves(_loss_and_gradient(name, inputs))
  return all(np.isfinite(leaf).all() for leaf in leaves)


@pytest.mark.parametrize('name', FUNCTIONS)
def test_values_and_gradients_stay_finite(name):
  usual = _inputs(name)
  assert _is_finite(name, usual)
  assert _is_finite(name, _inputs(name, batch=1))
  assert _is_finite(name, _inputs(name, num_classes=2))
  assert _is_finite(name, usual | {
    k: jax.tree.map(np.zeros_like, v) for k, v in usual.items()
    if k.endswith(('_logits', '_features'))
  })  # fmt: skip
  alike = _take(usual, np.zeros(BATCH, int))
  assert _is_finite(name, alike)
  if 'mask' in usual:
    assert _is_finite(name, usual | {'mask': np.zeros(BATCH, 'float32')})
  if name in RESPONSES:
    for scale in (1e4, -1e4):
      sure = scale * np.eye(NUM_CLASSES, dtype='float32')[np.arange(BATCH) % 4]
      extreme = {k: sure for k in usual if k.endswith('_logits')}
      for key in extreme:
        assert _is_finite(name, usual | {key: sure})
      extreme['student_logits'] = np.roll(sure, 1, axis=1)
      assert _is_finite(name, usual | extreme)


@pytest.mark.parametrize(
  'name',
  [
    name
    for name, (method, _) in FUNCTIONS.items()
    # Of the former the least value is the teacher's entropy; what is learned
    # beside the student has a part in the others.
    if name != 'soft_cross_entropy'
    and not {'adapters', 'discriminator', 'peer_logits'} & INPUTS[name]
  ],
)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name):
  inputs = _inputs(name)
  for kind in ('logits', 'features'):
    if f'student_{kind}' in inputs:
      inputs[f'student_{kind}'] = inputs[f'teacher_{kind}']
  np.testing.assert_allclose(_loss(name, inputs), 0, atol=1e-5)
  for gradient in jax.tree.leaves(_gradient(name, inputs)):
    np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_dkd_is_kl_where_its_weights_are_the_teachers_confidence():
  inputs = _inputs('dkd')
  student, teacher = inputs['student_logits'], inputs['teacher_logits']
  probs = jax.nn.softmax(teacher / TEMPERATURE)
  of_target = probs[np.arange(BATCH), inputs['labels']]
  weights = {'alpha': 1.0, 'beta': 1 - of_target}
  expected = losses.kl(student, teacher, temperature=TEMPERATURE)
  np.testing.assert_allclose(
    _loss('dkd', inputs | weights), expected, rtol=1e-5
  )
  gradient = jax.grad(
    lambda s: jnp.sum(losses.kl(s, teacher, temperature=TEMPERATURE))
  )(student)
  np.testing.assert_allclose(
    _gradient('dkd', inputs | weights)['student_logits'], gradient, atol=1e-5
  )


def test_dist_ignores_scale_and_shift_of_the_predictions():
  # Half of the teacher's probabilities and half of the uniform ones.
  inputs = _inputs('dist')
  probs = jax.nn.softmax(inputs['teacher_logits'] / TEMPERATURE)
  student = TEMPERATURE * jnp.log(0.5 * probs + 0.5 / NUM_CLASSES)
  loss = _loss('dist', inputs | {'student_logits': student})
  np.testing.assert_allclose(loss, 0, atol=1e-5)
  assert np.all(losses.kl(student, inputs['teacher_logits']) > 0.01)


def test_standardized_logits_have_no_scale_and_no_shift():
  inputs = _inputs('logit_standardization')
  moved = {'student_logits': 7 * inputs['student_logits'] - 3}
  np.testing.assert_allclose(
    _loss('logit_standardization', inputs | moved),
    _loss('logit_standardization', inputs),
    rtol=1e-4,
  )


@pytest.mark.parametrize('name', ('rkd', 'similarity', 'correlation'))
def test_relations_are_the_same_in_other_coordinates(name):
  shapes = (((5,),), ((7,),))
  inputs = _inputs(name, shapes=shapes)
  (features,) = inputs['student_features']
  rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))
  moved = 3 * features @ rotation.astype('float32')
  if name == 'rkd':  # The others compare directions from the origin.
    moved += 10
  np.testing.assert_allclose(
    _loss(name, inputs | {'student_features': (moved,)}),
    _loss(name, inputs),
    rtol=1e-3,
    atol=1e-6,
  )


def test_examples_next_to_each_other_are_at_one_place_for_rkd():
  """Their distance is a difference of what is far larger than it."""
  inputs = _inputs('rkd', shapes=(((5,),), ((7,),)))
  (features,) = inputs['student_features']
  features[1] = features[0]
  near = features * np.where(np.arange(BATCH) == 1, 1 + 1e-6, 1)[:, None]
  moved = inputs | {'student_features': (near.astype('float32'),)}
  assert (moved['student_features'][0][1] != features[1]).any()
  np.testing.assert_allclose(
    _loss('rkd', moved), _loss('rkd', inputs), rtol=1e-4
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3),
    _gradient('rkd', moved),
    _gradient('rkd', inputs),
  )


def test_attention_does_not_see_channels_or_their_scale():
  inputs = _inputs('attention')
  moved = tuple(-2 * x[..., ::-1] for x in inputs['student_features'])
  np.testing.assert_allclose(
    _loss('attention', inputs | {'student_features': moved}),
    _loss('attention', inputs),
    rtol=1e-4,
  )


def test_hints_that_are_linear_in_the_students_features_cost_nothing():
  inputs = _inputs('hint', shapes=(((2, 2, 3),), ((2, 2, 5),)))
  (own,), (adapter,) = inputs['student_features'], inputs['adapters']
  teacher = own @ adapter['map']['kernel'] + 3
  adapter['norm'] = {
    'scale': teacher.std((0, 1, 2)),
    'bias': teacher.mean((0, 1, 2)),
  }
  inputs['teacher_features'] = (teacher,)
  np.testing.assert_allclose(_loss('hint', inputs), 0, atol=1e-4)


def test_crd_wants_an_examples_own_teacher():
  shapes = (((8,),), ((8,),))
  inputs = _inputs('crd', shapes=shapes)
  (maps,) = inputs['adapters']
  inputs['adapters'] = [[maps[0], maps[0]]]
  (own,) = inputs['teacher_features']
  matched = _loss('crd', inputs | {'student_features': (own,)})
  others = np.roll(own, 1, axis=0)
  mixed = _loss('crd', inputs | {'student_features': (others,)})
  assert np.all(matched < mixed - 1)


def test_features_that_cannot_be_compared_are_named():
  vectors = (((5,),), ((7,),))
  for name in ('attention', 'review'):
    with pytest.raises(ValueError, match='needs maps.*choose other layers'):
      _loss(name, _inputs(name, shapes=vectors))
  with pytest.raises(ValueError, match='a map and a vector'):
    _loss('hint', _inputs('hint', shapes=(((2, 2, 3),), ((7,),))))


# As a ResNet has them of 28x28 images.
_ODD = ((14, 14, 3), (7, 7, 4), (4, 4, 5), (2, 2, 6))
_OTHERS = ((28, 28, 2), (14, 14, 3), (7, 7, 4), (4, 4, 5))


@pytest.mark.parametrize(
  'name',
  [
    name
    for name, (method, _) in FUNCTIONS.items()
    if method.layers != 'last' and 'teacher_features' in INPUTS[name]
  ],
)
def test_maps_of_any_size_can_be_compared(name):
  assert _is_finite(name, _inputs(name, batch=2, shapes=(_ODD, _OTHERS)))
  assert _is_finite(name, _inputs(name, batch=2, shapes=(_OTHERS, _ODD)))


def test_windows_of_a_map_are_as_even_as_its_size_allows():
  line = jnp.arange(7.0)[None, :, None, None]
  # 0 to 2, 1.75 to 3.5, 3.5 to 5.25, 5.25 to 7: what they touch.
  np.testing.assert_allclose(
    vectors.pool(line, 1, 4).ravel(), [0.5, 2, 4, 5.5], rtol=1e-6
  )
  np.testing.assert_allclose(
    vectors.pool(line[:, :6], 1, 3).ravel(), [0.5, 2.5, 4.5], rtol=1e-6
  )
  both = jax.random.normal(jax.random.key(0), (2, 7, 5, 3))
  np.testing.assert_allclose(
    vectors.pool(vectors.pool(both, 1, 1), 2, 1),
    both.mean((1, 2), keepdims=True),
    rtol=1e-5,
  )
