"""Methods in float64: by the formulas of references.py, and by their code."""

import jax
import numpy as np

from tests.methods import references
from tests.methods.method_calls import loss_and_gradient


def constants(name, inputs):
  """Returns the arguments of a reference for parts that have no gradient."""
  if name == 'crd':
    return {'scales': _crd_scales(inputs)}
  if name == 'mutual':
    return {
      'constant': tuple(
        np.float64(inputs[k]) for k in ('student_logits', 'peer_logits')
      )
    }
  if name == 'quantized':
    keys = ('student_features', 'teacher_features', 'adapters')
    arrays = jax.tree.map(np.float64, {k: inputs[k] for k in keys})
    return {
      'offsets': references.quantized_offsets(
        **arrays, bits=inputs['student_bits']
      )
    }
  return {}


def _crd_scales(inputs):
  scales = []
  for s, t, adapter in zip(
    inputs['student_features'],
    inputs['teacher_features'],
    inputs['adapters'],
    strict=True,
  ):
    a, b = (
      (y := np.float64(x).reshape(len(x), -1) @ layer['kernel'] + layer['bias'])
      / np.linalg.norm(y, axis=1, keepdims=True)
      for x, layer in zip((s, t), adapter, strict=True)
    )
    scales.append(
      [
        references.crd_scale(x, y, inputs['labels'], inputs['tau'])
        for x, y in ((a, b), (b, a))
      ]
    )
  return scales


def reference_loss(name, inputs):
  """Returns the loss [B] of a function in float64; all examples count."""
  inputs = in_float64(inputs | constants(name, inputs))
  inputs.pop('mask', None)
  return getattr(references, name)(**inputs)


def in_float64(inputs):
  """Returns inputs whose floats are of float64, exactly equal."""

  def convert(x):
    is_float = isinstance(x, np.ndarray | np.float32) and x.dtype.kind == 'f'
    return np.float64(x) if is_float else x

  return jax.tree.map(convert, inputs)


def own_loss_and_gradient(name, inputs):
  """Returns losses and gradients of the method's own code, run in float64."""
  with jax.enable_x64(True):
    values, gradient = loss_and_gradient(name, in_float64(inputs))
    assert values.dtype == np.float64, f'{name} computes in {values.dtype}'
    return jax.tree.map(np.asarray, (values, gradient))
