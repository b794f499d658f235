"""The traced numbers of a train step."""

from collections.abc import Mapping
from typing import NamedTuple

import jax

from kd_jax import methods


class Hyperparameters(NamedTuple):
  """The traced numbers of a step: a sweep over them compiles once.

  Every leaf is a float32 scalar.

  Attributes:
    learning_rate: before the schedule's factor.
    ce_weight: the weight of the cross-entropy on labels, a peer's included.
    kd_weight: the weight of all distillation methods together.
    temperature: the temperature of the methods that have one.
    methods: by method, its 'weight' and its numeric options. A missing entry
      means the method's default.
  """

  learning_rate: jax.Array
  ce_weight: jax.Array
  kd_weight: jax.Array
  temperature: jax.Array
  methods: Mapping[str, Mapping[str, jax.Array]] = {}

  def discriminator_rate(self, name: str) -> jax.Array | float:
    """Returns the learning rate of a method's discriminator."""
    options = self.methods.get(name, {})
    default = methods.METHODS[name].discriminator_rate
    return options.get('discriminator_rate', default)

  def weight_of(self, term: str) -> jax.Array:
    """Returns the weight of a term of the objective."""
    if term not in methods.METHODS:  # A cross-entropy: the student's, a peer's.
      return self.ce_weight
    options = self.methods.get(term, {})
    return self.kd_weight * options.get('weight', methods.METHODS[term].weight)
