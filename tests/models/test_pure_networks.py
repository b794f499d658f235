"""Modules of NNX and Equinox, and plain functions, as pure networks."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kd_jax.models import apply, user

IMAGE = (8, 8, 1)
NAMES = {
  'nnx': 'examples.nnx_network:student',
  'equinox': 'examples.equinox_network:student',
  'functions': 'examples.pure_functions:Student',
}


@pytest.fixture(scope='module', params=NAMES)
def network(request):
  """Returns a network, its variables and its compiled call."""
  module = user.make_module(NAMES[request.param], 10)
  variables = apply.init_variables(module, IMAGE, jax.random.key(0))
  forward = jax.jit(apply.make_apply(module), static_argnames='train')
  return module, variables, forward


def _images(count=6):
  return jax.random.uniform(jax.random.key(1), (count, *IMAGE))


def test_seeds_have_different_initial_weights(network):
  module, variables, _ = network
  other = apply.init_variables(module, IMAGE, jax.random.key(1))
  pairs = zip(*map(jax.tree.leaves, (variables, other)), strict=True)
  assert any(np.any(a != b) for a, b in pairs)


def test_dropout_follows_the_key(network):
  _, variables, forward = network
  call = lambda seed: forward(
    variables, _images(), train=True, key=jax.random.key(seed)
  )[0]
  np.testing.assert_array_equal(call(0), call(0))
  assert np.any(call(0) != call(1))


def test_statistics_change_in_training_and_only_there(network):
  _, variables, forward = network
  before = jax.tree.leaves(variables['batch_stats'])
  assert before
  *_, after = forward(variables, _images(), train=True, key=jax.random.key(0))
  for a, b in zip(before, jax.tree.leaves(after), strict=True):
    assert np.any(a != b)
  *_, after = forward(variables, _images(), train=False, key=None)
  for a, b in zip(before, jax.tree.leaves(after), strict=True):
    np.testing.assert_array_equal(a, b)


def test_outside_training_an_image_has_its_logits_in_any_batch(network):
  _, variables, forward = network
  images = _images()
  logits, *_ = forward(variables, images, train=False, key=None)
  alone, *_ = forward(variables, images[:1], train=False, key=None)
  np.testing.assert_allclose(alone, logits[:1], rtol=1e-5, atol=1e-6)


def test_parameters_have_gradients(network):
  _, variables, forward = network

  def loss(params):
    called = variables | {'params': params}
    logits, *_ = forward(called, _images(), train=True, key=jax.random.key(0))
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1))

  grads = jax.tree.leaves(jax.grad(loss)(variables['params']))
  assert all(np.all(np.isfinite(grad)) for grad in grads)
  assert sum(np.any(grad != 0) for grad in grads) > len(grads) / 2


def test_features_have_the_order_of_the_call():
  shapes = {
    name: apply.feature_shapes(user.make_module(function, 10), IMAGE)
    for name, function in NAMES.items()
  }
  assert list(shapes['nnx'].items()) == [
    ('map0', (4, 4, 4)),
    ('map1', (2, 2, 8)),
  ]
  assert shapes['equinox'] == {'map': (4, 3, 3)}
  assert shapes['functions'] == {'hidden': (32,)}


class _Sows(nnx.Module):
  def __init__(self, *, rngs):
    self.layer = _Layer(rngs=rngs)

  def __call__(self, images, *, train, rngs):
    x = self.layer(self.layer(images.reshape(images.shape[0], -1)))
    noise = jax.random.normal(rngs.noise(), x.shape) if train else 0
    return x + noise, {'last': x}


class _Layer(nnx.Module):
  def __init__(self, *, rngs):
    self.linear = nnx.Linear(64, 64, rngs=rngs)

  def __call__(self, x):
    self.sow(nnx.Intermediate, 'out', self.linear(x))
    return self.linear(x)


def sows(num_classes, *, rngs):
  return _Sows(rngs=rngs)


def test_nnx_features_are_returned_and_sown():
  module = user.make_module(f'{__name__}:sows', 64)
  shapes = apply.feature_shapes(module, IMAGE)
  expected = ['last', 'layer.out.0', 'layer.out.1']
  assert list(shapes) == expected


class _SowsInOrder(nnx.Module):
  def __init__(self, *, rngs):
    self.z_first = _Layer(rngs=rngs)
    self.a_second = _Layer(rngs=rngs)

  def __call__(self, images):
    x = self.z_first(images.reshape(images.shape[0], -1))
    for i in range(12):
      self.sow(nnx.Intermediate, f'map{i}', x)
    return self.a_second(x)


def sows_in_order(num_classes, *, rngs):
  return _SowsInOrder(rngs=rngs)


def test_sown_nnx_features_have_the_order_of_the_network():
  module = user.make_module(f'{__name__}:sows_in_order', 64)
  maps = [f'map{i}' for i in range(12)]
  expected = ['z_first.out', *maps, 'a_second.out']
  assert list(apply.feature_shapes(module, IMAGE)) == expected
  assert nnx.Module.sow.__qualname__ == 'Module.sow'
  assert not hasattr(nnx.Module.sow, '__wrapped__')


def test_nnx_modules_get_train_and_rngs_if_they_take_them():
  module = user.make_module(f'{__name__}:sows', 64)
  variables = apply.init_variables(module, IMAGE, jax.random.key(0))
  forward = apply.make_apply(module)
  call = lambda train, key: forward(variables, _images(), train=train, key=key)
  quiet, features, _ = call(False, None)
  np.testing.assert_array_equal(quiet, features['last'])
  noisy, features, _ = call(True, jax.random.key(0))
  assert np.all(noisy != features['last'])


def _trained(monkeypatch, made):
  monkeypatch.setattr(user, 'find_function', lambda name: lambda: made)
  user.load_trained.cache_clear()
  network = user.load_trained('mine:teacher')
  forward = jax.jit(apply.make_apply(network), static_argnames='train')
  return forward(network.variables, _images(), train=False, key=None)


def test_an_nnx_teacher_computes_what_its_module_does(monkeypatch):
  module = user.find_function('examples.nnx_network:teacher')()
  logits, features, _ = _trained(monkeypatch, module)
  module.eval()
  expected, sown = nnx.capture(module, nnx.Intermediate)(_images())
  np.testing.assert_allclose(logits, expected, rtol=1e-5)
  np.testing.assert_allclose(features['map1'], sown['map1'].get_value()[0])


def test_an_equinox_teacher_computes_what_its_module_does(monkeypatch):
  module, state = user.find_function('examples.equinox_network:teacher')()
  logits, *_ = _trained(monkeypatch, (module, state))
  called = eqx.nn.inference_mode(module)
  image = jnp.moveaxis(_images()[2], -1, 0)
  (expected, _), _ = called(image, state, key=None)
  np.testing.assert_allclose(logits[2], expected, rtol=1e-5, atol=1e-6)


def test_a_linen_teacher_is_a_module_and_its_variables(monkeypatch):
  module = user.find_function('examples.linen_network:student')(10)
  variables = module.init(jax.random.key(0), _images(), train=False)
  logits, features, _ = _trained(monkeypatch, (module, variables))
  expected, maps = module.apply(variables, _images(), train=False)
  np.testing.assert_allclose(logits, expected, rtol=1e-6)
  np.testing.assert_allclose(features['map'], maps['map'], rtol=1e-6)


# --- Mistakes. ---


class _PlainArray(nnx.Module):
  def __init__(self, *, rngs):
    self.scale = jnp.ones(3)


def without_rngs(num_classes):
  return _Sows(rngs=nnx.Rngs(0))


def plain_array(num_classes, *, rngs):
  return _PlainArray(rngs=rngs)


def no_module(num_classes, *, key):
  return 'student'


@pytest.mark.parametrize(
  'function, message',
  [
    ('without_rngs', r'takes no key.*\(num_classes, \*, rngs\) for NNX'),
    ('plain_array', "'scale' of _PlainArray is an array; .*nnx.Variable"),
    ('no_module', 'returned str; expected a module'),
  ],
)
def test_mistakes_in_the_function_are_named(function, message):
  with pytest.raises(user.FunctionError, match=message):
    user.make_module(f'{__name__}:{function}', 10)


def test_a_network_that_returns_three_things_is_refused():
  network = user.PureNetwork(
    lambda key, images: {'params': {}},
    lambda variables, images, *, train, key: (images, images),
  )
  with pytest.raises(user.FunctionError, match='apply returned tuple'):
    network.init_with_output(jax.random.key(0), _images(), train=False)


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'needs_package.py').write_text('import no_such.package\n')
  message = 'needs_package imports no_such, which is not installed: pip install'
  with pytest.raises(user.FunctionError, match=message):
    user.find_function('needs_package:student')


class _Plain(nn.Module):
  """A Linen module that takes no `train` and returns logits alone."""

  @nn.compact
  def __call__(self, images):
    return nn.Dense(3)(images.reshape(images.shape[0], -1))


def test_a_plain_linen_module_has_a_forward_pass():
  images = _images()
  variables = apply.init_variables(_Plain(), IMAGE, jax.random.key(0))
  logits, features, _ = apply.make_apply(_Plain())(
    variables, images, train=True, key=jax.random.key(1)
  )
  np.testing.assert_array_equal(logits, _Plain().apply(variables, images))
  assert (
    features == {} == apply.feature_shapes(user.UserModule(_Plain()), IMAGE)
  )
