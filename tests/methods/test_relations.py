"""Methods that compare the relations of examples: invariances."""

import functools

import jax
import numpy as np
import pytest

from kd_jax.methods import relations
from tests.methods.method_calls import BATCH, gradient, loss, make_inputs


@pytest.mark.parametrize('name', ('rkd', 'similarity', 'correlation'))
def test_relations_do_not_depend_on_the_coordinates(name):
  shapes = (((5,),), ((7,),))
  inputs = make_inputs(name, shapes=shapes)
  (features,) = inputs['student_features']
  rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))
  moved = 3 * features @ rotation.astype('float32')
  if name == 'rkd':  # The other methods compare directions from the origin.
    moved += 10
  np.testing.assert_allclose(
    loss(name, inputs | {'student_features': (moved,)}),
    loss(name, inputs),
    rtol=1e-3,
    atol=1e-6,
  )


def test_rkd_treats_very_close_examples_as_equal():
  """Their distance is a small difference of large numbers."""
  inputs = make_inputs('rkd', shapes=(((5,),), ((7,),)))
  (features,) = inputs['student_features']
  features[1] = features[0]
  close = features * np.where(np.arange(BATCH) == 1, 1 + 1e-6, 1)[:, None]
  moved = inputs | {'student_features': (close.astype('float32'),)}
  assert (moved['student_features'][0][1] != features[1]).any()
  np.testing.assert_allclose(loss('rkd', moved), loss('rkd', inputs), rtol=1e-4)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3),
    gradient('rkd', moved),
    gradient('rkd', inputs),
  )


def test_crd_prefers_the_teachers_features_of_the_same_example():
  shapes = (((8,),), ((8,),))
  inputs = make_inputs('crd', shapes=shapes)
  (maps,) = inputs['adapters']
  inputs['adapters'] = [[maps[0], maps[0]]]
  (features,) = inputs['teacher_features']
  matched = loss('crd', inputs | {'student_features': (features,)})
  shifted = np.roll(features, 1, axis=0)
  mismatched = loss('crd', inputs | {'student_features': (shifted,)})
  assert np.all(matched < mismatched - 1)


def test_correlation_refuses_features_of_one_number():
  """Their direction is the same, whatever the student."""
  one, two = jax.numpy.ones((3, 1)), jax.numpy.ones((3, 2))
  with pytest.raises(ValueError, match='one number for each example'):
    relations.correlation((one,), (two,), jax.numpy.ones(3))
  relations.correlation((two,), (one,), jax.numpy.ones(3))
