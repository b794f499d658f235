"""Arithmetic of few bits: against references, and as stored and used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import mnist
from kd_jax import models, validation
from kd_jax.experiments import experiment
from kd_jax.models import quantization
from kd_jax.report import run_report
from kd_jax.runtime import errors, files
from kd_jax.training import build

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
ROUNDED = [name for name, own in quantization.SCHEMES.items() if own.bits]
INTEGERS = [
  name for name in ROUNDED if not quantization.SCHEMES[name].in_buckets
]


def _init(module, images):
  return jax.jit(lambda key: module.init(key, images, train=False))(
    jax.random.key(1)
  )


def _logits(module):
  return jax.jit(lambda v, images: module.apply(v, images, train=False)[0])


def _levels(x, bits, axis):
  """float64: what symmetric whole numbers of so many bits make of x."""
  others = tuple(a for a in range(x.ndim) if a != axis)
  largest = 2 ** (bits - 1) - 1
  scale = np.max(np.abs(x), axis=others, keepdims=True) / largest
  return np.rint(x / scale) * scale


@pytest.mark.parametrize('arithmetic', INTEGERS)
def test_products_of_integers_are_those_of_a_reference(arithmetic):
  rng = np.random.default_rng(0)
  x, kernel = rng.normal(size=(5, 12)), rng.normal(size=(12, 3))
  own = quantization.SCHEMES[arithmetic]
  product = lambda x, kernel: own.dot_general(
    x, kernel, (((1,), (0,)), ((), ()))
  )
  expected = _levels(x, own.bits, 0) @ _levels(kernel, own.bits, 1)
  args = jnp.float32(x), jnp.float32(kernel)
  np.testing.assert_allclose(product(*args), expected, rtol=1e-5, atol=1e-5)
  # The gradient is that at the rounded values, for the values as they are.
  weights = rng.normal(size=(5, 3))
  grads = jax.grad(
    lambda *args: jnp.sum(product(*args) * weights.astype(np.float32)), (0, 1)
  )(*args)
  np.testing.assert_allclose(
    grads[0], weights @ _levels(kernel, own.bits, 1).T, rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(
    grads[1], _levels(x, own.bits, 0).T @ weights, rtol=1e-4, atol=1e-5
  )


def test_a_convolution_of_integers_is_that_of_rounded_operands():
  rng = np.random.default_rng(1)
  x, kernel = rng.normal(size=(2, 6, 6, 3)), rng.normal(size=(3, 3, 3, 4))
  convolve = lambda fn, *args: fn(
    *map(jnp.float32, args),
    (1, 1),
    ((1, 1), (1, 1)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
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
    own, new = flat[start : start + 256], back[start : start + 256]
    step = (own.max() - own.min()) / (2**bits - 1)
    assert len(np.unique(new)) <= 2**bits
    # Half a step away at most; the ends of the range stay.
    assert np.abs(own - new).max() <= step / 2 * (1 + 1e-4)
    np.testing.assert_allclose(
      (new.min(), new.max()), (own.min(), own.max()), rtol=1e-5
    )


def test_a_bucket_of_one_value_stays_and_has_finite_gradients():
  x = jnp.full((300,), 0.3)
  rounded = lambda x: quantization.from_buckets(
    quantization.to_buckets(x, 2), x.shape
  )
  np.testing.assert_array_equal(rounded(x), x)
  dot = quantization.SCHEMES['buckets2'].dot_general
  grad = jax.grad(
    lambda x: jnp.sum(
      dot(jnp.ones((1, 300)), x[:, None], (((1,), (0,)), ((), ())))
    )
  )(x)
  np.testing.assert_array_equal(grad, 1.0)


@given(st.integers(1, 8), st.integers(1, 40), st.randoms())
def test_packed_codes_come_back(bits, count, random):
  codes = np.array([random.randrange(2**bits) for _ in range(count)], np.uint8)
  packed = quantization._pack_bits(codes, bits)
  assert packed.dtype == np.uint8 and packed.size == -(-count * bits // 8)
  np.testing.assert_array_equal(
    quantization._unpack_bits(packed, bits, count), codes
  )


@pytest.mark.parametrize('arithmetic', ROUNDED)
@pytest.mark.parametrize('name', NETWORKS)
def test_what_is_stored_decides_as_what_was_trained(name, arithmetic):
  module, shape = NETWORKS[name]
  module = module.clone(quantization=arithmetic)
  images = jax.random.normal(jax.random.key(0), (6, *shape))
  variables = _init(module, images)
  trained = _logits(module)(variables, images)
  packed = quantization.pack(variables['params'], arithmetic)
  assert quantization.is_packed(packed)
  assert not quantization.is_packed(variables['params'])
  network, params = quantization.deploy(module, packed, shape)
  used = _logits(network)(variables | {'params': params}, images)
  # A rounding error of the last place may become a level.
  tolerance = {'int8': 0.01, 'int4': 0.1}.get(arithmetic, 1e-5)
  np.testing.assert_allclose(used, trained, atol=tolerance)
  assert np.mean(np.argmax(used, 1) == np.argmax(trained, 1)) > 0.8
  floats = _logits(module.clone(quantization='float'))(variables, images)
  assert np.abs(floats - trained).max() > 1e-3  # There was rounding.


@pytest.mark.parametrize('arithmetic', INTEGERS)
def test_in_use_products_are_of_integers(arithmetic):
  module, shape = NETWORKS['resnet']
  module = module.clone(quantization=arithmetic)
  images = jnp.zeros((2, *shape))
  variables = _init(module, images)
  packed = quantization.pack(variables['params'], arithmetic)
  network, params = quantization.deploy(module, packed, shape)
  program = _logits(network).lower(variables | {'params': params}, images)
  products = [
    line
    for line in program.as_text().splitlines()
    if 'stablehlo.convolution' in line or 'stablehlo.dot_general' in line
  ]
  # A stem, a block of two, its shortcut, and the last layer.
  assert len(products) == 5
  assert all('i8>' in line and 'xi32>' in line for line in products)


def _config(arithmetic):
  config = mnist.get_config('h50')
  config.data.name = 'generated'
  config.teacher.model.update(filters=(4,), hidden=(32,))
  config.teacher.train.epochs = config.train.epochs = 1
  config.student.quantization = arithmetic
  config.benchmark.batch_sizes = (1,)
  config.benchmark.budget_s = 0.01
  config.benchmark.cold_calls = 0
  config.lock()
  return config


def test_a_run_stores_a_quantized_student_and_measures_it(tmp_path):
  run = lambda: experiment.run(
    _config('int4'),
    workdir=tmp_path / 'run',
    teachers_dir=tmp_path / 'teachers',
  )
  record = run()
  (student,) = record['students']
  packed = student['packed']
  assert packed['trained_agreement'] > 0.95
  assert packed['accuracy'] == pytest.approx(
    student['test']['accuracy'], abs=0.02
  )
  folder = tmp_path / 'run' / 'students' / 'h50' / 'seed-0' / 'packed'
  size = sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())
  assert packed['bytes'] == size < student['bytes'] / 3
  network = record['benchmark']['networks']['h50']
  # Half a byte for each weight would be stored; in use they take one.
  weights = 784 * 50 + 50 * 10
  assert network['parameter_bytes'] < 1.1 * weights + 8 * (50 + 10)
  assert 'stored as integers %' in run_report.render(record)
  # A damaged artifact is noticed, and not used.
  for path in folder.rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:-1])
  damaged = files.read_json(tmp_path / 'run' / 'run.json')
  del damaged['benchmark']
  files.write_json(tmp_path / 'run' / 'run.json', damaged)
  with pytest.raises(errors.UserError, match='packed'):
    run()


def test_bfloat16_and_unknown_arithmetic_are_refused():
  config = _config('int8')
  config.student.dtype = 'bfloat16'
  with pytest.raises(errors.UserError, match='student.quantization'):
    validation.validate(build.close_row(config, 'h50'))
  with pytest.raises(errors.UserError, match='int4'):
    validation.validate(build.close_row(_config('int7'), 'h50'))
