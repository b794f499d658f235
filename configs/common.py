"""What every config is made of: sections, recipes, arguments, tables of rows.

A recipe is named `--config=configs/FILE.py:RECIPE,ARGUMENT=VALUE,...`. Its
config declares every field there is, so that a mistyped override is an error.

A config holds `rows`: the students it trains. A recipe of one row has all its
fields closed; a table leaves the fields that its rows disagree about open
(None), and each row holds its own value for them. What the command line gives
an open field holds for every row.
"""

import ast
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict
from ml_collections.config_flags import config_path

from kd_jax import methods
from kd_jax.runtime import errors


class ConfigError(errors.UserError):
  """A recipe, argument or field that is not there, or a value out of range."""


def model(kind: str, **fields) -> config_dict.ConfigDict:
  """A network: `kind` names it, the fields are its module's attributes.

  With --config.student.kind=package.module:function it is your own instead: the
  function is called with the number of classes, and returns a Flax module.
  """
  return config_dict.create(kind=kind, **fields)


def mlp(
  hidden: tuple[int, ...], *, dropout_rate=0.0, temperature=1.0
) -> config_dict.ConfigDict:
  """An MLP; `temperature` divides its logits, in training and in use."""
  return model(
    'mlp',
    hidden=hidden,
    dropout_rate=dropout_rate,
    temperature=temperature,
    dtype='float32',
    quantization='float',  # a name in SCHEMES of kd_jax/models/quantization.py
  )


def conv_net(
  filters: tuple[int, ...],
  hidden: tuple[int, ...],
  *,
  dropout_rate: float,
  temperature=1.0,
) -> config_dict.ConfigDict:
  """3x3 convolutions, then an MLP."""
  return model(
    'conv_net',
    filters=filters,
    hidden=hidden,
    dropout_rate=dropout_rate,
    temperature=temperature,
    dtype='float32',
    quantization='float',  # a name in SCHEMES of kd_jax/models/quantization.py
  )


def resnet(
  blocks: tuple[int, ...], *, block='basic', **fields
) -> config_dict.ConfigDict:
  """A ResNet for small images; `fields` override the defaults below."""
  section = model(
    'resnet',
    block=block,  # basic, bottleneck
    blocks=blocks,  # of each stage
    min_blocks=0,  # 1: a stage of 0 blocks has one; 0: it is left out
    widths=(64, 128, 256, 512)[: len(blocks)],
    strides=(1, 2, 2, 2)[: len(blocks)],  # of each stage's first block
    stem_stride=1,
    stem_pool=True,
    zero_init=False,  # blocks start as their shortcuts
    temperature=1.0,
    dtype='float32',
    quantization='float',  # as in `mlp`
  )
  section.update(fields)
  return section


def optimizer(
  name: str, learning_rate: float, **fields
) -> config_dict.ConfigDict:
  """An optimizer and its schedule; `fields` override the defaults below."""
  optim = config_dict.create(
    name=name,  # adam, sgd
    learning_rate=learning_rate,
    schedule='constant',  # constant, cosine
    warmup_fraction=0.0,  # of all steps; cosine only
    momentum=0.0,  # sgd only
    nesterov=False,
    weight_decay=0.0,  # L2 on every parameter
  )
  optim.update(fields)
  return optim


def training(epochs: int, batch_size: int, **fields) -> config_dict.ConfigDict:
  """How long and on what a network trains."""
  train = config_dict.create(
    epochs=epochs,  # of each fit
    batch_size=batch_size,
    folds=0,  # k > 1: first a fit on each k-fold training part, carried on
    carry_optimizer=True,  # from one fit to the next
    holdout_fraction=0.0,  # this last part of the training split is unused
    drop_remainder=False,  # leave out what does not fill a batch
    augmentation='none',  # none, crop_and_flip, jitter
    mixup_alpha=0.0,  # above 0: also mixes pairs of images, and their targets
    # Which examples: all, firstN, onlyA_B, withoutA_B, or another of
    # data/subsets.py.
    subset='all',
    # Images in the place of the training split's: noise, shuffled_pixels, or a
    # data set of the same kind; '' for its own.
    transfer_set='',
  )
  train.update(fields)
  return train


def distillation(**fields) -> config_dict.ConfigDict:
  """What a network learns from; `fields` override the defaults below.

  Beside them is a section of each method of kd_jax/methods, with its weight
  and its options.
  """
  distill = config_dict.create(
    method='kl',  # of kd_jax/methods, or several joined by +
    temperature=1.0,  # of the methods that have one
    ce_weight=0.0,
    kd_weight=1.0,  # of all methods together
    kd_warmup_epochs=0,  # kd_weight rises over so many epochs, from 0
    label_smoothing=0.0,  # of the cross-entropy on labels
    **{name: method.options for name, method in methods.METHODS.items()},
  )
  distill.update(fields)
  return distill


