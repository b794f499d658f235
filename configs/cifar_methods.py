"""Distillation methods on CIFAR-10: their weights, and quantization mimic."""

from typing import Any

from configs import method_comparison

# In percent of the default weights: the best of the recipe `methods_grid`, as
# results/ records them.
METHOD_WEIGHTS: dict[str, int] = {
  'kl': 300,
  'soft_cross_entropy': 1000,
  'reverse_kl': 100,
  'jensen_shannon': 1000,
  'squared_error': 300,
  'dkd': 30,
  'dist': 100,
  'logit_standardization': 300,
  'mutual': 30,
  'hint': 30,
  'attention': 10,
  'vid': 100,
  'review': 1000,
  'similarity': 100,
  'rkd': 100,
  'correlation': 300,
  'crd': 300,
  'adversarial_logits': 30,
  'adversarial_features': 10,
  'ard': 300,
  'quantized': 100,
}
# Methods that were best at the largest weight of the grid, and so get a larger
# weight too.
LARGER_WEIGHTS = (
  'kl',
  'soft_cross_entropy',
  'jensen_shannon',
  'squared_error',
  'logit_standardization',
  'review',
  'correlation',
  'crd',
  'ard',
)
# Method, bits of the student's features, bits of the teacher's features. 0 bits
# of the student's features means floats; 16 bits of the teacher's features are
# as good as floats.
MIMIC = {
  'kl': ('kl', 0, 16),
  'neither': ('quantized', 0, 16),
  'student_4': ('quantized', 4, 16),
  'teacher_4': ('quantized', 0, 4),
  **{f'both_{bits}': ('quantized', bits, bits) for bits in (2, 3, 4, 8)},
}
# Weights of the rows of the recipe `hints`: the best of the grid with the ReLU,
# and without.
HINT_WEIGHTS = {True: 30.0, False: 300.0}
# Methods of the rows of the recipe `ideal_mimic`, and the bits of both
# networks' features.
IDEAL_MIMIC = {'kl': 'kl', 'mimic': 'quantized', 'mimic_kl': 'kl+quantized'}
IDEAL_MIMIC_BITS = 4


def comparison_rows(*, on_grid: bool) -> dict[str, dict[str, Any]]:
  """Returns the rows that compare methods.

  Args:
    on_grid: whether each method has a row for each weight of the grid.
  Returns:
    The fields of each row, by the row's name.
  """
  assistant = {'student.blocks': (2, 2, 2, 2), 'student.stem_stride': 1}
  rows = method_comparison.method_rows(assistant)
  if on_grid:
    return method_comparison.grid_rows(rows, larger=LARGER_WEIGHTS)
  return rows


def mimic_rows() -> dict[str, dict[str, Any]]:
  """Returns the rows of quantization mimic: the fields by the row's name."""
  return {
    row: {
      'distill.method': method,
      'distill.quantized.student_bits': student_bits,
      'teacher.feature_bits': teacher_bits,
    }
    for row, (method, student_bits, teacher_bits) in MIMIC.items()
  }


def hint_rows() -> dict[str, dict[str, Any]]:
  """Returns labels, `kl`, and `hint` with and without ReLU at each weight."""
  rows: dict[str, dict[str, Any]] = {
    'labels': {'distill.kd_weight': 0.0},
    'kl': {'distill.method': 'kl'},
  }
  for weight in HINT_WEIGHTS.values():
    for relu in (True, False):
      rows[f'hint_{weight:.0f}' + ('' if relu else '_no_relu')] = {
        'distill.method': 'hint',
        'distill.hint.weight': weight,
        'distill.hint.relu': relu,
      }
  return rows
