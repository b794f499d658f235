"""Tests run on the CPU backend, with JAX at its strictest."""

import jax
import pytest

from kd_jax import data

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture(scope='session')
def generated() -> data.Dataset:
  """2,000 training and 500 test images, made, not downloaded."""
  return data.load('generated')