def use_method(config: config_dict.ConfigDict, method: str) -> None:
  """Gives a config the methods that an argument names, joined by +.

  'response' leaves it what its protocol has.
  """
  if method == 'response':
    return
  unknown = set(method.split('+')) - methods.METHODS.keys()
  if unknown:
    raise ConfigError(
      f'unknown method {", ".join(sorted(unknown))!r}; known: response, '
      f'{", ".join(methods.METHODS)}, or several joined by +'
    )
  config.distill.method = method
  if _is_quantized(method):
    config.teacher.feature_bits = _FEATURE_BITS


# Of a teacher's features, for methods that take them rounded.
_FEATURE_BITS = 4


def uses_features(method: str) -> bool:
  """Whether one of the methods that an argument names takes features."""
  return method != 'response' and any(
    methods.METHODS[name].uses_features for name in method.split('+')
  )


def _is_quantized(method: str) -> bool:
  return any(methods.METHODS[name].uses_rounded for name in method.split('+'))


def method_rows(
  assistant: Mapping[str, Any], without: tuple[str, ...] = ()
) -> dict[str, dict[str, Any]]:
  """Rows that compare methods: labels alone, each method, chains of teachers.

  Args:
    assistant: fields of a network between student and teacher.
    without: methods that are left out.
  """
  labels = {'distill.kd_weight': 0.0}
  rows = {
    'labels': labels,
    'label_smoothing': labels | {'distill.label_smoothing': 0.1},
    **{
      name: {'distill.method': name}
      | ({'teacher.feature_bits': _FEATURE_BITS} if _is_quantized(name) else {})
      for name in methods.METHODS
      if name not in without
    },
    # Each generation is taught by the one before it.
    'born_again': {'teacher.rows': ('labels',)},
    'born_again_2': {'teacher.rows': ('born_again',)},
    'assistant': dict(assistant),
    'by_assistant': {'teacher.rows': ('assistant',)},
    'ensemble': {'teacher.rows': ('teacher', 'assistant')},
    'ensemble_of_probabilities': {
      'teacher.rows': ('teacher', 'assistant'),
      'teacher.average': 'probabilities',
    },
  }
  # As its paper has it: no cross-entropy, and a high temperature.
  rows['ard'] |= {'distill.ce_weight': 0.0, 'distill.temperature': 30.0}
  return rows


# Percent of a method's default weight: what its weight is chosen from.
GRID = (10, 30, 100, 300)


def grid_rows(
  rows: Mapping[str, Mapping[str, Any]], *, larger: tuple[str, ...] = ()
) -> dict[str, dict]:
  """Rows of each method at each weight of the grid, as METHOD_PERCENT.

  Args:
    rows: from `method_rows`.
    larger: methods that were best at the grid's last weight, and have one more.
  """
  return {
    f'{name}_{percent}': dict(fields) | {f'distill.{name}.weight': weight}
    for name, fields in rows.items()
    if name in methods.METHODS and 'distill.method' in fields
    for percent, weight in (
      (percent, _weight(name, percent))
      for percent in (*GRID, *((1000,) if name in larger else ()))
    )
  }


def _weight(method: str, percent: int) -> float:
  return percent * methods.METHODS[method].weight / 100


def use_weights(
  config: config_dict.ConfigDict, percents: Mapping[str, int]
) -> None:
  """Sets the weights of methods, in percent of their defaults."""
  for name, percent in percents.items():
    config.distill[name].weight = _weight(name, percent)


def hard_labels() -> config_dict.ConfigDict:
  """Learning from labels alone."""
  return distillation(ce_weight=1.0, kd_weight=0.0)


