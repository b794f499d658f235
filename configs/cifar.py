"""Table 2 of the paper: ResNet students of a ResNet-50, on CIFAR-10.

  python launch.py --config=configs/cifar.py:ideal
  python launch.py --config=configs/cifar.py:table2,seeds=5
  python launch.py --config=configs/cifar.py:ideal,stride_at=stem
  python launch.py --config=configs/cifar.py:baseline_no_kd,seeds=3
  python launch.py --config=configs/cifar.py:strides
  python launch.py --config=configs/cifar.py:reduced_sets,seeds=3
  python launch.py --config=configs/cifar.py:sizes,seeds=3
  python launch.py --config=configs/cifar.py:ideal_best,stride_at=stem
  python launch.py --config=configs/cifar.py:ideal_best,teacher=no_pool
  python launch.py --config=configs/cifar.py:methods,seeds=3
  python launch.py --config=configs/cifar.py:quantized
  python launch.py --config=configs/cifar.py:unlabeled,seeds=3
  python launch.py --config=configs/cifar.py:teacher,epochs=10

Arguments:
  seeds=N: students of each row. The recipe `sizes` trains one student of each
    row with more than 500 images per class.
  epochs=N: epochs of the students, or of the teacher in the recipes `teacher`,
    `resnet18` and `resnet9`. In `unlabeled`, rows of 1,000 images take ten
    times N.
  protocol: as_coded (the authors' code) or as_written (the paper's text).
  stride_at: block_default, stage1 or stem, the readings of the paper's "stride
    of the base block"; block_default, as in the authors' code, has no effect.
  reduced: first500, block5000 or as_published, the readings of the paper's
    reduced training set.
  teacher: the teacher of `ideal_best`: pool, no_pool or resnet9. The first two
    are ResNet-18 and can be trained by `resnet18`. pool has a max pool after
    its first convolution; no_pool has none, and half the channels. resnet9 is
    not in teachers/: train it with `resnet9` first.
  training: published, one_cycle or cutout, the recipes of configs/
    cifar_teachers.py for the teacher that `teacher`, `resnet18` or `resnet9`
    trains.
  method=NAME: a method of kd_jax/methods, or several joined by +. The default,
    response, keeps the method of the protocol.
  smoke=true: a run that finishes in a minute.

Students learn from the teacher in teachers/ that the config names. Without its
folder, the run ends with an error: --config.teacher.retrain=true trains the
teacher, which takes hours on a CPU. A recipe that trains a teacher publishes it
in the folder `outputs` of its run, for you to copy to teachers/NAME. The
outputs of the ResNet-50 are logits; methods that compare features learn from
the ResNet-18.

On two CPU cores, a seed of `table2` takes about two hours, `methods,seeds=3`
four, and `ideal_best_grid` seven and a half. results/table2.md and
results/methods.md have the expected accuracies.
"""

from ml_collections import config_dict

from configs import (
  arguments,
  cifar_methods,
  cifar_rows,
  cifar_table2,
  cifar_teachers,
  method_comparison,
)
from kd_jax import config_fields
from kd_jax.sections import NetworkSections

TEMPERATURE = 4.0
EPOCHS = 10  # of the students of most recipes
BEST_EPOCHS = 30  # of `ideal_best`
BEST_GRID_EPOCHS = 15  # of `ideal_best_grid`
QUANTIZED_EPOCHS = 15  # of `quantized`
UNLABELED_EPOCHS = 15  # of `unlabeled`, on all images
METHODS_EPOCHS = 15  # of `methods` and `mimic`, on 5,000 images
METHODS_GRID_EPOCHS = 10  # of `methods_grid`
# Learning rate of `ideal_best`: the best of `ideal_best_grid`, see results/.
BEST_RATE = 0.2

