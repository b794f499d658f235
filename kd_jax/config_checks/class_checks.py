"""Words a warning for each part of the data that lacks classes."""

from collections.abc import Callable, Iterator

import numpy as np
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.sections import TrainingSections
from kd_jax.training import context, plan

# Subsets that start so leave out classes on purpose.
_NAME_CLASSES = ('only', 'without', 'none')
_MOST_NAMED = 10


def find_lacking(
  config: ConfigDict,
  row_configs: dict[str, ConfigDict],
  plans: plan.Plans,
  context_for: Callable[[str], context.Context],
) -> list[str]:
  """Returns a sentence for each part of the data that lacks classes.

  Subsets that name their classes are not mentioned.

  Args:
    config: the run's config.
    row_configs: the closed config of each row.
    plans: the plans of the run's trainings.
    context_for: maps a transfer set's name to its context.
  """
  dataset = context_for('').dataset
  sentences = [*_in_splits(config.data, dataset)]
  if plans.teacher is not None:
    sections = config_lib.teacher_sections(config)
    sentences += _in_training(sections, plans.teacher, dataset)
  for name, row_config in row_configs.items():
    sections = config_lib.student_sections(row_config)
    shown = context_for(config_lib.transfer_set_name(row_config)).dataset
    sentences += _in_training(sections, plans.rows[name], shown)
    sentences += _in_attack(row_config.eval.attacked_examples, dataset)
  return list(dict.fromkeys(sentences))


def _in_splits(section: ConfigDict, dataset: data.Dataset) -> Iterator[str]:
  """Yields a sentence for each split that lacks classes, with its fields."""
  classes_of = {
    split: _classes(np.asarray(getattr(dataset, split).labels))
    for split in data.SPLITS
  }
  present = set().union(*classes_of.values())
  for split in data.SPLITS:
    fields = (f'{split}_examples', 'holdout_examples')
    lacking = set(range(dataset.num_classes)) - classes_of[split]
    used = [f'config.data.{f}={section[f]}' for f in fields if section[f]]
    by_fields = lacking if used else set()
    if not section.train_examples and not section.test_examples:
      by_fields = (
        by_fields & present
      )  # Holding out moves examples, and drops none.
    for classes, start in (
      (by_fields, f'{" with ".join(used)} leaves'),
      (lacking - by_fields, f'the {split} split of {dataset.name} has'),
    ):
      if classes:
        yield f'{start} no {split} example of {_named(classes, dataset)}'


def _in_training(
  sections: TrainingSections, training_plan: plan.Plan, dataset: data.Dataset
) -> Iterator[str]:
  """Yields a sentence for each phase of a training that lacks classes."""
  train = sections.train
  labels = np.asarray(dataset.train.labels)[: dataset.num_labeled]
  kept = labels[: len(labels) - training_plan.num_held_out]
  listed = np.asarray(training_plan.labels(dataset))
  if training_plan.example_indices is not None:
    listed = listed[training_plan.example_indices]
  *folds, whole = [listed[phase.mask] for phase in training_plan.phases]
  parts = [(f'holdout_fraction={train.holdout_fraction:g}', kept, labels)]
  if not train.subset.startswith(_NAME_CLASSES):
    parts.append((f'subset={train.subset!r}', whole, kept))
  parts += [
    (f'folds={train.folds} (fold {i})', fold, whole)
    for i, fold in enumerate(folds)
  ]
  for field, kept_part, chosen_from in parts:
    lacking = _classes(chosen_from) - _classes(kept_part)
    if lacking:
      yield (
        f'config.{sections.field}.{field} leaves no training example of '
        f'{_named(lacking, dataset)}'
      )


def _in_attack(num_examples: int, dataset: data.Dataset) -> Iterator[str]:
  """Yields a sentence if the attacked test examples lack classes."""
  labels = np.asarray(dataset.test.labels)
  lacking = _classes(labels) - _classes(labels[:num_examples])
  if num_examples and lacking:
    yield (
      f'config.eval.attacked_examples={num_examples} leaves no attacked '
      f'example of {_named(lacking, dataset)}'
    )


def _classes(labels: np.ndarray) -> set[int]:
  return set(np.unique(labels).tolist()) - {data.NO_LABEL}


def _named(classes: set[int], dataset: data.Dataset) -> str:
  """Returns how many classes there are of all, and the first names."""
  names = dataset.names_of(sorted(classes))
  more = ', ...' if len(names) > _MOST_NAMED else ''
  return (
    f'{len(names)} of {dataset.num_classes} classes: '
    f'{", ".join(names[:_MOST_NAMED])}{more}'
  )
