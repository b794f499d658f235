"""The network of a config over whole splits: logits and features."""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import config_fields
from kd_jax.data import ImageTask, preprocessing
from kd_jax.evaluation import predictors
from kd_jax.models import apply, from_config

PROBLEM = ImageTask(3, (8, 8, 1))
MLP = config_fields.mlp((4, 5))


def _images(count):
  rng = np.random.default_rng(0)
  shape = (count, *PROBLEM.image_shape)
  return jnp.asarray(rng.integers(0, 256, shape, np.uint8))


def _init(model):
  module = from_config.make_module(model, PROBLEM.num_classes)
  return module, apply.init_variables(
    module, PROBLEM.image_shape, jax.random.key(0)
  )


def test_a_split_of_any_length_gets_the_logits_of_its_scaled_images():
  module, variables = _init(MLP)
  images = _images(7)
  predict = predictors.make_predict(MLP, PROBLEM.num_classes, 'symmetric', 3)
  expected, _ = module.apply(
    variables, preprocessing.SCALINGS['symmetric'](images), train=False
  )
  logits = predict(variables, images)
  assert logits.shape == (7, 3)
  np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_features_are_those_of_the_given_layers():
  module, variables = _init(MLP)
  images = _images(7)
  compute = predictors.make_features(
    MLP, PROBLEM.num_classes, 'unit', 3, ('hidden1',)
  )
  features = compute(variables, images)
  _, expected = module.apply(variables, preprocessing.unit(images), train=False)
  assert features.keys() == {'hidden1'}
  np.testing.assert_allclose(
    features['hidden1'], expected['hidden1'], atol=1e-5
  )
