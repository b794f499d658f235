"""Comparisons of distillation methods: their rows and their weights."""

from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import config_dict

from kd_jax import methods
from kd_jax.config_checks import checking

# The argument `method` that keeps the method of the recipe's protocol.
PROTOCOL_METHOD = 'response'
# Bits of a teacher's features, for methods that take rounded features.
_FEATURE_BITS = 4
# Weights that a method's weight is chosen from, in percent of its default.
GRID = (10, 30, 100, 300)
# A further weight, for methods that were best at the largest weight of GRID.
_LARGER_WEIGHT = 1000


def use_method(config: config_dict.ConfigDict, method: str) -> None:
  """Sets the distillation methods of a config.

  Args:
    config: the config; changed in place.
    method: names of methods joined by +, or 'response', which keeps the method
      of the recipe's protocol.
  Raises:
    UserError: if a name is unknown.
  """
  if method == PROTOCOL_METHOD:
    return
  checking.check_method_names('argument method', method)
  config.distill.method = method
  if _uses_rounded(method):
    config.teacher.feature_bits = _FEATURE_BITS


def uses_features(method: str) -> bool:
  """Returns whether the argument `method` names a method that uses features."""
  return method != PROTOCOL_METHOD and any(
    methods.METHODS[name].uses_features for name in method.split('+')
  )


def _uses_rounded(method: str) -> bool:
  return any(methods.METHODS[name].uses_rounded for name in method.split('+'))


def method_rows(
  assistant: Mapping[str, Any], without: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
  """Returns rows that compare labels, every method, and chains of teachers.

  Args:
    assistant: the fields of a network whose size is between the student's and
      the teacher's.
    without: methods that the comparison leaves out.
  Returns:
    The fields of each row, by the row's name.
  """
  labels = {'distill.kd_weight': 0.0}
  rows = {
    'labels': labels,
    'label_smoothing': labels | {'distill.label_smoothing': 0.1},
    **{
      name: _method_fields(name)
      for name in methods.METHODS
      if name not in without
    },
    # Each generation learns from the generation before.
    'born_again': {'teacher.rows': ('labels',)},
    'born_again_2': {'teacher.rows': ('born_again',)},
    'assistant': dict(assistant),
    'by_assistant': {'teacher.rows': ('assistant',)},
    'ensemble': {'teacher.rows': ('teacher', 'assistant')},
    'ensemble_of_probabilities': {
      'teacher.rows': ('teacher', 'assistant'),
      'teacher.average': 'probabilities',
    },
  }
  # The paper of ARD uses no cross-entropy and a high temperature.
  rows['ard'] |= {'distill.ce_weight': 0.0, 'distill.temperature': 30.0}
  return rows


def _method_fields(name: str) -> dict[str, Any]:
  fields: dict[str, Any] = {'distill.method': name}
  if _uses_rounded(name):
    fields['teacher.feature_bits'] = _FEATURE_BITS
  return fields


def grid_rows(
  rows: Mapping[str, Mapping[str, Any]], *, larger: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
  """Returns rows of each method at each weight of the grid.

  Args:
    rows: rows from `method_rows`; rows without a method are left out.
    larger: methods that were best at the grid's largest weight, and that also
      get a row at the next weight.
  Returns:
    The fields of each row, by the row's name METHOD_PERCENT.
  """
  grid = {}
  for name, fields in rows.items():
    if name not in methods.METHODS or 'distill.method' not in fields:
      continue
    for percent in (*GRID, _LARGER_WEIGHT) if name in larger else GRID:
      weight = {f'distill.{name}.weight': _weight(name, percent)}
      grid[f'{name}_{percent}'] = dict(fields) | weight
  return grid


def _weight(method: str, percent: int) -> float:
  return percent * methods.METHODS[method].weight / 100


def use_weights(
  config: config_dict.ConfigDict, percents: Mapping[str, int]
) -> None:
  """Sets the weights of methods.

  Args:
    config: the config; changed in place.
    percents: the weight by method, in percent of the method's default.
  """
  for name, percent in percents.items():
    config.distill[name].weight = _weight(name, percent)