RECIPES = {
  'ideal': "the paper's ideal student: blocks 1, 1, 1, 1, stride 2",
  'table2': 'all of Table 2',
  **{
    row: f'blocks {", ".join(map(str, blocks))}, stride {stride}'
    + ('' if kd else ', no KD loss')
    + (', reduced training set' if reduced else '')
    for row, (blocks, stride, kd, reduced, *_) in cifar_table2.TABLE2.items()
  },
  'baseline_no_kd': 'the baseline of Table 2, a ResNet-18, without a KD loss',
  'strides': 'strides 2 and 4 at stage 1 and at the stem, with and without '
  'a KD loss',
  'dropped': 'the rows with stages of 0 blocks, without these stages',
  'reduced_sets': 'the ideal student on the three readings of the reduced '
  'training set, with and without a KD loss',
  'sizes': 'the ideal student on 50 to 5,000 images per class, with and '
  'without a KD loss',
  'ideal_best': 'the ideal student with the best recipe that we found, with '
  'and without a KD loss',
  'ideal_best_grid': 'candidates for the recipe of ideal_best, on held-out '
  'training images',
  'methods': 'every distillation method, on 500 images per class',
  'methods_grid': 'each method at several weights, on held-out training images',
  'hints': 'the method hint with and without its ReLU, at two weights, beside '
  'kl and labels',
  'quantized': 'students with quantized weights and activations',
  'mimic': 'quantization mimic: the student, the teacher, both or neither '
  'quantized',
  'ideal_mimic': 'the ideal student by quantization mimic, on the full and the '
  'reduced training set, with and without the term of the logits',
  'unlabeled': 'the ideal student on 1,000 labels and 49,000 images without '
  'labels, on 1,000 labels alone, and on all labels',
  'teacher': 'the ResNet-50 teacher and its outputs, without students',
  'resnet18': 'the ResNet-18 that teaches ideal_best, methods and mimic; '
  'publishes its weights and outputs',
  'resnet9': 'the ResNet-9 that can teach ideal_best; publishes its weights '
  'and outputs',
}


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """Returns the config of `RECIPE,ARGUMENT=VALUE,...`.

  Args:
    arg: the text after the colon of `--config`; None for the first recipe.
  Raises:
    ConfigError: if the recipe, an argument or a value is unknown.
  """
  recipe, args = arguments.parse_arg(
    arg,
    RECIPES,
    seeds=1,
    epochs=0,
    protocol='as_coded',
    stride_at='',
    reduced='',
    teacher='',
    training='',
    method=method_comparison.PROTOCOL_METHOD,
    smoke=False,
  )
  _check_arguments(recipe, args)
  readings = _readings(args)
  config = _base(_name(recipe, args), readings)
  config.seeds = args.seeds
  method_comparison.use_method(config, args.method)
  if method_comparison.uses_features(args.method):
    cifar_teachers.use_best_teacher(config.teacher)
  if recipe in _TEACHER_RECIPES:
    config.teacher.retrain = True
    _TEACHER_RECIPES[recipe](config, args)
    if args.training:
      cifar_teachers.use_training(config.teacher, args.training)
  else:
    config.train.epochs = args.epochs or EPOCHS
    if recipe in _STUDENT_RECIPES:
      _STUDENT_RECIPES[recipe](config, args)
    rows = cifar_rows.recipe_rows(
      recipe, readings, args.seeds, config.train.epochs
    )
    cifar_table2.set_rows(config, rows)
  if args.smoke:
    _shrink(config)
  return config


def _check_arguments(recipe: str, args: config_dict.ConfigDict) -> None:
  """Checks the values of the arguments.

  Raises:
    ConfigError: if a value is unknown, or the recipe takes no `teacher`.
  """
  arguments.check_choice(args, 'protocol', cifar_table2.PROTOCOLS)
  for argument, known in (
    ('stride_at', cifar_table2.STRIDES_AT),
    ('reduced', cifar_table2.REDUCED_SETS),
    ('teacher', cifar_teachers.BEST_TEACHERS),
    ('training', cifar_teachers.TRAININGS),
  ):
    if args[argument]:
      arguments.check_choice(args, argument, known)
  if args.teacher and args.teacher not in _TEACHERS.get(recipe, ()):
    teachers = [f'{r} has {", ".join(t)}' for r, t in _TEACHERS.items()]
    raise config_fields.ConfigError(
      f'{recipe} has no teacher={args.teacher}: {"; ".join(teachers)}'
    )
  if args.training and recipe not in _TEACHER_RECIPES:
    raise config_fields.ConfigError(
      f'{recipe} has no training={args.training}: '
      f'{", ".join(_TEACHER_RECIPES)} have'
    )


