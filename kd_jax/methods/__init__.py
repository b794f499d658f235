"""Distillation methods: one pure function for each, registered by name.

`METHODS` holds all methods. To add a method, write a function and register it
in the file of your config:

  from kd_jax import methods

  def confidence(student_logits, teacher_logits, *, margin=1.0):
    ...  # [B, K], [B, K] -> [B]

  methods.METHODS['confidence'] = methods.Method(confidence)

Then run the config with
`--config.distill.method=confidence --config.distill.confidence.margin=2.0`.

The methods:
`response`            from logits
`features`            from features, layer by layer
`review`              from fused layers
`relations`           from the relations between examples
`adversarial`         by a discriminator, or on attacked images
`quantization_mimic`  from rounded features

What they share:
`method`         the interface: a function and its registry entry
`vectors`        vectors and feature maps, made comparable
`adapters`       layers that are trained with the student
`linear_layers`  linear layers of adapters and discriminators
`attacks`        adversarial images
"""

from kd_jax.methods import (
  adversarial,
  features,
  quantization_mimic,
  relations,
  response,
  review,
)
from kd_jax.methods.method import (
  AT_LEAST_0,
  AT_LEAST_1,
  BETWEEN_0_AND_1,
  INPUTS,
  POSITIVE,
  Method,
  Range,
  Shapes,
  match_layers,
  split_options,
  stored_layer,
)


class _Registry(dict[str, Method]):
  """The methods by name; an entry that no config can use is refused."""

  def __setitem__(self, name: str, method: Method) -> None:
    if not isinstance(method, Method):
      raise TypeError(
        f'METHODS[{name!r}] = {type(method).__name__}: expected a '
        'methods.Method, such as methods.Method(function)'
      )
    # The name is that of a section of the config, and + joins names.
    if not name.isidentifier():
      raise ValueError(
        f'METHODS[{name!r}]: expected a name of letters, digits and _'
      )
    super().__setitem__(name, method)


METHODS: dict[str, Method] = _Registry(
  {
    **response.METHODS,
    **features.METHODS,
    **review.METHODS,
    **relations.METHODS,
    **adversarial.METHODS,
    **quantization_mimic.METHODS,
  }
)

__all__ = [
  'AT_LEAST_0',
  'AT_LEAST_1',
  'BETWEEN_0_AND_1',
  'INPUTS',
  'METHODS',
  'POSITIVE',
  'Method',
  'Range',
  'Shapes',
  'match_layers',
  'split_options',
  'stored_layer',
]
