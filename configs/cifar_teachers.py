"""Teachers of the CIFAR-10 recipes: a ResNet-50, two ResNet-18, a ResNet-9."""

from typing import Any, NamedTuple

from ml_collections import config_dict

from kd_jax import config_fields
from kd_jax.sections import NetworkSections

TEACHER = 'teachers/cifar10-resnet50'
# Images at the end of the training split, on which hyperparameters are chosen.
# The ResNet-18 teachers have not been trained on these images either.
HOLDOUT = 5000
# Images of the training split of CIFAR-10.
_TRAIN_EXAMPLES = 50000
# Epochs of the ResNet-18 teachers.
_EPOCHS = 30


class BestTeacher(NamedTuple):
  """A teacher small enough to be trained where the students are trained.

  Attributes:
    folder: its folder.
    fields: fields of the teacher's section, where they differ from those of a
      ResNet-18 without `zero_init`, trained with `one_cycle`.
  """

  folder: str
  fields: dict[str, Any]


_RESNET18 = {
  'model.zero_init': True,
  'train.holdout_fraction': HOLDOUT / _TRAIN_EXAMPLES,
}
# The ResNet-9 has eight convolutions, like that of DAWNBench (David Page 2018),
# and needs 133 million multiply-accumulates instead of 379: it has fewer
# filters at 32x32 pixels, one convolution instead of three at 16x16, and three
# instead of one at 8x8. Its initial kernels and its training are close to those
# of airbench94 (Keller Jordan 2024, arXiv:2404.00498), with the learning rate
# and the weight decay for batches of 128.
BEST_TEACHERS = {
  'pool': BestTeacher('teachers/cifar10-resnet18', _RESNET18),
  'no_pool': BestTeacher(
    'teachers/cifar10-resnet18-no_pool',
    _RESNET18 | {'model.stem_pool': False, 'model.widths': (32, 64, 128, 256)},
  ),
  'resnet9': BestTeacher(
    'teachers/cifar10-resnet9',
    {
      'model.block': 'pooled',
      'model.blocks': (0, 1, 2, 2),
      'model.widths': (48, 48, 192, 256),
      'model.stem_pool': False,
      'model.stem_init': 'dct',
      'model.conv_init': 'dirac',
      'model.zero_init': False,
      'model.head_pool': 'max',
      'model.temperature': 9.0,
      'model.dtype': 'auto',
      'train.epochs': 36,
      'optim.learning_rate': 0.125,
      'optim.weight_decay': 1.3e-3,
      'optim.bias_factor': 64.0,
      'optim.scale_factor': 0.0,
      'distill.label_smoothing': 0.2,
    },
  ),
}


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


def use_best_teacher(
  teacher: config_dict.ConfigDict, name: str = 'pool'
) -> None:
  """Turns the teacher section into one of BEST_TEACHERS.

  Args:
    teacher: the teacher's section; changed in place.
    name: a name in BEST_TEACHERS.
  """
  best = BEST_TEACHERS[name]
  teacher.pretrained = best.folder
  teacher.outputs_scaling = 'cifar10'
  teacher.model = config_fields.resnet((2, 2, 2, 2))
  teacher.train = config_fields.training(
    epochs=_EPOCHS,
    batch_size=128,
    drop_remainder=True,
    augmentation='crop_and_flip',
  )
  teacher.optim = one_cycle()
  teacher.update_from_flattened_dict(best.fields)


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
