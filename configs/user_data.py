"""Distillation on your data, with defaults by the size and number of images.

  python launch.py --config=configs/user_data.py:distill,data=FOLDER --describe
  python launch.py --config=configs/user_data.py:distill,data=FOLDER
  python launch.py --config=configs/user_data.py:distill,data=FOLDER,smoke

Two rows, with the same network and schedule: `distilled` learns from labels and
a teacher, `labels` is the control that learns from labels alone.

Arguments:
  data=PATH: a folder with train/CLASS/*.png and test/CLASS/*.png (or .jpg),
    FILE.npz, or a folder that TFDS has prepared. Without a test split, a fifth
    of the training images is held out to test on.
  teacher=: LOGITS.npz or LOGITS.npy (the teacher's logits), or
    PACKAGE.MODULE:FUNCTION (a trained network). By default the run trains a
    teacher.
  alpha=0.9: weight of the teacher's loss; labels weigh 1 - alpha.
  temperature=4.0: divisor of the logits in the teacher's loss.
  method=kl: a method of kd_jax/methods, or several joined by +.
  unlabeled=: a folder of images without labels, or FILE.npz with an array
    'images'. Only `distilled` learns from them, by the teacher's outputs, so
    that its epochs are longer.
  image_size=N: crops and resizes images to N x N pixels. By default, images
    of one size of at most 224 pixels stay as they are.
  seeds=3: students of each row.
  smoke: a short run: a minute or two the first time, when it compiles.

The recipe chooses batch size, epochs, learning rate, networks and augmentation
by the images in `data`; `--describe` prints them, and run.json records them.
Each is a field of the config, which the command line can override.
"""

import pathlib
import re
import statistics

from ml_collections import config_dict

from configs import arguments, method_comparison, tables
from kd_jax import config_fields
from kd_jax.config_checks import checking
from kd_jax.data.user_data import survey as survey_lib
from kd_jax.sections import NetworkSections

RECIPES = {
  'distill': 'your images, your teacher or a trained one, and a control on '
  'labels alone; needs data=FOLDER or data=FILE.npz',
}
_DEFAULTS = {
  'data': '',
  'teacher': '',
  'unlabeled': '',
  'alpha': 0.9,
  'temperature': 4.0,
  'method': 'kl',
  'image_size': 0,
  'seeds': 3,
  'smoke': False,
}
# Pixels. Images that differ in size, or that are larger, are resized to the
# largest of these sides that most images have.
SIDES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224)
# Without a test split, this share of the training images is held out, and at
# most this number.
_HELD_OUT = 0.2
_MOST_HELD_OUT = 10_000
# A training takes at least this number of steps, in a number of epochs between
# these limits.
_STEPS = 2000
_EPOCHS = (20, 100)
# Powers of two that a batch may have, if there are enough images.
_BATCH_SIZES = (8, 16, 32, 64, 128)
# Batches of an epoch, at least, before a batch grows.
_BATCHES = 32
# Adam's learning rate with a batch of 32. It grows with the square root of the
# batch.
_RATE = 1e-3
# Pixels. Images up to this side get MLPs instead of ResNets.
_MLP_SIDE = 16
# Pixels. In images from this side on, a shift by four pixels changes little:
# their crops differ in size, too.
_LARGE_SIDE = 64
# Images from this number on get a ResNet-18 as teacher, smaller data one of
# half its width.
_WIDE_FROM = 10_000
_SMOKE_EXAMPLES = 1024


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """Returns the config of `RECIPE,ARGUMENT=VALUE,...`.

  Args:
    arg: the text after the colon of `--config`; it must hold data=PATH.
  Raises:
    ConfigError: if the recipe, an argument or a value is unknown.
    DataError: if the data cannot be used.
  """
  _, args = arguments.parse_arg(arg, RECIPES, **_DEFAULTS)
  if not args.data:
    raise config_fields.ConfigError(
      'this recipe needs your data: expected --config=configs/user_data.py:'
      'distill,data=FOLDER or data=FILE.npz'
    )
  if not 0 < args.alpha <= 1:
    raise config_fields.ConfigError(
      f"argument alpha={args.alpha:g}: expected the weight of the teacher's "
      'loss, above 0 and at most 1'
    )
  checking.check_method_names('argument method', args.method)
  survey = survey_lib.survey(args.data)
  config = _base(args, survey)
  _set_teacher(config, args.teacher)
  config.seeds = args.seeds
  if args.method != _DEFAULTS['method']:
    method_comparison.use_method(config, args.method)
  tables.make_table(
    config,
    {
      'distilled': {},
      'labels': {'distill.ce_weight': 1.0, 'distill.kd_weight': 0.0},
    },
  )
  if args.smoke:
    _shrink(config)
  return config


def _name(args: config_dict.ConfigDict) -> str:
  """Returns the name of the run: the data and the arguments that are given."""
  path = pathlib.Path(args.data).expanduser().absolute()
  parts = [path.name.removesuffix('.npz')]
  if args.teacher:
    parts.append(pathlib.PurePath(args.teacher).stem)
  if args.unlabeled:
    parts.append(f'unlabeled_{pathlib.PurePath(args.unlabeled).stem}')
  parts += [
    f'{key}_{args[key]}'
    for key in ('alpha', 'temperature', 'method', 'image_size')
    if args[key] != _DEFAULTS[key]
  ]
  parts += ['smoke'] if args.smoke else []
  return re.sub(r'[^\w.+-]', '_', '-'.join(['distill', *parts]))


