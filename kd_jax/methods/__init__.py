"""Distillation methods: one pure function for each, registered by name.

`METHODS` holds all methods. To add a method, write a function and register it
in the file of your config:

  from kd_jax import methods

  def confidence(student_logits, teacher_logits, *, margin=1.0):
    ...  # [B, K], [B, K] -> [B]

  methods.METHODS['confidence'] = methods.Method(confidence)

Then run the config with
`--config.distill.method=confidence --config.distill.confidence.margin=2.0`.
"""

from kd_jax.methods import (
  adversarial,
  features,
  quantization_mimic,
  relations,
  response,
)
from kd_jax.methods.method import (
  INPUTS,
  Method,
  Shapes,
  match_layers,
  split_options,
  stored_layer,
)

METHODS: dict[str, Method] = {
  **response.METHODS,
  **features.METHODS,
  **relations.METHODS,
  **adversarial.METHODS,
  **quantization_mimic.METHODS,
}

__all__ = [
  'INPUTS',
  'METHODS',
  'Method',
  'Shapes',
  'match_layers',
  'split_options',
  'stored_layer',
]