def _readings(args: config_dict.ConfigDict) -> cifar_table2.Readings:
  """Returns the protocol's readings, with those that the arguments replace."""
  readings = cifar_table2.PROTOCOLS[args.protocol]
  return readings._replace(
    stride_at=args.stride_at or readings.stride_at,
    reduced=args.reduced or readings.reduced,
  )


def _name(recipe: str, args: config_dict.ConfigDict) -> str:
  """Returns the name of the run: the recipe and the given arguments."""
  parts = ['cifar', recipe]
  trains_students = recipe not in _TEACHER_RECIPES
  if trains_students:
    parts.append(args.protocol)
    for argument in ('stride_at', 'reduced'):
      if args[argument]:
        parts.append(f'{argument}_{args[argument]}')
  if args.teacher:
    parts.append(f'teacher_{args.teacher}')
  if args.training:
    parts.append(args.training)
  if trains_students and args.method != method_comparison.PROTOCOL_METHOD:
    parts.append(args.method)
  if args.epochs:
    parts.append(f'epochs_{args.epochs}')
  if args.smoke:
    parts.append('smoke')
  return '-'.join(parts)


def _base(name: str, readings: cifar_table2.Readings) -> config_dict.ConfigDict:
  """Returns the fields that all recipes share, before the recipe's changes."""
  config = config_fields.make_config(
    name=name,
    dataset='cifar10',
    scaling='symmetric',
    teacher=cifar_teachers.resnet50(),
    student=NetworkSections(
      model=config_fields.resnet((1, 1, 1, 1), min_blocks=readings.min_blocks),
      train=config_fields.training(
        epochs=EPOCHS, batch_size=100, drop_remainder=True
      ),
      optim=config_fields.optimizer(
        'sgd', 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
      ),
      distill=config_fields.distillation(
        method='kl',
        temperature=TEMPERATURE,
        ce_weight=1.0,
        kd_weight=1.0,
        kd_warmup_epochs=readings.kd_warmup_epochs,
      ),
    ),
  )
  config.teacher.scaling = 'cifar10'
  config.teacher.outputs_scaling = readings.outputs_scaling
  config.teacher.pretrained = cifar_teachers.TEACHER
  config.eval.batch_size = 500
  config.benchmark.batch_sizes = (1, 100)
  config.benchmark.live_teacher = True
  config.benchmark.cold_calls = 0
  return config


def _train_resnet50(config, args) -> None:
  config.teacher.outputs_scaling = 'cifar10'
  config.teacher.also_outputs = ('symmetric',)
  cifar_teachers.use_training(config.teacher, 'published')
  if args.epochs:
    cifar_teachers.shorten(config.teacher, args.epochs)


def _train_resnet18(config, args) -> None:
  _train_best_teacher(config, args, args.teacher)


def _train_resnet9(config, args) -> None:
  _train_best_teacher(config, args, 'resnet9')


def _train_best_teacher(config, args, teacher: str) -> None:
  _learn_from_best_teacher(config, EPOCHS, teacher)
  if args.epochs:
    config.teacher.train.epochs = args.epochs
  config.teacher.publish_weights = True


def _use_one_cycle(config, epochs: int) -> None:
  """Trains students with one cycle of the learning rate, with KD throughout."""
  config.train.epochs = epochs
  config.train.batch_size = 128
  config.optim = cifar_teachers.one_cycle()
  config.student.zero_init = True
  config.distill.kd_warmup_epochs = 0


def _learn_from_best_teacher(config, epochs: int, teacher: str = '') -> None:
  """Trains students with one cycle, on the outputs of a ResNet with weights.

  Such a teacher can compute outputs for any image.
  """
  config.data.scaling = 'cifar10'
  _use_one_cycle(config, epochs)
  cifar_teachers.use_best_teacher(config.teacher, teacher or 'pool')


