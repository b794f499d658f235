"""Networks from model sections: modules, shapes, layers, deployed forms."""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import config_fields, models
from kd_jax.data import ImageTask, preprocessing
from kd_jax.models import apply, from_config, user

PROBLEM = ImageTask(3, (8, 8, 1))
MLP = config_fields.mlp((4, 5))
RESNET = config_fields.resnet((1,), widths=(4,))


def _images(count, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, *PROBLEM.image_shape), np.uint8)


def _init(model):
  module = from_config.make_module(model, PROBLEM.num_classes)
  return module, apply.init_variables(
    module, PROBLEM.image_shape, jax.random.key(0)
  )


# --- Modules and shapes. ---


def test_a_section_gives_the_module_of_its_kind_with_its_fields():
  module = from_config.make_module(
    config_fields.mlp((4, 5), dropout_rate=0.5), 3
  )
  assert isinstance(module, models.MLP)
  assert (module.num_classes, module.dropout_rate) == (3, 0.5)
  assert tuple(module.hidden) == (4, 5)
  assert isinstance(from_config.make_module(RESNET, 3), models.ResNet)


def test_an_automatic_type_is_float32_on_a_cpu():
  section = config_fields.mlp((4,))
  section.dtype = 'auto'
  assert from_config.make_module(section, 3).dtype == 'float32'


def test_a_function_of_the_user_gives_the_module():
  section = config_fields.model('tests.user_networks:student')
  assert isinstance(from_config.make_module(section, 3), user.UserModule)


def test_shapes_of_variables_are_those_of_initialized_variables():
  _, variables = _init(RESNET)
  like = from_config.variables_like(RESNET, PROBLEM)
  assert jax.tree.structure(like) == jax.tree.structure(variables)
  for shape, array in zip(
    jax.tree.leaves(like), jax.tree.leaves(variables), strict=True
  ):
    assert (shape.shape, shape.dtype) == (array.shape, array.dtype)


def test_only_networks_with_batch_norm_keep_statistics():
  assert from_config.has_batch_norm(RESNET, PROBLEM)
  assert not from_config.has_batch_norm(MLP, PROBLEM)


def test_features_are_in_order_of_depth_and_without_the_batch():
  shapes = from_config.feature_shapes(MLP, PROBLEM)
  assert [*shapes.items()] == [('hidden0', (4,)), ('hidden1', (5,))]


# --- Quantized and deployed networks. ---


def _logits(network, variables, images):
  return network.apply(variables, preprocessing.unit(images), train=False)[0]


def test_a_deployed_network_of_floats_computes_the_same_without_batch_norm():
  module, variables = _init(RESNET)
  # Initial statistics are those of a batch norm that does nothing.
  rng = np.random.default_rng(1)
  variables = jax.tree.map(
    lambda leaf: leaf + rng.uniform(0, 0.3, leaf.shape).astype('f'), variables
  )
  network, deployed = from_config.deploy(RESNET, PROBLEM, variables)
  assert not jax.tree.leaves(deployed.get('batch_stats', {}))
  images = jnp.asarray(_images(6))
  expected = _logits(module, variables, images)
  assert np.ptp(expected, axis=0).min() > 1e-3
  np.testing.assert_allclose(
    _logits(network, deployed, images), expected, rtol=1e-4
  )


def test_weights_may_be_quantized_before_a_network_is_deployed():
  section = config_fields.mlp((4, 5))
  section.quantization = 'int8'
  assert from_config.is_quantized(section) and not from_config.is_quantized(MLP)
  _, variables = _init(section)
  quantized = from_config.quantize_weights(section, variables)
  images = jnp.asarray(_images(6))
  before, after = (
    _logits(*from_config.deploy(section, PROBLEM, each), images)
    for each in (quantized, variables)
  )
  np.testing.assert_array_equal(before, after)
  assert np.ptp(before) > 0
