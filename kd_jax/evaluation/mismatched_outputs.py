"""Signs that a teacher's outputs belong to other examples or classes.

Logits that were computed elsewhere can have the examples in another order, or
their classes: "10" comes before "2" in one program and after it in another.
Students of such logits learn nothing, without an error.
"""

from collections.abc import Mapping, Sequence

import numpy as np

# Accuracies are compared within this many standard deviations.
_DEVIATIONS = 3
# A limit of chance beyond this accuracy says nothing about a teacher.
_CERTAIN = 0.9
_ROUNDING = 1e-9
# A class counts as renamed if most of its examples, and at least this number,
# are given one other class.
_LEAST_RENAMED = 5
# Two splits are far apart if their accuracies differ by more than this.
_FAR_APART = 0.2
# A network has hardly learned if it mends less than this share of the errors
# that the most frequent class makes.
_LEARNED = 0.2
# With more classes than this, no other order of classes is looked for.
_MOST_CLASSES = 2000
_MOST_NAMED = 5


def find_mismatches(
  splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
  class_names: Sequence[str],
  name: str,
) -> list[str]:
  """Returns a sentence for each sign that logits do not fit the labels.

  Args:
    splits: logits [N, K] and labels [N] by split.
    class_names: the names of the K classes.
    name: the teacher, for the sentences.
  """
  sentences = []
  accuracy = {}
  for split, (logits, labels) in splits.items():
    if not len(labels):
      continue
    predicted = np.argmax(logits, axis=-1)
    accuracy[split] = np.mean(predicted == labels)
    renamed = _find_renamed(labels, predicted, len(class_names))
    start = f'{name} has {accuracy[split]:.1%} accuracy on the {split} split'
    if renamed:
      pairs = [f'{class_names[k]} as {class_names[j]}' for k, j in renamed]
      sentences.append(
        f'{start}, as it takes {", ".join(pairs[:_MOST_NAMED])}'
        f'{", ..." if len(pairs) > _MOST_NAMED else ""}: its classes seem to '
        f'be in another order; expected {_shortened(class_names)}'
      )
    elif _is_chance(labels, predicted, len(class_names)):
      sentences.append(
        f'{start}, no more than by chance: its logits seem to belong to other '
        'examples or classes, or it has learned nothing'
      )
  far_apart = _far_apart(accuracy, name)
  if far_apart:
    sentences.append(
      f'{far_apart}: it overfits, or the logits of a split belong to other '
      'examples'
    )
  return sentences


def find_unlearned(
  splits: Mapping[str, tuple[np.ndarray, np.ndarray]], name: str
) -> list[str]:
  """Returns a sentence for each sign that a network should train otherwise.

  Args:
    splits: logits [N, K] and labels [N] by split, of a network that has learned
      these labels; its classes are in the order of the labels.
    name: the network, for the sentences.
  """
  sentences = []
  accuracy = {
    split: float(np.mean(np.argmax(logits, axis=-1) == labels))
    for split, (logits, labels) in splits.items()
    if len(labels)
  }
  if 'train' in accuracy:
    labels = splits['train'][1]
    chance = np.bincount(labels).max() / len(labels)
    if chance < 1 and accuracy['train'] < chance + _LEARNED * (1 - chance):
      sentences.append(
        f'{name} has hardly learned ({accuracy["train"]:.1%} accuracy on the '
        f'train split; one class for all would have {chance:.1%}): train it '
        'longer'
      )
  far_apart = _far_apart(accuracy, name)
  return sentences + ([f'{far_apart}: it overfits'] if far_apart else [])


def _far_apart(accuracy: Mapping[str, float], name: str) -> str:
  """Returns a clause if the accuracies of the splits are far apart, or ''."""
  if not accuracy:
    return ''
  if max(accuracy.values()) - min(accuracy.values()) <= _FAR_APART:
    return ''
  figures = ', '.join(f'{s} {value:.1%}' for s, value in accuracy.items())
  return f'{name} has accuracies that are far apart ({figures})'


def is_unrelated(features: np.ndarray, labels: np.ndarray) -> bool:
  """Returns whether features tell the classes apart no more than by chance.

  Each example of the second half gets the class whose mean over the first half
  is nearest.

  Args:
    features: [N, C] or [N, H, W, C]; maps are averaged over their positions.
    labels: int [N].
  """
  pooled = np.asarray(features, np.float32).reshape(
    len(features), -1, features.shape[-1]
  )
  pooled = pooled.mean(axis=1)
  half = len(labels) // 2
  classes = np.unique(labels[:half])
  if len(classes) < 2:
    return False
  means = np.stack([pooled[:half][labels[:half] == k].mean(0) for k in classes])
  # ||x - m||^2 without ||x||^2, which is the same for all classes.
  distances = np.sum(means**2, axis=1) - 2 * pooled[half:] @ means.T
  predicted = classes[np.argmin(distances, axis=1)]
  return _is_chance(labels[half:], predicted, int(labels.max()) + 1)


def _shortened(class_names: Sequence[str]) -> str:
  """Returns the first class names, joined for a message."""
  shown = ', '.join(class_names[:_MOST_NAMED])
  return shown + (', ...' if len(class_names) > _MOST_NAMED else '')


def _is_chance(
  labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> bool:
  """Returns whether predicted classes agree with labels no more than by chance.

  Args:
    labels: int [N].
    predicted: int [N], classes.
    num_classes: K.
  """
  shares = [
    np.bincount(values, minlength=num_classes) / len(labels)
    for values in (labels, predicted)
  ]
  if np.max(shares[0]) == 1:
    return False  # Any predicted agree with a single class as chance would.
  expected = shares[0] @ shares[1]
  deviation = np.sqrt(expected * (1 - expected) / len(labels))
  limit = expected + _DEVIATIONS * deviation
  if limit >= _CERTAIN:  # Nearly all examples are of one class, or few exist.
    limit = expected + _ROUNDING
  return bool(np.mean(predicted == labels) <= limit)


def _find_renamed(
  labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> list[tuple[int, int]]:
  """Returns pairs (class, class that is predicted for it under a renaming).

  Without a renaming that would correct half of the errors, there are none.

  Args:
    labels: int [N].
    predicted: int [N], classes.
    num_classes: K.
  """
  if num_classes > _MOST_CLASSES:
    return []
  pairs = labels.astype(np.int64) * num_classes + predicted
  counts = np.bincount(pairs, minlength=num_classes**2).reshape(
    num_classes, num_classes
  )
  most_given = np.argmax(counts, axis=1)
  if (most_given == np.arange(num_classes))[counts.any(axis=1)].all():
    return []  # The usual case, which need not wait for an import.
  from scipy import optimize

  classes, given = optimize.linear_sum_assignment(counts, maximize=True)
  found = counts[classes, given]
  is_renamed = (
    (classes != given)
    & (found >= _LEAST_RENAMED)
    & (2 * found > counts.sum(axis=1))
  )
  errors = counts.sum() - np.trace(counts)
  gain = (found - counts[classes, classes])[is_renamed].sum()
  if 2 * gain <= errors:
    return []
  return [
    (int(k), int(j))
    for k, j in zip(classes[is_renamed], given[is_renamed], strict=True)
  ]
