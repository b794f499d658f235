"""ResNets: costs as in protocol.md's table, initialization and features.

Also tests `kd_jax/models/apply.py`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import models
from kd_jax.models import costs

RESNET50 = dict(block='bottleneck', blocks=(3, 4, 6, 3))
RESNET9 = dict(block='pooled', blocks=(0, 2, 1, 2), stem_pool=False)
SMALL = dict(num_classes=10, blocks=(1, 1), widths=(8, 16), strides=(1, 2))


def _dropped(*blocks):
  return dict(blocks=(*blocks, *[0] * (4 - len(blocks))))


# The networks of the paper's Table 2 in all interpretations: parameters, and
# millions of multiply-accumulates for a 32x32 image.
COSTS = {
  'resnet50': (RESNET50, 23_520_842, 325.8),
  'resnet9': (RESNET9, 6_573_130, 379.3),
  '2222': (dict(blocks=(2, 2, 2, 2)), 11_173_962, 140.2),
  '1111': (dict(blocks=(1, 1, 1, 1)), 4_903_242, 64.7),
  '2211': (dict(blocks=(2, 2, 0, 0), min_blocks=1), 5_272_650, 102.4),
  '22': (_dropped(2, 2), 676_682, 73.1),
  '11': (_dropped(1, 1), 307_274, 35.3),
  'stem 2': (dict(blocks=(1, 1, 1, 1), stem_stride=2), 4_903_242, 16.2),
  'stem 4': (dict(blocks=(1, 1, 1, 1), stem_stride=4), 4_903_242, 6.8),
  'stage1 2': (
    dict(blocks=(1, 1, 1, 1), strides=(2, 2, 2, 2)), 4_907_466, 17.8,
  ),
  'stage1 4': (
    dict(blocks=(1, 1, 1, 1), strides=(4, 2, 2, 2)), 4_907_466, 8.5,
  ),
}  # fmt: skip

_LIKE_OTHERS = ('2211', '11', 'stem 4', 'stage1 4')


def _init_fn(module, image_shape):
  image = jnp.zeros((1, *image_shape))
  return lambda key: module.init(key, image, train=False)


@functools.cache
def _init(module):
  return jax.jit(_init_fn(module, (32, 32, 3)))(jax.random.key(0))


def _shapes(module, image_shape=(32, 32, 3)):
  return jax.eval_shape(_init_fn(module, image_shape), jax.random.key(0))


def _apply(module, variables, images, **kwargs):
  """Compiles and calls `module.apply`; eagerly, each operation is compiled."""
  apply = jax.jit(lambda v, images: module.apply(v, images, **kwargs))
  return apply(variables, images)


@pytest.mark.parametrize(
  'name',
  [
    # The others have the same parts.
    pytest.param(name, marks=pytest.mark.slow if name in _LIKE_OTHERS else ())
    for name in COSTS
  ],
)
def test_parameters_and_multiply_accumulates(name):
  fields, parameters, mega_macs = COSTS[name]
  module = models.ResNet(num_classes=10, **fields)
  variables = _shapes(module)
  assert costs.count_parameters(variables['params']) == parameters
  forward = lambda variables, images: module.apply(
    variables, images, train=False
  )
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  macs = costs.count_macs(forward, variables, image)
  assert round(macs / 1e6, 1) == mega_macs


def test_a_stage_of_zero_blocks_has_one_block_or_is_left_out():
  shapes = lambda **fields: _shapes(models.ResNet(num_classes=10, **fields))
  assert shapes(blocks=(1, 1, 0, 0), min_blocks=1) == shapes(
    blocks=(1, 1, 1, 1)
  )
  dropped = shapes(blocks=(1, 1, 0, 0))['params']
  assert not any(name.startswith(('stage3', 'stage4')) for name in dropped)


def test_features_are_the_maps_of_all_stages():
  module = models.ResNet(num_classes=7)
  variables = _shapes(module)
  logits, features = jax.eval_shape(
    lambda v: module.apply(v, jnp.zeros((2, 32, 32, 3)), train=False), variables
  )
  assert logits.shape == (2, 7)
  assert {name: f.shape for name, f in features.items()} == {
    'stem': (2, 16, 16, 64),
    'stage1': (2, 16, 16, 64),
    'stage2': (2, 8, 8, 128),
    'stage3': (2, 4, 4, 256),
    'stage4': (2, 2, 2, 512),
    'pooled': (2, 512),
  }


def test_a_stem_without_pool_and_images_of_another_size():
  module = models.ResNet(**SMALL, stem_pool=False)
  variables = _shapes(module, (28, 20, 1))
  _, features = jax.eval_shape(
    lambda v: module.apply(v, jnp.zeros((2, 28, 20, 1)), train=False), variables
  )
  assert features['stem'].shape == (2, 28, 20, 8)
  assert features['stage2'].shape == (2, 14, 10, 16)


def test_pooled_stages_begin_with_a_convolution_and_a_max_pool():
  module = models.ResNet(
    num_classes=2, block='pooled', blocks=(1, 2), widths=(4, 8), strides=(1, 2),
    stem_pool=False,
  )  # fmt: skip
  variables = _init(module)
  params = variables['params']
  assert set(params['stage2_block0']) == {'conv0', 'norm0'}
  assert set(params['stage2_block1']) == {'conv0', 'norm0', 'conv1', 'norm1'}
  # The last window of an odd side holds fewer pixels.
  images = jax.random.normal(jax.random.key(1), (2, 7, 8, 3))
  _, features = _apply(module, variables, images, train=False)
  assert features['stage1'].shape == (2, 7, 8, 4)
  assert features['stage2'].shape == (2, 4, 4, 8)


def test_initialization_equals_pytorchs():
  module = models.ResNet(
    num_classes=10, blocks=(1,), widths=(256,), strides=(1,)
  )
  params = _init(module)['params']
  kernel = params['stage1_block0']['conv1']['kernel']
  fan_out = 3 * 3 * 256
  np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / fan_out), rtol=0.01)
  assert abs(np.mean(kernel)) < 1e-4
  # Normal, not truncated normal: 0.27 % lies beyond three sigma.
  beyond = np.mean(np.abs(kernel) > 3 * np.sqrt(2 / fan_out))
  np.testing.assert_allclose(beyond, 0.0027, rtol=0.2)
  assert (params['stem_norm']['scale'] == 1).all()
  assert (params['stem_norm']['bias'] == 0).all()
  limit = 256**-0.5
  for leaf in ('kernel', 'bias'):
    values = np.abs(params['logits'][leaf])
    assert values.max() <= limit
    assert values.max() > 0.5 * limit
  np.testing.assert_allclose(
    np.std(params['logits']['kernel']), limit / np.sqrt(3), rtol=0.03
  )


def test_zero_init_starts_each_block_as_its_shortcut():
  module = models.ResNet(**SMALL, zero_init=True)
  variables = _init(module)
  plain = _shapes(models.ResNet(**SMALL))
  assert jax.tree.structure(variables) == jax.tree.structure(plain)
  for stage in ('stage1', 'stage2'):
    block = variables['params'][f'{stage}_block0']
    assert (block['norm1']['scale'] == 0).all()
    assert (block['norm0']['scale'] == 1).all()
  # Stage 1 has no convolution in its shortcut: its output is its input.
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  _, features = _apply(module, variables, images, train=False)
  np.testing.assert_array_equal(features['stage1'], features['stem'])


def test_only_training_updates_statistics():
  module = models.ResNet(**SMALL)
  variables = _init(module)
  images = 3 + jax.random.normal(jax.random.key(1), (8, 8, 8, 3))
  (_, _), updates = _apply(
    module, variables, images, train=True, mutable=['batch_stats']
  )
  before = variables['batch_stats']['stem_norm']
  after = updates['batch_stats']['stem_norm']
  assert (after['mean'] != before['mean']).all()
  (_, _), unchanged = _apply(
    module, variables, images, train=False, mutable=['batch_stats']
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    unchanged['batch_stats'],
    variables['batch_stats'],
  )


def test_a_bfloat16_network_has_float32_statistics_and_logits():
  variables = _init(models.ResNet(**SMALL))
  half = models.ResNet(**SMALL, dtype='bfloat16')
  images = jax.random.normal(jax.random.key(1), (16, 32, 32, 3))
  (logits, features), updates = _apply(
    half, variables, images, train=True, mutable=['batch_stats']
  )
  assert logits.dtype == jnp.float32
  assert features['stage2'].dtype == jnp.bfloat16
  leaves = jax.tree.leaves((variables, updates))
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype('float32')}
  expected, _ = _apply(
    models.ResNet(**SMALL),
    variables,
    images,
    train=True,
    mutable=['batch_stats'],
  )[0]
  np.testing.assert_allclose(logits, expected, atol=0.05)


def test_temperature_divides_the_logits():
  variables = _init(models.ResNet(**SMALL))
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  plain, cooled = (
    _apply(
      models.ResNet(**SMALL, temperature=t), variables, images, train=False
    )[0]
    for t in (1.0, 4.0)
  )
  np.testing.assert_allclose(4 * cooled, plain, rtol=1e-6)


def test_the_last_pool_takes_the_mean_or_the_maximum_of_all_pixels():
  variables = _init(models.ResNet(**SMALL))
  image = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
  for name, pool in (('mean', np.mean), ('max', np.max)):
    module = models.ResNet(**SMALL, head_pool=name)
    apply = jax.jit(functools.partial(module.apply, train=False))
    _, features = apply(variables, image)
    maps = np.asarray(features['stage2'])
    np.testing.assert_allclose(
      features['pooled'], pool(maps, axis=(1, 2)), rtol=1e-5
    )
