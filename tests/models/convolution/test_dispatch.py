"""The convolution for Flax: equal to XLA's, in the form that suits a CPU.

Also tests `kd_jax/models/convolution/winograd.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from kd_jax.models import convolution
from tests.models.convolution.convolution_problems import (
  GEOMETRIES,
  LAYOUT,
  assert_equals_xla,
  make_problem,
  value_and_gradients,
)

pads = st.tuples(st.integers(0, 2), st.integers(0, 2))


@settings(max_examples=8, deadline=None)
@given(
  batch=st.integers(1, 3),
  size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
  kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
  strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
  padding=st.one_of(st.sampled_from(['SAME', 'VALID']), st.tuples(pads, pads)),
  channels=st.sampled_from([1, 3, 16, 20]),
  features=st.integers(1, 4),
)
def test_any_shape_stride_and_padding(
  batch, size, kernel, strides, padding, channels, features
):
  images, weights = make_problem(batch, size, kernel, channels, features)
  assert_equals_xla(
    images,
    weights,
    window_strides=strides,
    padding=padding,
    dimension_numbers=LAYOUT,
  )


@pytest.mark.parametrize(
  'dtype, tolerance', [('float32', 2e-5), ('bfloat16', 2e-2)]
)
@pytest.mark.parametrize(
  'size, kernel, stride',
  [
    (16, 3, 1), (16, 3, 2), (8, 3, 1), (4, 3, 1), (4, 3, 2), (2, 3, 1),
    (2, 3, 2), (1, 3, 1), (8, 1, 1), (8, 1, 2), (16, 3, 4),
  ],
)  # fmt: skip
def test_the_shapes_of_our_networks(size, kernel, stride, dtype, tolerance):
  images, weights = make_problem(64, (size,) * 2, (kernel,) * 2, 16, 24, dtype)
  assert_equals_xla(
    images,
    weights,
    tolerance,
    window_strides=(stride, stride),
    padding=[(kernel // 2,) * 2] * 2,
    dimension_numbers=LAYOUT,
  )


@pytest.mark.parametrize(
  'size, kernel, stride, form',
  [
    (8, 3, 1, 'native'), (4, 3, 2, 'shifts'), (2, 3, 1, 'shifts'),
    (2, 3, 2, 'shifts'), (1, 3, 1, 'shifts'), (8, 1, 2, 'shifts'),
  ],
)  # fmt: skip
def test_convolutions_of_integers_equal_xlas_exactly(
  size, kernel, stride, form
):
  rng = np.random.default_rng(0)
  images = rng.integers(-128, 128, (3, size, size, 16), 'int8')
  weights = rng.integers(-128, 128, (kernel, kernel, 16, 5), 'int8')
  padding = ((kernel // 2,) * 2,) * 2
  geometry = convolution.Geometry((stride, stride), padding)
  assert convolution.cpu_forms(images, weights, geometry).forward == form
  ours, native = (
    jax.jit(
      lambda x, w, f=f: f(
        x,
        w,
        (stride, stride),
        padding,
        dimension_numbers=LAYOUT,
        preferred_element_type=jnp.int32,
      )
    )(images, weights)
    for f in (convolution.conv_general_dilated, lax.conv_general_dilated)
  )
  assert ours.dtype == native.dtype == jnp.int32
  np.testing.assert_array_equal(ours, native)
  assert np.abs(native).max() > 2**15  # The sums need more than 16 bits.


@pytest.mark.parametrize(
  'form, yes, no',
  [
    ('winograd', [], [dict(rows=1), dict(strides=(2, 1))]),
    ('bands', [dict(rows=2)], [dict(rows=1), dict(strides=(2, 1))]),
    (
      'karatsuba',
      [],
      [dict(rows=1), dict(size=4), dict(strides=(2, 1)), dict(padding=0)],
    ),
  ],
)
def test_applies_tells_the_shapes_of_a_form(form, yes, no):
  def applies(size=2, rows=3, strides=(1, 1), padding=1):
    geometry = convolution.Geometry(strides, ((padding, padding),) * 2)
    return convolution.applies(
      form, np.zeros((1, size, size, 4)), np.zeros((rows, 3, 4, 4)), geometry
    )

  assert applies() and all(applies(**kwargs) for kwargs in yes)
  assert not any(applies(**kwargs) for kwargs in no)


@pytest.mark.parametrize('stride', [1, 2])
def test_a_stem_with_small_patches_has_its_own_form(stride):
  def chosen(channels, features):
    images, weights = make_problem(2, (8, 8), (3, 3), channels, features)
    kwargs = dict(window_strides=(stride, stride), padding=((1, 1), (1, 1)))
    assert_equals_xla(images, weights, dimension_numbers=LAYOUT, **kwargs)
    return convolution.cpu_forms(
      images, weights, convolution.Geometry(*kwargs.values())
    )

  assert chosen(3, 27) == ('native', 'native', 'patches')
  assert chosen(3, 26) == ('native', 'native', 'native')


@pytest.mark.parametrize('size, form', [(4, 'winograd'), (2, 'karatsuba')])
def test_fewer_products_need_a_large_batch_and_float32(size, form):
  def chosen(batch, dtype=jnp.float32):
    problem = make_problem(batch, (size, size), (3, 3), 16, 16, dtype)
    return convolution.cpu_forms(*problem, GEOMETRIES[0])

  assert chosen(64) == (form, form, form)
  assert chosen(63).forward == chosen(64, jnp.bfloat16).forward == 'shifts'


@pytest.mark.parametrize('size, kernel', [(4, 3), (16, 1)])
def test_products_have_the_images_type_and_sums_are_float32(size, kernel):
  images, weights = make_problem(
    2, (size,) * 2, (kernel,) * 2, 16, 24, jnp.bfloat16
  )
  text = (
    jax.jit(
      lambda x, w: value_and_gradients(
        convolution.conv_general_dilated,
        x,
        w,
        window_strides=(1, 1),
        padding=[(kernel // 2,) * 2] * 2,
        dimension_numbers=LAYOUT,
      )
    )
    .lower(images, weights)
    .as_text()
  )
  products = [line for line in text.splitlines() if 'dot_general' in line]
  # Products of the convolution and of each gradient.
  assert len(products) == 3 * kernel**2
  for line in products:
    operands, _, result = line.rpartition('->')
    assert operands.count('bf16>') == 2 and 'f32>' in result, line


@pytest.mark.parametrize(
  'kwargs',
  [
    dict(lhs_dilation=(2, 2), padding=[(1, 1), (1, 1)]),
    dict(rhs_dilation=(2, 2)),
    dict(feature_group_count=2),
    dict(dimension_numbers=('NCHW', 'OIHW', 'NCHW')),
    dict(padding=[(-1, 0), (0, -1)]),
    dict(precision=lax.Precision.HIGHEST),
    dict(preferred_element_type=jnp.float32),
  ],
)
def test_other_convolutions_are_computed_by_xla(kwargs):
  groups = kwargs.get('feature_group_count', 1)
  images, weights = make_problem(2, (8, 8), (3, 3), 16 // groups, 16)
  images = np.concatenate([images] * groups, axis=-1)
  if kwargs.get('dimension_numbers', LAYOUT) != LAYOUT:
    images = images.transpose(0, 3, 1, 2)
    weights = weights.transpose(3, 2, 0, 1)
  kwargs = {
    'window_strides': (1, 1),
    'padding': 'SAME',
    'dimension_numbers': LAYOUT,
  } | kwargs
  assert_equals_xla(images, weights, **kwargs)


def test_other_platforms_than_a_cpu_use_xlas_convolution():
  images, weights = make_problem(2, (2, 2), (3, 3), 16, 16)
  convolve = jax.jit(
    lambda x, w: convolution.conv_general_dilated(
      x, w, (1, 1), 'SAME', dimension_numbers=LAYOUT
    )
  )
  for platform, is_native in (('cpu', False), ('cuda', True), ('tpu', True)):
    text = (
      convolve.trace(images, weights)
      .lower(lowering_platforms=(platform,))
      .as_text()
    )
    assert ('stablehlo.convolution' in text) == is_native, platform


def test_flax_conv_gives_the_same_output():
  layer = lambda **kwargs: nn.Conv(24, (3, 3), strides=2, **kwargs)
  images, _ = make_problem(2, (8, 8), (3, 3), 16, 1)
  variables = jax.jit(layer().init)(jax.random.key(0), images)
  ours = layer(conv_general_dilated=convolution.conv_general_dilated)
  np.testing.assert_allclose(
    jax.jit(ours.apply)(variables, images),
    jax.jit(layer().apply)(variables, images),
    atol=1e-5,
  )


def test_a_convolution_can_be_vmapped():
  images, weights = make_problem(3, (4, 4), (3, 3), 16, 4)
  one = lambda x: convolution.conv_general_dilated(
    x[None], weights, (1, 1), 'SAME', dimension_numbers=LAYOUT
  )[0]
  together = jax.jit(
    lambda x: convolution.conv_general_dilated(
      x, weights, (1, 1), 'SAME', dimension_numbers=LAYOUT
    )
  )(images)
  np.testing.assert_allclose(
    jax.jit(jax.vmap(one))(images), together, atol=1e-5
  )


def test_an_export_for_any_batch_size_has_a_form_for_each():
  geometry = convolution.Geometry((1, 1), ((1, 1), (1, 1)))
  kernel = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype('f')
  convolve = jax.jit(
    lambda images: convolution.convolve_on_cpu(images, kernel, geometry)
  )
  (batch,) = jax.export.symbolic_shape('batch')
  exported = jax.export.export(convolve, platforms=('cpu', 'tpu'))(
    jax.ShapeDtypeStruct((batch, 8, 8, 16), jnp.float32)
  )
  for size in (1, 16):
    images = np.ones((size, 8, 8, 16), 'f')
    program = jax.jit(exported.call).lower(images).compile()
    np.testing.assert_allclose(
      program(images), convolve(images), rtol=1e-4, atol=1e-4
    )
    text = program.as_text()
    form = convolution.cpu_forms(images, kernel, geometry).forward
    assert 'conditional' not in text
    assert ('convolution' in text) == (form == 'native')
  assert form == 'winograd'