def _base(
  args: config_dict.ConfigDict, survey: survey_lib.Survey
) -> config_dict.ConfigDict:
  """Returns the fields that both rows share."""
  held_out = 0
  if not survey.has_test:
    held_out = min(int(_HELD_OUT * survey.train_examples), _MOST_HELD_OUT)
  count = survey.train_examples - held_out
  if args.smoke:
    count = min(count, _SMOKE_EXAMPLES)
  image_size = args.image_size or _image_size(survey)
  side = image_size or max(survey.sizes[0])
  augmentation = _augmentation(side, survey.is_gray, args.teacher)
  teacher, student = _networks(side, count)
  config = config_fields.make_config(
    name=_name(args),
    dataset=args.data,
    teacher=NetworkSections(
      model=teacher,
      train=_training(count, augmentation),
      optim=_optimizer(count),
      distill=config_fields.hard_labels(),
    ),
    student=NetworkSections(
      model=student,
      train=_training(count, augmentation),
      optim=_optimizer(count),
      distill=config_fields.distillation(
        temperature=args.temperature,
        ce_weight=1 - args.alpha,
        kd_weight=args.alpha,
      ),
    ),
  )
  config.train.unlabeled = args.unlabeled
  config.data.image_size = image_size
  config.data.holdout_examples = held_out
  config.eval.batch_size = 1000 if side <= 64 else 100
  config.benchmark.batch_sizes = (1, 32)
  config.benchmark.cold_calls = 0
  return config


def _image_size(survey: survey_lib.Survey) -> int:
  """Returns the side that images are resized to; 0 keeps their size."""
  fits = len({*survey.sizes}) == 1 and max(survey.sizes[0]) <= SIDES[-1]
  if fits or not survey.can_resize:
    return 0
  typical = statistics.median(min(size) for size in survey.sizes)
  return max([side for side in SIDES if side <= typical], default=SIDES[0])


def _augmentation(side: int, is_gray: bool, teacher: str) -> str:
  """Returns the augmentation of teacher and students.

  Gray images are often characters, which a mirror turns into others. Logits in
  a file are those of images without augmentation.
  """
  if side <= _MLP_SIDE or _is_logits(teacher):
    return 'none'
  if is_gray:
    return 'jitter'
  return 'resized_crop_and_flip' if side >= _LARGE_SIDE else 'crop_and_flip'


def _networks(
  side: int, count: int
) -> tuple[config_dict.ConfigDict, config_dict.ConfigDict]:
  """Returns the sections of the teacher's and the student's network.

  Args:
    side: the longer side of the images in pixels.
    count: the number of training images.
  """
  if side <= _MLP_SIDE:
    return config_fields.mlp((800, 800), dropout_rate=0.5), config_fields.mlp(
      (100,)
    )
  # The first stage sees at most 32 x 32 positions, or 56 x 56 of 224 x 224.
  stem = {'stem_pool': side > 24, 'stem_stride': 2 if side > 64 else 1}
  wide = (64, 128, 256, 512)
  widths = wide if count >= _WIDE_FROM else tuple(w // 2 for w in wide)
  return (
    config_fields.resnet((2, 2, 2, 2), widths=widths, dtype='auto', **stem),
    config_fields.resnet((1, 1, 1, 1), widths=(16, 32, 64, 128), **stem),
  )


def _batch_size(count: int) -> int:
  """Returns the examples of a batch, for a number of training images."""
  fitting = [size for size in _BATCH_SIZES if size * _BATCHES <= count]
  return max(fitting, default=min(_BATCH_SIZES[0], max(count, 1)))


def _training(count: int, augmentation: str) -> config_dict.ConfigDict:
  """Returns the section of a training on a number of images."""
  batch_size = _batch_size(count)
  epochs = -(-_STEPS * batch_size // max(count, 1))
  return config_fields.training(
    epochs=min(max(epochs, _EPOCHS[0]), _EPOCHS[1]),
    batch_size=batch_size,
    drop_remainder=True,  # Batch norm needs whole batches.
    augmentation=augmentation,
  )


def _optimizer(count: int) -> config_dict.ConfigDict:
  rate = _RATE * (_batch_size(count) / 32) ** 0.5
  return config_fields.optimizer(
    'adam', rate, schedule='cosine', warmup_fraction=0.1
  )


def _is_logits(teacher: str) -> bool:
  return teacher.endswith(('.npz', '.npy'))


def _set_teacher(config: config_dict.ConfigDict, teacher: str) -> None:
  """Makes the argument `teacher` the teacher of a config."""
  if _is_logits(teacher):
    config.teacher.logits = teacher
  elif ':' in teacher:
    config.teacher.module = teacher
  elif teacher:
    raise config_fields.ConfigError(
      f'argument teacher={teacher}: expected LOGITS.npz, LOGITS.npy or '
      'PACKAGE.MODULE:FUNCTION'
    )


def _shrink(config: config_dict.ConfigDict) -> None:
  """Shrinks a run to little more than its compilation."""
  config.seeds = 1
  config.data.train_examples = _SMOKE_EXAMPLES
  config.data.test_examples = 512
  config.data.at_most = True
  config.teacher.train.epochs = 1
  config.train.epochs = 1
  config.benchmark.batch_sizes = (1,)
  config.benchmark.budget_s = 0.05
