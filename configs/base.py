"""The sections of a config; kd_jax/section_makers.py explains every field."""

from kd_jax.section_makers import (
  ConfigError,
  base,
  conv_net,
  distillation,
  hard_labels,
  mlp,
  model,
  optimizer,
  resnet,
  training,
)
from kd_jax.sections import NetworkSections

__all__ = [
  'ConfigError',
  'NetworkSections',
  'base',
  'conv_net',
  'distillation',
  'hard_labels',
  'mlp',
  'model',
  'optimizer',
  'resnet',
  'training',
]