def _augment(config) -> None:
  """Trains students on augmented images, with outputs for these images."""
  config.train.augmentation = 'crop_and_flip'
  config.distill.ce_weight = 0.1


def _ideal_best(config, args) -> None:
  _learn_from_best_teacher(config, args.epochs or BEST_EPOCHS, args.teacher)
  _augment(config)
  config.optim.learning_rate = BEST_RATE


def _ideal_best_grid(config, args) -> None:
  _learn_from_best_teacher(config, args.epochs or BEST_GRID_EPOCHS)
  _augment(config)
  _test_on_held_out(config)


def _test_on_held_out(config) -> None:
  config.data.holdout_examples = cifar_teachers.HOLDOUT
  config.benchmark.enabled = False


def _compare_methods(config, epochs: int) -> None:
  """Gives all methods one student, one teacher and one schedule."""
  _learn_from_best_teacher(config, epochs)
  config.train.subset = 'first500'
  config.student.stem_stride = 2
  config.benchmark.live_teacher = False


def _compare_at_best_weights(config, args) -> None:
  _compare_methods(config, args.epochs or METHODS_EPOCHS)
  method_comparison.use_weights(config, cifar_methods.METHOD_WEIGHTS)
  config.benchmark.steps_against = 'kl'


def _ideal_mimic(config, args) -> None:
  """Rounds the features of both networks; they are those of a ResNet-18."""
  cifar_teachers.use_best_teacher(config.teacher)
  config.teacher.feature_bits = cifar_methods.IDEAL_MIMIC_BITS
  config.distill.quantized.student_bits = cifar_methods.IDEAL_MIMIC_BITS


def _methods(config, args) -> None:
  _compare_at_best_weights(config, args)
  config.eval.attacked_examples = 1000


def _methods_grid(config, args) -> None:
  _compare_methods(config, args.epochs or METHODS_GRID_EPOCHS)
  _test_on_held_out(config)


def _quantized(config, args) -> None:
  _use_one_cycle(config, args.epochs or QUANTIZED_EPOCHS)
  config.student.stem_stride = 2
  config.benchmark.live_teacher = False


def _unlabeled(config, args) -> None:
  _use_one_cycle(config, args.epochs or UNLABELED_EPOCHS)
  config.data.scaling = config.teacher.outputs_scaling = 'cifar10'
  config.student.stem_stride = 2
  config.benchmark.enabled = False


# The recipes with an argument `teacher`, and its values.
_TEACHERS: dict[str, tuple[str, ...]] = {
  'ideal_best': tuple(cifar_teachers.BEST_TEACHERS),
  'resnet18': ('pool', 'no_pool'),
}
# What a recipe changes in the config; recipes of Table 2 change nothing.
_TEACHER_RECIPES = {
  'teacher': _train_resnet50,
  'resnet18': _train_resnet18,
  'resnet9': _train_resnet9,
}
_STUDENT_RECIPES = {
  'ideal_best': _ideal_best,
  'ideal_best_grid': _ideal_best_grid,
  'methods': _methods,
  'methods_grid': _methods_grid,
  'hints': _compare_at_best_weights,
  'mimic': _compare_at_best_weights,
  'ideal_mimic': _ideal_mimic,
  'quantized': _quantized,
  'unlabeled': _unlabeled,
}


def _shrink(config: config_dict.ConfigDict) -> None:
  """Shrinks a run so that it finishes in a minute."""
  config.data.train_examples = 1024
  config.data.test_examples = 256
  config.data.at_most = True
  for section in (config, *config.rows.values()):
    subset = section.get('train', {}).get('subset') or ''
    if subset.startswith('first'):
      # A smoke run has too few images for a larger subset.
      section.train.subset = 'upto50'
    if section.get('train', {}).get('epochs'):
      section.train.epochs = 1
  config.teacher.train.epochs = 1
  config.benchmark.batch_sizes = (1, 32)
  config.benchmark.budget_s = 0.05