def base(
  *,
  name: str,
  dataset: str,
  teacher_model: config_dict.ConfigDict,
  teacher_train: config_dict.ConfigDict,
  teacher_optim: config_dict.ConfigDict,
  student: config_dict.ConfigDict,
  train: config_dict.ConfigDict,
  optim: config_dict.ConfigDict,
  distill: config_dict.ConfigDict,
  scaling: str = 'unit',
) -> config_dict.ConfigDict:
  """A config of one row, with every section there is.

  `scaling` is the students' and, unless its section is changed, the teacher's.
  """
  config = config_dict.ConfigDict()
  config.name = name
  config.seeds = 1  # students of seeds first_seed, first_seed + 1, ...
  config.first_seed = 0
  config.seeds_per_program = 0  # trained as one program; 0 chooses by device
  # Devices that share a batch; 0: one, or of several processes all of theirs.
  config.mesh = config_dict.create(data=0)
  config.loop = 'auto'  # over steps: device, host, or what suits the backend
  config.data = config_dict.create(
    name=dataset,  # or FILE.npz, a folder of images, or tfds:NAME
    memory_gib=4.0,  # of a TFDS set, more training images are left on disk
    image_size=0,  # of such images, cropped and resized; 0: as they are
    scaling=scaling,  # a name in kd_jax/preprocessing.py
    train_examples=0,  # the first so many; 0 for all
    test_examples=0,
    holdout_examples=0,  # the last so many of training take the test's place
  )
  config.teacher = config_dict.create(
    # Your own: FILE.npy (train) or FILE.npz (train, test), or several files,
    # separated by commas.
    logits='',
    # Your own network: package.module:function returns (apply, variables);
    # apply(variables, images) gives logits of images as outputs_scaling has
    # them.
    module='',
    # Earlier rows whose students, each seed's own, are the teachers in its
    # place; 'teacher' may be among them.
    rows=(),
    average='logits',  # of several teachers: logits, probabilities
    class_shift=0,  # students take its class k for class k + so many
    shipped='',  # a folder in teachers/: it comes with the project
    ship_weights=False,  # of a teacher alone, in the place of its outputs
    retrain=False,  # train it, though its outputs are there
    live=False,  # call it in every step, and use no stored outputs
    # Features that students learn from are stored up to so much; beyond, or of
    # augmented images, the teacher is called in every step.
    features_gib=4.0,
    # Of the whole numbers that features are stored as for methods that take
    # them rounded; for others they are half floats.
    feature_bits=0,
    seed=0,
    scaling=scaling,  # of its inputs while it trains
    outputs_scaling=scaling,  # and for the outputs that students are given
    also_outputs=(),  # other scalings that outputs are computed for
    distill=hard_labels(),
    model=teacher_model,
    train=teacher_train,
    optim=teacher_optim,
  )
  config.student = student
  config.distill = distill
  config.train = train
  config.optim = optim
  config.eval = config_dict.create(
    batch_size=1000,
    attacked_examples=0,  # the first so many of test, for robust accuracy
    # Students of a transfer set that lacks classes: also their errors with a
    # bias on the logits of these, chosen on what train.holdout_fraction leaves.
    bias_classes=(),
  )
  config.benchmark = config_dict.create(
    enabled=True,
    batch_sizes=(1, 32, 100, 1000, 10000),
    budget_s=0.5,  # of timed calls, for each network at each batch size
    live_teacher=False,  # also time training steps with and without it
    steps_against='',  # also time each row's training steps against this row's
    cold_calls=1,  # also the paper's protocol, in so many fresh processes
    cold_call_examples=10000,
  )
  config.rows = config_dict.ConfigDict(sort_keys=False)
  # What the paper reports of a row, by row; None where it says nothing.
  config.paper = config_dict.ConfigDict()
  return config


def table(
  config: config_dict.ConfigDict, rows: Mapping[str, Mapping[str, Any]]
) -> config_dict.ConfigDict:
  """Turns a config of one row into one of several.

  Args:
    config: the fields that the rows share; changed in place.
    rows: for each row, the dotted fields in which it differs from `config`.
  Returns:
    The config, with every field that some row sets opened, and each row
    holding its value for all of them.
  """
  varying = sorted({path for row in rows.values() for path in row})
  defaults = {path: config_path.get_value(path, config) for path in varying}
  config.rows = config_dict.ConfigDict(sort_keys=False)
  for name, row in rows.items():
    config.rows[name] = config_dict.ConfigDict()
    for path in varying:
      _create_field(config.rows[name], path, row.get(path, defaults[path]))
  for path, value in defaults.items():
    section, _, last = path.rpartition('.')
    open_field = config_dict.placeholder(type(value))
    parent = config_path.get_value(section, config) if section else config
    parent[last] = open_field
  return config


def _create_field(config, path: str, value: Any) -> None:
  first, _, rest = path.partition('.')
  if not rest:
    config[first] = value
    return
  if first not in config:
    config[first] = config_dict.ConfigDict()
  _create_field(config[first], rest, value)


def parse_arg(
  arg: str | None, recipes: Mapping[str, Any], **defaults
) -> tuple[str, config_dict.ConfigDict]:
  """Parses `RECIPE,key=value,...`.

  Args:
    arg: what follows the colon of `--config`; None or '' for the first recipe.
    recipes: the known recipes, by name.
    **defaults: the known arguments and their defaults; a value given is
      converted to the default's type.
  Returns:
    The recipe's name and the arguments.
  Raises:
    ConfigError: names what is unknown, and lists what is known.
  """
  recipe, *pairs = (arg or next(iter(recipes))).split(',')
  if recipe not in recipes:
    raise ConfigError(
      f'unknown recipe {recipe!r}; the recipes are: {", ".join(recipes)}'
    )
  arguments = dict(defaults)
  for pair in pairs:
    key, equals, text = pair.partition('=')
    if key not in defaults:
      raise ConfigError(
        f'unknown argument {key!r} of recipe {recipe!r}; '
        f'the arguments are: {", ".join(defaults)}'
      )
    # A bare flag means true: `:h300,smoke`.
    arguments[key] = _convert(key, text if equals else 'true', defaults[key])
  return recipe, config_dict.create(**arguments)


def _convert(key: str, text: str, default: Any) -> Any:
  if isinstance(default, str):
    return text
  if isinstance(default, bool) and text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  try:
    value = ast.literal_eval(text)
  except (SyntaxError, ValueError):
    value = None
  if type(value) is type(default):
    return value
  raise ConfigError(
    f'argument {key}={text}: expected a value of type '
    f'{type(default).__name__}, such as {default}'
  )
