"""Quantization schemes: rounding, storage and inference."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_jax import config as config_lib
from kd_jax import models
from kd_jax.config_checks import field_checks
from kd_jax.models import quantization
from kd_jax.report import run_report
from kd_jax.runtime import errors, files, json_records
from tests import helpers

NETWORKS = {
  'mlp': (models.MLP(hidden=(7,), num_classes=10), (9, 9, 1)),
  'conv_net': (
    models.ConvNet(num_classes=10, filters=(4,), hidden=(8,)),
    (9, 9, 1),
  ),
  'resnet': (
    models.ResNet(num_classes=10, blocks=(1,), widths=(8,), strides=(2,)),
    (8, 8, 3),
  ),
}
QUANTIZED = [
  name for name, scheme in quantization.SCHEMES.items() if scheme.bits
]
INTEGERS = [
  name for name in QUANTIZED if not quantization.SCHEMES[name].in_buckets
]


def _init(module, images):
  return jax.jit(lambda key: module.init(key, images, train=False))(
    jax.random.key(1)
  )


def _logits(module):
  return jax.jit(lambda v, images: module.apply(v, images, train=False)[0])


def _levels(x, bits, axis):
  """Rounds x to symmetric integers times a scale per index of an axis."""
  other_axes = tuple(a for a in range(x.ndim) if a != axis)
  largest = 2 ** (bits - 1) - 1
  scale = np.max(np.abs(x), axis=other_axes, keepdims=True) / largest
  return np.rint(x / scale) * scale


@pytest.mark.parametrize('scheme', INTEGERS)
def test_products_of_integers_equal_a_reference(scheme):
  rng = np.random.default_rng(0)
  x, kernel = rng.normal(size=(5, 12)), rng.normal(size=(12, 3))
  scheme = quantization.SCHEMES[scheme]
  # Eagerly, each operation is compiled.
  product = jax.jit(
    lambda x, kernel: scheme.dot_general(x, kernel, (((1,), (0,)), ((), ())))
  )
  expected = _levels(x, scheme.bits, 0) @ _levels(kernel, scheme.bits, 1)
  args = jnp.float32(x), jnp.float32(kernel)
  np.testing.assert_allclose(product(*args), expected, rtol=1e-5, atol=1e-5)
  # The gradient at the rounded values is the gradient of the unrounded values.
  weights = rng.normal(size=(5, 3))
  weighted = lambda *args: jnp.sum(product(*args) * weights.astype(np.float32))
  grads = jax.jit(jax.grad(weighted, (0, 1)))(*args)
  np.testing.assert_allclose(
    grads[0], weights @ _levels(kernel, scheme.bits, 1).T, rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(
    grads[1], _levels(x, scheme.bits, 0).T @ weights, rtol=1e-4, atol=1e-5
  )


def test_a_convolution_of_integers_equals_one_of_rounded_operands():
  rng = np.random.default_rng(1)
  x, kernel = rng.normal(size=(2, 6, 6, 3)), rng.normal(size=(3, 3, 3, 4))
  convolve = lambda fn, *args: jax.jit(
    lambda x, kernel: fn(
      x,
      kernel,
      (1, 1),
      ((1, 1), (1, 1)),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
  )(*map(np.float32, args))
  np.testing.assert_allclose(
    convolve(quantization.SCHEMES['int4'].conv_general_dilated, x, kernel),
    convolve(
      jax.lax.conv_general_dilated, _levels(x, 4, 0), _levels(kernel, 4, 3)
    ),
    rtol=1e-4,
    atol=1e-4,
  )


@pytest.mark.parametrize('bits', [2, 4, 8])
def test_buckets_have_even_levels_over_their_range(bits):
  x = np.random.default_rng(2).normal(size=(3, 200)).astype(np.float32)
  buckets = quantization.to_buckets(x, bits)
  assert buckets.codes.shape == (3, 256)  # 600 elements, the last row padded.
  rounded = np.asarray(quantization.from_buckets(buckets, x.shape))
  flat, back = x.reshape(-1), rounded.reshape(-1)
  for start in range(0, 600, 256):
    old, new = flat[start : start + 256], back[start : start + 256]
    step = (old.max() - old.min()) / (2**bits - 1)
    assert len(np.unique(new)) <= 2**bits
    # Rounding moves a value by half a step at most, and keeps the extremes.
    assert np.abs(old - new).max() <= step / 2 * (1 + 1e-4)
    np.testing.assert_allclose(
      (new.min(), new.max()), (old.min(), old.max()), rtol=1e-5
    )


def test_a_bucket_of_equal_values_is_exact_and_has_finite_gradients():
  x = np.full((300,), 0.3, np.float32)
  rounded = jax.jit(
    lambda x: quantization.from_buckets(quantization.to_buckets(x, 2), x.shape)
  )
  np.testing.assert_array_equal(rounded(x), x)
  dot = quantization.SCHEMES['buckets2'].dot_general
  total = lambda x: jnp.sum(
    dot(jnp.ones((1, 300)), x[:, None], (((1,), (0,)), ((), ())))
  )
  grad = jax.jit(jax.grad(total))(x)
  np.testing.assert_array_equal(grad, 1.0)


@given(st.integers(1, 8), st.integers(1, 40), st.randoms())
def test_codes_survive_the_conversion_to_bytes(bits, count, random):
  codes = np.array([random.randrange(2**bits) for _ in range(count)], np.uint8)
  content = quantization.to_bytes(codes, bits)
  assert content.dtype == np.uint8 and content.size == -(-count * bits // 8)
  np.testing.assert_array_equal(
    quantization.from_bytes(content, bits, count), codes
  )


@pytest.mark.parametrize(
  'name, scheme',
  [
    pytest.param(
      *(name, scheme),
      # The schemes in buckets share their code; small networks cover the rest.
      marks=pytest.mark.slow
      if name == 'resnet' and scheme in ('buckets8', 'buckets2')
      else (),
    )
    for name, scheme in itertools.product(NETWORKS, QUANTIZED)
  ],
)
def test_a_deployed_network_predicts_like_the_trained_one(name, scheme):
  module, shape = NETWORKS[name]
  module = module.clone(quantization=scheme)
  images = jax.random.normal(jax.random.key(0), (6, *shape))
  variables = _init(module, images)
  trained = _logits(module)(variables, images)
  quantized = quantization.quantize_weights(variables['params'], scheme)
  assert quantization.has_quantized_weights(quantized)
  assert not quantization.has_quantized_weights(variables['params'])
  network, params = quantization.deploy(module, quantized, shape)
  deployed = _logits(network)(variables | {'params': params}, images)
  # A rounding error in the last place can move a value by a level.
  tolerance = {'int8': 0.01, 'int4': 0.1}.get(scheme, 1e-5)
  np.testing.assert_allclose(deployed, trained, atol=tolerance)
  assert np.mean(np.argmax(deployed, 1) == np.argmax(trained, 1)) > 0.8
  floats = _logits(module.clone(quantization='float'))(variables, images)
  assert np.abs(floats - trained).max() > 1e-3  # Rounding has an effect.


@pytest.mark.parametrize('scheme', INTEGERS)
def test_a_deployed_network_multiplies_integers(scheme):
  module, shape = NETWORKS['resnet']
  module = module.clone(quantization=scheme)
  images = jnp.zeros((2, *shape))
  variables = _init(module, images)
  quantized = quantization.quantize_weights(variables['params'], scheme)
  network, params = quantization.deploy(module, quantized, shape)
  program = _logits(network).lower(variables | {'params': params}, images)
  products = [
    line
    for line in program.as_text().splitlines()
    if 'stablehlo.convolution' in line or 'stablehlo.dot_general' in line
  ]
  # The stem, a block of two convolutions, its shortcut, and the last layer.
  assert len(products) == 5
  assert all('i8>' in line and 'xi32>' in line for line in products)


def _config(scheme):
  fields = {'student.quantization': scheme, 'benchmark.enabled': True}
  return helpers.tiny_mnist(fields=fields)


@pytest.mark.slow
def test_a_run_stores_a_quantized_student_and_measures_it(tmp_path):
  run = lambda: helpers.run(_config('int4'), tmp_path)
  record = run()
  (student,) = record['students']
  quantized = student['packed']
  assert quantized['trained_agreement'] > 0.95
  assert quantized['accuracy'] == pytest.approx(
    student['test']['accuracy'], abs=0.02
  )
  folder = tmp_path / 'run' / 'students' / 'h50' / 'seed-0' / 'packed'
  size = sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())
  assert quantized['bytes'] == size < student['bytes'] / 3
  network = record['benchmark']['networks']['h50']
  # A stored weight takes half a byte; a weight in memory takes one byte.
  weights = 784 * 50 + 50 * 10
  assert network['parameter_bytes'] < 1.1 * weights + 8 * (50 + 10)
  assert 'stored as integers %' in run_report.render(record)
  # A damaged artifact is detected and refused.
  for path in folder.rglob('*'):
    if path.is_file():
      helpers.cut_bytes(path)
  damaged = files.read_json(tmp_path / 'run' / 'run.json')
  del damaged['benchmark']
  json_records.write(tmp_path / 'run' / 'run.json', damaged)
  with pytest.raises(errors.UserError, match='packed'):
    run()


def test_bfloat16_and_unknown_schemes_are_refused():
  config = _config('int8')
  config.student.dtype = 'bfloat16'
  with pytest.raises(errors.UserError, match='student.quantization'):
    field_checks.check_fields(config_lib.close_row(config, 'h50'))
  with pytest.raises(errors.UserError, match='int4'):
    field_checks.check_fields(config_lib.close_row(_config('int7'), 'h50'))
