"""The record of a training: metrics, counts, times."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import data
from kd_jax.evaluation import evaluate, inference
from kd_jax.runtime import run_records
from kd_jax.training.plan import WHOLE, Plan

PyTree = Any


class TrainingResult(NamedTuple):
  """A trained network.

  Attributes:
    variables: the network's variables.
    record: JSON values that describe it.
    quantized: the variables as they are stored for use, of a quantized network.
    predicted_classes: int [N], of the test images.
  """

  variables: PyTree
  record: dict[str, Any]
  quantized: PyTree | None = None
  predicted_classes: np.ndarray | None = None


def epoch_metrics(sums: dict[str, np.ndarray]) -> dict[str, float]:
  """Averages one seed's sums of an epoch over the epoch's examples.

  The accuracy is that of the examples with labels; without one it is 0.

  Args:
    sums: totals by name; scalars.
  """
  totals = {name: float(v) for name, v in sums.items()}
  means = {
    f'train/{name}': total / totals['count']
    for name, total in totals.items()
    if name not in ('count', 'correct', 'labeled')
  }
  labeled = totals.get('labeled', totals['count'])
  return means | {'train/accuracy': totals['correct'] / max(labeled, 1)}


def examples_by_class(plan: Plan, dataset: data.Dataset) -> list[int]:
  """Returns how many examples of each class a training uses, with labels."""
  labels = plan.labels_of_epoch(dataset)
  labels = labels[labels != data.NO_LABEL]
  return np.bincount(labels, minlength=dataset.num_classes).tolist()


def count_unlabeled(plan: Plan, dataset: data.Dataset) -> dict[str, int]:
  """Returns {'unlabeled': examples of an epoch without a label}; {} for 0."""
  count = int(np.sum(plan.labels_of_epoch(dataset) == data.NO_LABEL))
  return {'unlabeled': count} if count else {}


def robust_accuracy(
  attack: inference.AttackFn,
  variables: PyTree,
  dataset: data.Dataset,
  num_examples: int,
) -> dict[str, Any]:
  """Returns {'robust': metrics of attacked test images}; {} for 0 examples."""
  if num_examples == 0:
    return {}
  images = dataset.test.images[:num_examples]
  labels = dataset.test.labels[:num_examples]
  logits = attack(variables, images, labels)
  return {
    'robust': evaluate.evaluate(logits, labels)
    | inference.ATTACK
    | {'num_steps': inference.ATTACK_STEPS, 'examples': len(labels)}
  }


def biased_metrics(
  classes: tuple[int, ...],
  held_out_logits: jax.Array,
  targets: dict[str, jax.Array | np.ndarray],
  test_logits: jax.Array,
  test_labels: jax.Array | np.ndarray,
) -> dict[str, Any]:
  """Returns metrics of a network with a bias on the logits of some classes.

  Args:
    classes: whose logits get the bias.
    held_out_logits: [M, K], for the training examples that are in no phase.
    targets: see `bias_targets`.
    test_logits: [N, K].
    test_labels: int [N].
  """
  chosen = {}
  for chosen_by, target_classes in targets.items():
    bias = evaluate.choose_bias(held_out_logits, target_classes, classes)
    logits = evaluate.add_bias(test_logits, classes, bias)
    chosen[chosen_by] = {
      'bias': bias,
      'test': evaluate.evaluate(logits, test_labels),
      'by_class': evaluate.by_class(logits, test_labels),
    }
  return {'classes': list(classes), 'by': chosen}


def bias_targets(
  dataset: data.Dataset,
  teacher_logits: jax.Array | None,
  num_held_out: int,
) -> dict[str, jax.Array | np.ndarray]:
  """Returns the classes that a bias is to reproduce on held-out examples.

  Args:
    dataset: the data set that the network learns.
    teacher_logits: [N, K], of the training split; None without a teacher.
    num_held_out: M, how many of the last training examples are in no phase.
  Returns:
    int [M] each: 'labels', and 'teacher', the classes that it predicts.
  """
  held_out = slice(-num_held_out, None)
  targets: dict[str, jax.Array | np.ndarray] = {
    'labels': dataset.train.labels[held_out]
  }
  if teacher_logits is not None:
    targets['teacher'] = jnp.argmax(teacher_logits[held_out], axis=-1)
  return targets


def history(log: run_records.MetricsLog, row: str, seed: int) -> dict[str, Any]:
  """Sums up a training from its logged epochs.

  The log survives a resume, which a clock around the training would not.

  Args:
    log: the run's log.
    row: the training's row in the log.
    seed: the seed of the training.
  Returns:
    'time': the seconds of all epochs, of the folds, of the last phase, and of
    compilation. 'epochs': the number of epochs. 'last_losses': the mean of each
    loss term in the last epoch, without its weight, by the term's name; and
    their weighted sum, 'loss'. 'test_accuracy_by_epoch'. 'test_accuracy_after':
    the accuracy after each phase, by its name.
  """
  epochs = [
    line for line in log.read() if (line['row'], line['seed']) == (row, seed)
  ]
  seconds: dict[str, float] = {}
  accuracy: dict[str, float] = {}
  for epoch in epochs:
    phase = epoch['phase']
    seconds[phase] = seconds.get(phase, 0.0) + epoch['time/train_s']
    accuracy[phase] = epoch['eval/accuracy']
  total_s, fit_s = sum(seconds.values()), seconds.get(WHOLE, 0.0)
  return {
    'time': {
      'train_s': total_s,
      'fold_loop_s': total_s - fit_s,
      'fit_s': fit_s,
      'compile_s': sum(epoch['time/compile_s'] for epoch in epochs),
    },
    'epochs': len(epochs),
    'last_losses': _losses(epochs[-1]) if epochs else {},
    'test_accuracy_by_epoch': [epoch['eval/accuracy'] for epoch in epochs],
    'test_accuracy_after': accuracy,
  }


def _losses(epoch: Mapping[str, Any]) -> dict[str, float]:
  """Returns the loss terms of a line of the log, by name."""
  losses = {
    key.removeprefix('train/'): value
    for key, value in epoch.items()
    if key.startswith('train/')
  }
  losses.pop('accuracy', None)
  return losses
