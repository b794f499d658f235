"""Rows of the CIFAR-10 recipes, as changes of the recipe's fields."""

from collections.abc import Mapping
from typing import Any

from configs import cifar_methods
from configs import cifar_table2 as table2

LABELS_ALONE = {'distill.ce_weight': 1.0, 'distill.kd_weight': 0.0}
# Changes of the recipe of `ideal_best`, one for each row. `ideal_best` uses the
# row with the best accuracy on held-out training images. The row `as_it_is`
# changes nothing; it keeps its name, which is in the records of published runs.
BEST_GRID = {
  'as_it_is': {},
  'rate_halved': {'optim.learning_rate': 0.05},
  'rate_doubled': {'optim.learning_rate': 0.2},
  'teacher_alone': {'distill.ce_weight': 0.0, 'distill.kd_weight': 1.0},
  'half_and_half': {'distill.ce_weight': 0.5, 'distill.kd_weight': 0.5},
  't2': {'distill.temperature': 2.0},
  't8': {'distill.temperature': 8.0},
  'mixup': {'train.mixup_alpha': 0.2},
  'decay_doubled': {'optim.weight_decay': 1e-3},
}
# Images of each class in the recipe `sizes`.
SIZES = (50, 100, 250, 500, 1000, 5000)
# Larger sets have one seed, unless --config.seeds=N sets the seeds of all rows.
_LARGEST_WITH_SEEDS = 500
# Images of each class that keep their label in `unlabeled`, of 5,000.
LABELED = 100
QUANTIZED = ('float', 'int8', 'int4', 'buckets8', 'buckets4', 'buckets2')


def recipe_rows(
  recipe: str, readings: table2.Readings, seeds: int, epochs: int
) -> dict[str, table2.RowFields]:
  """Returns the rows of a recipe, by name.

  Args:
    recipe: the name of the recipe.
    readings: the readings of what the paper leaves open.
    seeds: students of each row.
    epochs: epochs of the students on all images.
  """
  if recipe == 'sizes':
    return _size_rows(readings, seeds)
  if recipe == 'unlabeled':
    return _unlabeled_rows(epochs)
  if recipe in _ROWS:
    return _ROWS[recipe](readings)
  row = table2.IDEAL if recipe == 'ideal' else recipe
  fields = table2.row_fields(row, readings)
  return {recipe: table2.RowFields(fields, row)}


def _size_rows(readings, seeds: int) -> dict[str, table2.RowFields]:
  rows = {}
  for size in SIZES:
    fields = {
      'train.subset': 'all' if size == 5000 else f'first{size}',
      # Results on small sets vary most, and cost least.
      'seeds': seeds if size <= _LARGEST_WITH_SEEDS else 1,
    }
    for suffix, row in (('', table2.IDEAL), ('_no_kd', 'ideal_no_kd')):
      rows[f'n{size}{suffix}'] = table2.RowFields(
        table2.row_fields(row, readings) | fields
      )
  return rows


def _unlabeled_rows(epochs: int) -> dict[str, table2.RowFields]:
  """Returns students of few labels, of images without labels, and of both.

  The teacher has seen all labels, so that its outputs for images without labels
  are better than those for images that are new to it.
  """
  few = {'train.subset': f'first{LABELED}'}
  # An epoch of few images has a fiftieth of the steps.
  longer = few | {'train.epochs': 10 * epochs}
  rest = {'train.unlabeled': 'rest'}
  none = {'train.subset': 'none'}
  return _without_paper(
    {
      'labels_1000': longer | LABELS_ALONE,
      'labels_50000': LABELS_ALONE,
      'kd_1000': longer,
      'kd_50000': {},
      'kd_1000_and_unlabeled': few | rest,
      'kd_unlabeled_alone': none | rest,
    }
  )


def _best_fields(readings) -> dict[str, Any]:
  fields = table2.row_fields(table2.IDEAL, readings)
  return fields | {'distill.kd_weight': 0.9}


def _ideal_best_rows(readings) -> dict[str, table2.RowFields]:
  fields = _best_fields(readings)
  return {
    'ideal_best': table2.RowFields(fields, table2.IDEAL),
    'ideal_best_no_kd': table2.RowFields(fields | LABELS_ALONE, 'ideal_no_kd'),
  }


def _ideal_best_grid_rows(readings) -> dict[str, table2.RowFields]:
  """Returns a row for each change of BEST_GRID, and controls without KD.

  A change of the KD loss has no control.
  """
  fields = _best_fields(readings)
  rows = {row: fields | change for row, change in BEST_GRID.items()}
  for row, change in BEST_GRID.items():
    if not any(path.startswith('distill') for path in change):
      rows[f'labels_{row}'] = fields | LABELS_ALONE | change
  return _without_paper(rows)


def _ideal_mimic_rows(readings) -> dict[str, table2.RowFields]:
  """Returns the ideal student by quantization mimic, and its controls.

  The paper's section 3.2 names a quantized algorithm, and does not say whether
  the loss keeps the term of the logits: mimic_kl keeps it, mimic does not.
  """
  rows = {}
  for suffix, row, no_kd in (
    ('', table2.IDEAL, 'ideal_no_kd'),
    ('_reduced', 'ideal_reduced', 'ideal_reduced_no_kd'),
  ):
    fields = table2.row_fields(row, readings)
    labels = table2.row_fields(no_kd, readings)
    rows[f'labels{suffix}'] = table2.RowFields(labels, no_kd)
    for name, method in cifar_methods.IDEAL_MIMIC.items():
      changed = fields | {'distill.method': method}
      rows[f'{name}{suffix}'] = table2.RowFields(changed, row)
  return rows


def _quantized_rows() -> dict[str, dict[str, Any]]:
  return {scheme: {'student.quantization': scheme} for scheme in QUANTIZED}


def _without_paper(
  rows: Mapping[str, Mapping[str, Any]],
) -> dict[str, table2.RowFields]:
  return {name: table2.RowFields(fields) for name, fields in rows.items()}


# Recipes that are no row of Table 2; `sizes` and `unlabeled` depend on more.
_ROWS = {
  'table2': table2.all_rows,
  'baseline_no_kd': table2.baseline_no_kd_rows,
  'strides': table2.stride_rows,
  'dropped': table2.dropped_rows,
  'reduced_sets': table2.reduced_set_rows,
  'ideal_best': _ideal_best_rows,
  'ideal_best_grid': _ideal_best_grid_rows,
  'methods': lambda _: _without_paper(
    cifar_methods.comparison_rows(on_grid=False)
  ),
  'methods_grid': lambda _: _without_paper(
    cifar_methods.comparison_rows(on_grid=True)
  ),
  'hints': lambda _: _without_paper(cifar_methods.hint_rows()),
  'mimic': lambda _: _without_paper(cifar_methods.mimic_rows()),
  'ideal_mimic': _ideal_mimic_rows,
  'quantized': lambda _: _without_paper(_quantized_rows()),
}
