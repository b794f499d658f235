"""Batch norms folded into convolutions: the network computes the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import models
from kd_jax.models import apply

NETWORKS = {
  'basic': {},
  'bottleneck': {'block': 'bottleneck'},
  'pooled': {'block': 'pooled'},
  'block that starts as its shortcut': {'zero_init': True},
}


def _with_random_norms(variables):
  """Gives batch norms the values of a trained network: no zeros, no ones."""
  rng = np.random.default_rng(0)

  def replace(path, leaf):
    is_norm = 'norm' in jax.tree_util.keystr(path)
    return rng.uniform(0.1, 1, leaf.shape).astype('f') if is_norm else leaf

  return jax.tree_util.tree_map_with_path(replace, variables)


@pytest.mark.parametrize('fields', NETWORKS.values(), ids=NETWORKS)
def test_a_folded_network_is_equal_up_to_rounding(fields):
  module = models.ResNet(
    num_classes=3, blocks=(1, 2), widths=(8, 16), strides=(1, 2), **fields
  )
  variables = apply.init_variables(module, (8, 8, 3), jax.random.key(0))
  variables = _with_random_norms(variables)
  network, folded = models.folding.fold(module, variables)
  assert not folded['batch_stats']
  assert 'norm' not in str(jax.tree.structure(folded))
  images = jax.random.normal(jax.random.key(3), (5, 8, 8, 3))
  forward = lambda net: jax.jit(functools.partial(net.apply, train=False))
  expected, features = forward(module)(variables, images)
  actual, folded_features = forward(network)(folded, images)
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
  for name, feature in features.items():
    np.testing.assert_allclose(
      folded_features[name], feature, rtol=1e-4, atol=1e-5
    )
  # Initial variables have the same structure, so a checkpoint can be restored.
  like = apply.variables_like(network, (8, 8, 3))
  assert jax.tree.structure(like) == jax.tree.structure(folded)


def test_networks_without_batch_norm_do_not_change():
  module = models.MLP(hidden=(4,), num_classes=3)
  variables = {'params': {'x': jnp.ones(2)}, 'batch_stats': {}}
  assert models.folding.fold(module, variables) == (module, variables)
