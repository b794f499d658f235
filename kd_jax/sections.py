"""The sections of a config that belong to one network.

The recipes in configs/ make them, and config.py reads them from a config.
"""

import dataclasses

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class NetworkSections:
  """The sections of a network and of its training.

  Attributes:
    model: the network.
    train: epochs, batches, examples.
    optim: the optimizer and its schedule.
    distill: the loss.
  """

  model: ConfigDict
  train: ConfigDict
  optim: ConfigDict
  distill: ConfigDict


@dataclasses.dataclass(frozen=True)
class TrainingSections(NetworkSections):
  """The sections of a closed config for the training of one network.

  Attributes:
    field: the name of its `train` section, for messages.
    scaling: the name of the scaling of its images.
    bias_classes: classes whose logits get a bias after the training.
  """

  field: str
  scaling: str
  bias_classes: tuple[int, ...] = ()
