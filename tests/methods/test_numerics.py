"""All methods in float32 against float64: random, extreme, degenerate inputs.

`METHODS` gives the list of functions, so a new method is tested without a line
here. Where a formula of references.py applies, values are compared with it.
Values and gradients are compared with the method's own code in float64, too.
"""

import jax
import numpy as np
from method_calls import (
  BATCH,
  FUNCTIONS,
  NUM_CLASSES,
  make_inputs,
  take,
)


def _change(inputs, ending, change):
  """Returns inputs in which the arrays of some names are changed."""
  return inputs | {
    name: jax.tree.map(lambda x: np.asarray(change(x), x.dtype), value)
    for name, value in inputs.items()
    if name.endswith(ending)
  }


def _scale(ending, factor):
  return lambda inputs: _change(inputs, ending, lambda x: factor * x)


def _with_temperature(temperature):
  def change(inputs):
    return {
      name: np.float32(temperature) if name == 'temperature' else value
      for name, value in inputs.items()
    }

  return change


def _zero_rows(inputs):
  def clear(*rows):
    def change(x):
      x = x.copy()
      x[list(rows)] = 0
      return x

    return change

  student = ('student_features', 'student_logits', 'peer_logits')
  inputs = _change(inputs, student, clear(0, 1))
  return _change(inputs, ('teacher_features', 'teacher_logits'), clear(1, 2))


def _clusters(spread):
  """Returns a change of inputs: examples lie in two tight clusters."""

  def change(inputs):
    def move(x):
      centers = x[:2][np.arange(len(x)) % 2]
      return centers + spread * (x - centers)

    return _change(inputs, ('_features', '_logits'), move)

  return change


def _sure(inputs):
  """Makes the teacher sure of a class, and the student of another."""
  logits = 1e4 * np.eye(NUM_CLASSES)[np.arange(BATCH) % NUM_CLASSES]
  inputs = _change(inputs, 'teacher_logits', lambda _: logits)
  others = np.roll(logits, 1, axis=1)
  return _change(inputs, ('student_logits', 'peer_logits'), lambda _: others)


# Changes of random inputs for which the formulas of references.py hold.
REGULAR = {
  'random': lambda inputs: inputs,
  'features_tiny': _scale('_features', 1e-6),
  'features_huge': _scale('_features', 1e6),
  'student_features_tiny': _scale('student_features', 1e-6),
  'logits_tiny': _scale('_logits', 1e-3),
  'logits_large': _scale('_logits', 10),
  'temperature_20': _with_temperature(20),
  'temperature_1000': _with_temperature(1e3),
  'clusters_0.01': _clusters(1e-2),
  'clusters_0.001': _clusters(1e-3),
}
DEGENERATE = {
  'zero_rows': _zero_rows,
  'zeros': _scale(('_features', '_logits'), 0),
  'equal_examples': lambda inputs: take(inputs, np.zeros(BATCH, int)),
  'equal_pairs': lambda inputs: take(inputs, np.arange(BATCH) // 2),
  'one_class': lambda inputs: _change(inputs, 'labels', lambda x: 0 * x),
  'sure': _sure,
  'temperature_1e4': _with_temperature(1e4),
  'padding': lambda inputs: _change(inputs, 'mask', lambda x: 0 * x),
}


def _cases(changes):
  """Returns (function, case) for changes that change a function's inputs."""
  cases = []
  for name in FUNCTIONS:
    usual = make_inputs(name)
    for case, change in changes.items():
      pairs = zip(
        jax.tree.leaves(usual), jax.tree.leaves(change(usual)), strict=True
      )
      if case == 'random' or any(np.any(a != b) for a, b in pairs):
        cases.append((name, case))
  return cases


def _assert_near(computed, expected, tolerance):
  """Compares arrays by the length of their difference."""
  expected = np.asarray(expected, np.float64)
  difference = np.linalg.norm(np.asarray(computed, np.float64) - expected)
  assert difference <= tolerance * np.linalg.norm(expected) + 1e-30
