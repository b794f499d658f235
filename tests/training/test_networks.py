"""Networks from model sections: modules, shapes, layers, deployed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base, mnist
from kd_jax import config as config_lib
from kd_jax import models
from kd_jax.data import Problem, preprocessing
from kd_jax.models import apply, user
from kd_jax.training import networks

PROBLEM = Problem(3, (8, 8, 1))
MLP = base.mlp((4, 5))
RESNET = base.resnet((1,), widths=(4,))


def _images(count, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, *PROBLEM.image_shape), np.uint8)


def _init(model):
  module = networks.make_module(model, PROBLEM.num_classes)
  return module, apply.init_variables(
    module, PROBLEM.image_shape, jax.random.key(0)
  )


# --- Modules and shapes. ---


def test_a_section_gives_the_module_of_its_kind_with_its_fields():
  module = networks.make_module(base.mlp((4, 5), dropout_rate=0.5), 3)
  assert isinstance(module, models.MLP)
  assert (module.num_classes, module.dropout_rate) == (3, 0.5)
  assert tuple(module.hidden) == (4, 5)
  assert isinstance(networks.make_module(RESNET, 3), models.ResNet)


def test_an_automatic_type_is_float32_on_a_cpu():
  section = base.mlp((4,))
  section.dtype = 'auto'
  assert networks.make_module(section, 3).dtype == 'float32'


def test_a_function_of_the_user_gives_the_module():
  section = base.model('tests.user_networks:student')
  assert isinstance(networks.make_module(section, 3), user.UserModule)


def test_shapes_of_variables_are_those_of_initialized_variables():
  _, variables = _init(RESNET)
  like = networks.variables_like(RESNET, PROBLEM)
  assert jax.tree.structure(like) == jax.tree.structure(variables)
  for shape, array in zip(
    jax.tree.leaves(like), jax.tree.leaves(variables), strict=True
  ):
    assert (shape.shape, shape.dtype) == (array.shape, array.dtype)


def test_only_networks_with_batch_norm_keep_statistics():
  assert networks.has_batch_norm(RESNET, PROBLEM)
  assert not networks.has_batch_norm(MLP, PROBLEM)


def test_features_are_in_order_of_depth_and_without_the_batch():
  shapes = networks.feature_shapes(MLP, PROBLEM)
  assert [*shapes.items()] == [('hidden0', (4,)), ('hidden1', (5,))]


# --- The teacher's layers. ---


def _closed(**fields):
  config = mnist.get_config('h50')
  config.update_from_flattened_dict(fields)
  return config_lib.close_row(config, 'h50')


@pytest.mark.parametrize(
  'fields, layers_by_bits',
  [
    ({'distill.method': 'kl'}, {}),
    ({'distill.method': 'hint', 'distill.kd_weight': 0.0}, {}),
    ({'distill.method': 'kl+hint'}, {0: ['hidden1']}),
    # Methods that take rounded features have another store.
    ({'distill.method': 'quantized+hint'}, {4: ['hidden1'], 0: ['hidden1']}),
    (
      {
        'distill.method': 'hint+attention',
        'distill.hint.layers': 'hidden0:hidden0',
        'distill.attention.layers': 'hidden0:conv0',
      },
      {0: ['hidden0', 'conv0']},
    ),
  ],
)
def test_the_layers_that_methods_take_by_bits(fields, layers_by_bits):
  config = _closed(**fields, **{'teacher.feature_bits': 4})
  problem = Problem(10, (28, 28, 1))
  layers = networks.teacher_layers(config, problem)
  assert {bits: [*shapes] for bits, shapes in layers.items()} == layers_by_bits
  teacher_shapes = networks.feature_shapes(config.teacher.model, problem)
  for shapes in layers.values():
    for layer, shape in shapes.items():
      assert shape == teacher_shapes[layer]


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
  network, deployed = networks.deploy(RESNET, PROBLEM, variables)
  assert not jax.tree.leaves(deployed.get('batch_stats', {}))
  images = jnp.asarray(_images(6))
  expected = _logits(module, variables, images)
  assert np.ptp(expected, axis=0).min() > 1e-3
  np.testing.assert_allclose(
    _logits(network, deployed, images), expected, rtol=1e-4
  )


def test_weights_may_be_quantized_before_a_network_is_deployed():
  section = base.mlp((4, 5))
  section.quantization = 'int8'
  assert networks.is_quantized(section) and not networks.is_quantized(MLP)
  _, variables = _init(section)
  quantized = networks.quantize_weights(section, variables)
  images = jnp.asarray(_images(6))
  before, after = (
    _logits(*networks.deploy(section, PROBLEM, each), images)
    for each in (quantized, variables)
  )
  np.testing.assert_array_equal(before, after)
  assert np.ptp(before) > 0


# --- Networks over whole splits. ---


def test_a_split_of_any_length_gets_the_logits_of_its_scaled_images():
  module, variables = _init(MLP)
  images = jnp.asarray(_images(7))
  predict = networks.make_predict(MLP, PROBLEM.num_classes, 'symmetric', 3)
  expected, _ = module.apply(
    variables, preprocessing.SCALINGS['symmetric'](images), train=False
  )
  logits = predict(variables, images)
  assert logits.shape == (7, 3)
  np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_features_are_those_of_the_given_layers():
  module, variables = _init(MLP)
  images = jnp.asarray(_images(7))
  compute = networks.make_features(
    MLP, PROBLEM.num_classes, 'unit', 3, ('hidden1',)
  )
  features = compute(variables, images)
  _, expected = module.apply(variables, preprocessing.unit(images), train=False)
  assert features.keys() == {'hidden1'}
  np.testing.assert_allclose(
    features['hidden1'], expected['hidden1'], atol=1e-5
  )


# --- Networks in training. ---


@pytest.mark.parametrize(
  'scaling, lowest, highest', [('unit', 0, 1), ('symmetric', -1, 1)]
)
def test_the_range_of_scaled_images(scaling, lowest, highest):
  low, high = networks.image_range(scaling, 1)
  assert low.shape == high.shape == (1, 1, 1, 1)
  np.testing.assert_allclose([low.item(), high.item()], [lowest, highest])


def test_a_peer_is_a_network_of_the_students_kind_in_training():
  section = base.mlp((16,), dropout_rate=0.5)
  init, peer = networks.make_peer(section, PROBLEM)
  _, student = _init(section)
  params = init(jax.random.key(1))
  assert jax.tree.structure(params) == jax.tree.structure(student['params'])
  images = preprocessing.unit(jnp.asarray(_images(5)))
  first, again, other = (
    peer(params, images, jax.random.key(seed)) for seed in (0, 0, 1)
  )
  assert first.shape == (5, 3)
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()  # Dropout is on.
