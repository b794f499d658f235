"""Teachers of the CIFAR-10 recipes: a ResNet-50 and two ResNet-18."""

from typing import Any

from ml_collections import config_dict

from kd_jax import config_fields
from kd_jax.sections import NetworkSections

TEACHER = 'teachers/cifar10-resnet50'
RESNET18_EPOCHS = 30
# The ResNet-18 teachers: the folder, and fields of the network that differ.
BEST_TEACHERS = {
  'pool': ('teachers/cifar10-resnet18', {}),
  'no_pool': (
    'teachers/cifar10-resnet18-no_pool',
    {'stem_pool': False, 'widths': (32, 64, 128, 256)},
  ),
}
# Images at the end of the training split, on which hyperparameters are chosen.
# The ResNet-18 teachers have not been trained on these images either.
HOLDOUT = 5000
# Images of the training split of CIFAR-10.
_TRAIN_EXAMPLES = 50000


def resnet50() -> NetworkSections:
  """Returns a ResNet-50 and the recipe of the authors' public checkpoint."""
  return NetworkSections(
    model=config_fields.resnet((3, 4, 6, 3), block='bottleneck'),
    train=config_fields.training(
      epochs=100,
      batch_size=256,
      augmentation='crop_and_flip',
      drop_remainder=True,
    ),
    optim=config_fields.optimizer(
      'sgd',
      1e-2,
      schedule='cosine',
      warmup_fraction=0.3,
      momentum=0.9,
      nesterov=True,
      weight_decay=1e-2,
    ),
    distill=config_fields.hard_labels(),
  )


# Recipes for the training of a ResNet teacher, as fields of the teacher's
# section:
#   published: the recipe of the authors' public checkpoint.
#   one_cycle: a peak learning rate of 0.2 instead of 0.01, less weight decay.
#   cutout: one_cycle with cutout.
_ONE_CYCLE = {
  'train.batch_size': 256,
  'optim.learning_rate': 0.2,
  'optim.weight_decay': 5e-4,
  'optim.warmup_fraction': 0.2,
  'model.zero_init': True,
  'model.dtype': 'auto',
}
TRAININGS: dict[str, dict[str, Any]] = {
  'published': {
    'train.batch_size': 256,
    'optim.learning_rate': 1e-2,
    'optim.weight_decay': 1e-2,
    'optim.warmup_fraction': 0.3,
    'model.zero_init': False,
    'model.dtype': 'auto',
  },
  'one_cycle': _ONE_CYCLE,
  'cutout': _ONE_CYCLE | {'train.augmentation': 'crop_flip_cutout'},
}


def use_training(teacher: config_dict.ConfigDict, name: str) -> None:
  """Gives a teacher a recipe of TRAININGS.

  Args:
    teacher: the teacher's section; changed in place.
    name: a name in TRAININGS.
  """
  teacher.update_from_flattened_dict(TRAININGS[name])


def use_resnet18(
  teacher: config_dict.ConfigDict, variant: str = 'pool'
) -> None:
  """Turns the teacher section into a ResNet-18 of BEST_TEACHERS.

  These teachers are pretrained, and the machine that trains the students can
  also train them.

  Args:
    teacher: the teacher's section; changed in place.
    variant: a name in BEST_TEACHERS.
  """
  teacher.pretrained, fields = BEST_TEACHERS[variant]
  teacher.outputs_scaling = 'cifar10'
  teacher.model = config_fields.resnet((2, 2, 2, 2), zero_init=True, **fields)
  teacher.train = config_fields.training(
    epochs=RESNET18_EPOCHS,
    batch_size=128,
    augmentation='crop_and_flip',
    drop_remainder=True,
  )
  teacher.train.holdout_fraction = HOLDOUT / _TRAIN_EXAMPLES
  teacher.optim = one_cycle()


def shorten(teacher: config_dict.ConfigDict, epochs: int) -> None:
  """Adapts the recipe of the ResNet-50 to few epochs.

  The long recipe has a small learning rate and a large weight decay, with which
  few epochs achieve little. At ten times the learning rate, a network diverges
  while the rate still rises, unless its blocks start as their shortcuts.
  """
  teacher.train.epochs = epochs
  teacher.train.batch_size = 128
  teacher.optim.learning_rate = 0.1
  teacher.optim.weight_decay = 5e-4
  teacher.model.zero_init = True
  teacher.model.dtype = 'auto'


def one_cycle() -> config_dict.ConfigDict:
  """Returns the section of SGD with one cycle of the learning rate."""
  return config_fields.optimizer(
    'sgd',
    0.1,
    schedule='cosine',
    warmup_fraction=0.2,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
  )
