"""The order of a user's examples: every stretch has its share of each class.

Files of users are often sorted: a folder by class, a camera's images by time.
Parts of a split are chosen by position (the first examples, the last fifth, a
contiguous fold), and a part of a sorted split would lack classes. The examples
of a user's data set are therefore put into a fixed order when they are loaded.
The built-in data sets keep the order of their files, which the paper uses.
"""

import numpy as np

# Part of the digest of a user's data set: results of another order, or of
# another way to decode images, are not reused.
VERSION = 'stratified order, transparency over white'
_SEED = 0


def stratified(labels: np.ndarray) -> np.ndarray:
  """Returns an order of examples that spreads each class evenly.

  The examples of a class are shuffled with a fixed seed. The class then has an
  example at each of its quantiles: the first m of N examples hold m / N of each
  class, rounded up or down.

  Args:
    labels: int [N].
  Returns:
    int [N]: the position in `labels` of each example of the order.
  """
  labels = np.asarray(labels)
  shuffled = np.random.RandomState(_SEED).permutation(len(labels))
  _, classes, counts = np.unique(
    labels[shuffled], return_inverse=True, return_counts=True
  )
  by_class = np.argsort(classes, kind='stable')
  starts = np.cumsum(counts) - counts
  rank = np.empty(len(labels), int)  # The example's number in its class.
  rank[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
  quantile = (rank + 0.5) / counts[classes]
  return shuffled[np.lexsort((classes, quantile))]
