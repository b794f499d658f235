"""From a config's sections to models, optimizers, objectives and settings."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_flags import config_path

from kd_jax import (
  augment,
  data,
  errors,
  evaluate,
  methods,
  models,
  objectives,
  optim,
  preprocessing,
  steps,
  train,
)
from kd_jax import teacher as teacher_outputs

PyTree = Any

# A config's model is `kind` and the module's attributes; or, as kind, the name
# of a function of the user's.
MODELS: dict[str, type[nn.Module]] = {
  'mlp': models.MLP,
  'conv_net': models.ConvNet,
  'resnet': models.ResNet,
}

# The kind of a network that is trained already: `module` names it.
TRAINED = 'trained'

# Where the loop over steps is, if not in the program: by backend and model. A
# loop over a ResNet's step in a program takes 2.5 to 5 times as long on a CPU
# as calls of the step; over the other networks' it is the faster one.
_LOOPS = {('cpu', 'resnet'): 'host'}
# Folded into the key of a network's first parameters, for those of methods.
_LEARNED = 1


def model(config: ConfigDict, num_classes: int) -> nn.Module:
  """Returns the Flax module of a model section."""
  fields = config.to_dict()
  kind = fields.pop('kind')
  if kind == TRAINED:
    return models.own.trained(fields['module'])
  if models.own.is_name(kind):
    return models.own.module(kind, num_classes)
  return MODELS[kind](num_classes=num_classes, **fields)


def method_options(distill: ConfigDict) -> dict[str, dict[str, Any]]:
  """Returns the sections of the methods that a distill section makes use of.

  Without a weight on them there are none, and no teacher is asked.
  """
  if not distill.kd_weight:
    return {}
  return {name: distill[name].to_dict() for name in distill.method.split('+')}


def uses_features(distill: ConfigDict) -> bool:
  """Whether a method that a distill section makes use of takes features."""
  return any(
    methods.METHODS[name].uses_features for name in method_options(distill)
  )


def without_methods(section: ConfigDict, but: Iterable[str]) -> ConfigDict:
  """Returns a distill section less the sections of all methods but these."""
  kept = section.copy_and_resolve_references()
  kept.unlock()
  for name in methods.METHODS.keys() - set(but):
    if name in kept:
      del kept[name]
  return kept


def recorded(config: ConfigDict) -> dict[str, Any]:
  """Returns what a run's record says of its config, as JSON gives it back.

  That is all but the sections of methods that no row makes use of: a method
  that is new to the library leaves old runs as they are.
  """
  used = {
    name
    for row in config.rows
    for name in method_options(close_row(config, row).distill)
  }
  config = config.copy_and_resolve_references()
  config.unlock()
  config.distill = without_methods(config.distill, used)
  config.teacher.distill = without_methods(config.teacher.distill, ())
  return plain(config)


def network(config: ConfigDict) -> ConfigDict:
  """Returns a model section as the network it makes: sections that make the
  same one, such as 0 blocks that count as one, become equal.
  """
  section = config.copy_and_resolve_references()
  if section.kind == 'resnet':
    least = section.min_blocks
    section.blocks = tuple(max(count, least) for count in section.blocks)
    section.min_blocks = 0
  return section


def apply_fn(module: nn.Module) -> steps.ApplyFn:
  """Returns a module's forward pass as a pure function of arrays."""

  def apply(variables, images, *, train, key):
    batch_stats = variables['batch_stats']
    rngs = {'dropout': key} if train else None
    if train and batch_stats:
      (logits, features), updates = module.apply(
        variables, images, train=True, rngs=rngs, mutable=['batch_stats']
      )
      return logits, features, updates['batch_stats']
    logits, features = module.apply(variables, images, train=train, rngs=rngs)
    return logits, features, batch_stats

  return apply


def is_quantized(config: ConfigDict) -> bool:
  """Whether a model section's kernels are stored as whole numbers."""
  return models.quantized.ARITHMETICS[config.arithmetic].bits > 0


def pack(config: ConfigDict, variables: PyTree) -> PyTree:
  """Returns a quantized model's variables as they are stored for use."""
  params = models.quantized.pack(variables['params'], config.arithmetic)
  return variables | {'params': params}


def deploy(
  config: ConfigDict,
  num_classes: int,
  image_shape: tuple[int, ...],
  variables: PyTree,
) -> tuple[nn.Module, PyTree]:
  """Returns the network that a model section is in use, and its variables.

  One of floats has its batch norms folded into its convolutions.

  Args:
    config: of the model.
    num_classes: K.
    image_shape: [H, W, C].
    variables: as trained; of a quantized model, packed or not.
  """
  module = model(config, num_classes)
  if not is_quantized(config):
    return models.folding.fold(module, variables)
  if not models.quantized.is_packed(variables['params']):
    variables = pack(config, variables)
  network, params = models.quantized.deploy(
    module, variables['params'], image_shape
  )
  return network, variables | {'params': params}


def init_variables(module: nn.Module, image_shape, key: jax.Array):
  """Returns a module's initial variables for images [H, W, C]."""
  init = functools.partial(module.init, train=False)
  # Compiled: one operation after the other would be compiled apart.
  variables = jax.jit(init)(key, jnp.zeros((1, *image_shape)))
  return {'batch_stats': {}, **variables}


def variables_like(module: nn.Module, image_shape) -> PyTree:
  """Returns the shapes and types of a network's variables."""
  return jax.eval_shape(
    lambda key: init_variables(module, image_shape, key), jax.random.key(0)
  )


def has_batch_norm(
  config: ConfigDict, num_classes: int, image_shape: tuple[int, ...]
) -> bool:
  """Whether a model section's network has statistics of its batches."""
  like = variables_like(model(config, num_classes), image_shape)
  return bool(jax.tree.leaves(like['batch_stats']))


def predict_fn(
  config: ConfigDict, num_classes: int, scaling: str, batch_size: int
) -> evaluate.PredictFn:
  """Returns a model section's `predict`; see evaluate.py."""
  return evaluate.make_predict(
    apply_fn(model(config, num_classes)),
    preprocessing.apart(scaling),
    batch_size=batch_size,
  )


def attack_fn(
  config: ConfigDict, num_classes: int, scaling: str, batch_size: int
) -> Callable[..., jax.Array]:
  """Returns a model section's `attack`; see evaluate.py."""
  return evaluate.make_attack(
    apply_fn(model(config, num_classes)),
    preprocessing.SCALINGS[scaling],
    batch_size=batch_size,
  )


def features_fn(
  config: ConfigDict,
  num_classes: int,
  scaling: str,
  batch_size: int,
  layers: tuple[str, ...],
) -> evaluate.PredictFn:
  """Returns a model section's features of some layers, by name, likewise."""
  return evaluate.make_predict(
    apply_fn(model(config, num_classes)),
    preprocessing.apart(scaling),
    batch_size=batch_size,
    output=lambda logits, features: {name: features[name] for name in layers},
  )


def feature_shapes(
  config: ConfigDict, num_classes: int, image_shape: tuple[int, ...]
) -> methods.Shapes:
  """Returns the shapes of a network's features, less the batch, by depth."""
  module = model(config, num_classes)
  _, features = jax.eval_shape(
    lambda key: module.init_with_output(
      key, jnp.zeros((1, *image_shape)), train=False
    )[0],
    jax.random.key(0),
  )
  return {name: features[name].shape[1:] for name in module.feature_names}


def task(
  student: ConfigDict,
  teacher: ConfigDict | None,
  scaling: str,
  num_classes: int,
  image_shape: tuple[int, ...],
  feature_bits: int = 0,
  unroll: bool = False,
) -> objectives.Task:
  """Returns what methods need to know of a row's networks and its images.

  The sections are of models; the teacher's is None where no method takes its
  features.
  """
  module = model(student, num_classes)
  apply = apply_fn(module)
  scale = preprocessing.SCALINGS[scaling]
  pixel = (1, 1, 1, image_shape[-1])

  def init_peer(key):
    return init_variables(module, image_shape, key)['params']

  def peer_fn(params, images, key):
    # Its running statistics are of no use: nobody asks it after training.
    stats = init_variables(module, image_shape, jax.random.key(0))[
      'batch_stats'
    ]
    variables = {'params': params, 'batch_stats': stats}
    return apply(variables, images, train=True, key=key)[0]

  return objectives.Task(
    num_classes=num_classes,
    student_shapes=feature_shapes(student, num_classes, image_shape),
    teacher_shapes={}
    if teacher is None
    else feature_shapes(teacher, num_classes, image_shape),
    feature_levels=2**feature_bits - 1,
    image_range=tuple(
      scale(jnp.full(pixel, value, jnp.uint8)) for value in (0, 255)
    ),
    init_peer=init_peer,
    peer_fn=peer_fn,
    unroll=unroll,
  )


def teacher_layers(
  config: ConfigDict, num_classes: int, image_shape: tuple[int, ...]
) -> methods.Shapes:
  """Returns the layers of the teacher that a closed config's methods use."""
  layers: methods.Shapes = {}
  for name, options in method_options(config.distill).items():
    if methods.METHODS[name].uses_features:
      student, teacher = (
        feature_shapes(section, num_classes, image_shape)
        for section in (config.student, config.teacher.model)
      )
      pairs = methods.match_layers(options['layers'], student, teacher)
      layers |= {other: teacher[other] for _, other in pairs}
  return layers


def check_methods(
  config: ConfigDict, num_classes: int, image_shape: tuple[int, ...]
) -> None:
  """Traces each method of a closed config once, on shapes alone.

  Raises:
    UserError: if layers are not there, or cannot be compared.
  """
  own_task = task(
    config.student,
    config.teacher.model,
    config.data.scaling,
    num_classes,
    image_shape,
    feature_bits=config.teacher.feature_bits,
  )
  zeros = lambda *shape: jnp.zeros((2, *shape))
  outputs, teacher = (
    objectives.Outputs(
      zeros(num_classes), {name: zeros(*shape) for name, shape in own.items()}
    )
    for own in (own_task.student_shapes, own_task.teacher_shapes)
  )
  batch = {
    'images': zeros(*image_shape),
    'labels': jnp.zeros(2, jnp.int32),
    'mask': zeros(),
    'teacher_logits': teacher.logits,
    'teacher_features': teacher.features,
    'student_fn': lambda images: outputs.logits + 0 * jnp.sum(images),
  }
  weights = settings(config.optim, config.distill, 0).weights
  for name, options in method_options(config.distill).items():

    def terms(key, name=name, options=options):
      objective = objectives.make_objective(
        {name: methods.split_options(options)[1]}, task=own_task
      )
      arguments = (objective.init(key), outputs, batch | {'key': key}, weights)
      return objective.fn(*arguments), objective.rival_fn(*arguments)

    try:
      jax.eval_shape(terms, jax.random.key(0))
    except ValueError as error:
      raise errors.UserError(f'config.distill.{name}: {error}') from None


class Programs(NamedTuple):
  """What a training runs, compiled on first use.

  Attributes:
    init: key -> the state before the first step.
    reset_optimizer: state -> state with a fresh optimizer.
    epochs: see train.py.
    predict: see evaluate.py.
    attack: see `evaluate.make_attack`; of one network, vmapped or not.
    vmapped: whether keys and states have a leading axis of seeds.
  """

  init: Callable[[jax.Array], steps.TrainState]
  reset_optimizer: Callable[[steps.TrainState], steps.TrainState]
  epochs: train.Program
  predict: evaluate.PredictFn
  attack: Callable[..., jax.Array]
  vmapped: bool


def programs_key(
  config: ConfigDict,
  *,
  model: ConfigDict,
  train: ConfigDict,
  optim: ConfigDict,
  distill: ConfigDict,
  scaling: str,
  num_classes: int,
  image_shape: tuple[int, ...],
  total_steps: int,
  num_seeds: int | None,
  live_teacher: bool = False,
) -> FrozenConfigDict:
  """Returns what `make_programs` depends on, and nothing that is traced.

  Trainings with the same key share their programs.
  """
  optim = optim.to_dict()
  del optim['learning_rate']
  return FrozenConfigDict(
    dict(
      model=model.to_dict(),
      num_classes=num_classes,
      image_shape=image_shape,
      scaling=scaling,
      batch_size=train.batch_size,
      augmentation=train.augmentation,
      mixup_alpha=train.mixup_alpha,
      drop_remainder=train.drop_remainder,
      loop=_loop(config.loop, model.kind),
      eval_batch_size=config.eval.batch_size,
      optim=optim,
      total_steps=0 if optim['schedule'] == 'constant' else total_steps,
      methods={
        name: methods.split_options(options)[1]
        for name, options in method_options(distill).items()
      },
      label_smoothing=distill.label_smoothing,
      num_seeds=num_seeds,
      live_teacher=live_teacher,
      teacher=dict(
        model=config.teacher.model.to_dict(),
        scaling=config.teacher.outputs_scaling,
        feature_bits=config.teacher.feature_bits,
      )
      if live_teacher or uses_features(distill)
      else None,
    )
  )


def row_key(config: ConfigDict, **fields: Any) -> FrozenConfigDict:
  """Returns `programs_key` of the student of a closed config."""
  return programs_key(
    config,
    model=config.student,
    train=config.train,
    optim=config.optim,
    distill=config.distill,
    scaling=config.data.scaling,
    **fields,
  )


def _loop(loop: str, kind: str) -> str:
  """Returns where the loop over steps is to be."""
  if loop != 'auto':
    return loop
  if models.own.is_name(kind):
    kind = 'resnet'  # It is more likely to have convolutions than not.
  return _LOOPS.get((jax.default_backend(), kind), 'device')


def make_programs(key: FrozenConfigDict) -> Programs:
  """Returns the programs of a key from `programs_key`."""
  module = model(key.model, key.num_classes)
  optimizer = optim.make_optimizer(
    key.optim.name,
    momentum=key.optim.momentum,
    nesterov=key.optim.nesterov,
    weight_decay=key.optim.weight_decay,
  )
  schedule = optim.make_schedule(
    key.optim.schedule,
    total_steps=key.total_steps,
    warmup_fraction=key.optim.warmup_fraction,
  )
  preprocess = preprocessing.SCALINGS[key.scaling]
  objective = objectives.make_objective(
    key.methods.to_dict(),
    label_smoothing=key.label_smoothing,
    mixed=key.mixup_alpha > 0,
    task=task(
      key.model,
      key.teacher and key.teacher.model,
      key.scaling,
      key.num_classes,
      key.image_shape,
      feature_bits=key.teacher.feature_bits if key.teacher else 0,
      unroll=key.loop == 'host',
    ),
  )

  def init(rng):
    variables = init_variables(module, key.image_shape, rng)
    learned = objective.init(jax.random.fold_in(rng, _LEARNED))
    return steps.init_state(variables, optimizer, learned)

  def reset_optimizer(state):
    return steps.reset_optimizer(state, optimizer)

  vmapped = key.num_seeds is not None
  if vmapped:
    init, reset_optimizer = jax.vmap(init), jax.vmap(reset_optimizer)
  return Programs(
    init=jax.jit(init),
    reset_optimizer=jax.jit(reset_optimizer, donate_argnums=0),
    epochs=train.make_program(
      steps.make_train_step(apply_fn(module), objective, optimizer, schedule),
      preprocess,
      batch_size=key.batch_size,
      names=steps.SUMS
      + objective.names
      + tuple(map(objectives.rival_term, objective.rival_names)),
      augmentation=augment.AUGMENTATIONS[key.augmentation],
      mixup_alpha=key.mixup_alpha,
      teacher=_live_teacher(key) if key.live_teacher else None,
      drop_remainder=key.drop_remainder,
      loop=key.loop,
      num_seeds=key.num_seeds,
    ),
    predict=evaluate.make_predict(
      apply_fn(module),
      preprocessing.apart(key.scaling),
      batch_size=key.eval_batch_size,
      num_seeds=key.num_seeds,
    ),
    attack=attack_fn(
      key.model, key.num_classes, key.scaling, key.eval_batch_size
    ),
    vmapped=vmapped,
  )


def _live_teacher(key: FrozenConfigDict):
  """Returns (variables, stored images) -> what stored outputs would be."""
  apply = apply_fn(model(key.teacher.model, key.num_classes))
  scale = preprocessing.SCALINGS[key.teacher.scaling]

  def teacher(variables, images):
    logits, features, _ = apply(variables, scale(images), train=False, key=None)
    # What no method takes of the features, the compiler leaves out.
    return {'teacher_logits': logits, 'teacher_features': features}

  return teacher


def settings(
  optim_config: ConfigDict, distill: ConfigDict, epoch: int
) -> steps.Settings:
  """Returns the traced settings of an epoch."""
  warmup = objectives.kd_warmup(epoch, warmup_epochs=distill.kd_warmup_epochs)
  return steps.Settings(
    learning_rate=jnp.float32(optim_config.learning_rate),
    weights=objectives.Weights(
      ce_weight=jnp.float32(distill.ce_weight),
      kd_weight=jnp.float32(distill.kd_weight * warmup),
      temperature=jnp.float32(distill.temperature),
      methods={
        name: {
          option: jnp.float32(value)
          for option, value in methods.split_options(options)[0].items()
        }
        for name, options in method_options(distill).items()
      },
    ),
  )


def _check(ok: bool, field: str, value: Any, expected: str) -> None:
  if not ok:
    raise errors.UserError(f'config.{field}={value!r}: expected {expected}')


def _one_of(field: str, value: str, known) -> None:
  _check(value in known, field, value, f'one of {", ".join(sorted(known))}')


# The least value of each number in a list that shapes a network.
_WHOLE_NUMBERS = {
  'hidden': 1, 'filters': 1, 'widths': 1, 'strides': 1, 'blocks': 0,
}  # fmt: skip


# Of what a field that holds several values has them.
_ITEMS = {
  'benchmark.batch_sizes': int,
  'eval.bias_classes': int,
  'teacher.also_outputs': str,
  'teacher.rows': str,
}


def _find_own(field: str, name: str) -> None:
  try:
    models.own.function(name)
  except models.own.NotFound as error:
    raise errors.UserError(f'config.{field}={name!r}: {error}') from None


def with_own_teacher(config: ConfigDict) -> ConfigDict:
  """Returns a config whose teacher's model is what `teacher.module` names."""
  if not config.teacher.module:
    return config
  config = config.copy_and_resolve_references()
  config.teacher.unlock()
  config.teacher.model = ConfigDict(
    dict(
      kind=TRAINED,
      module=config.teacher.module,
      dtype='float32',
      arithmetic='float',
      temperature=1.0,
    )
  )
  config.teacher.lock()
  return config


def check_networks(
  config: ConfigDict, num_classes: int, image_shape: tuple[int, ...]
) -> None:
  """Traces the networks of the user's own that a closed config has.

  Raises:
    UserError: if they do not give logits [B, K] for images [B, H, W, C].
  """
  for field, section in (
    ('student.kind', config.student),
    ('teacher.model.kind', config.teacher.model),
  ):
    if section.kind in MODELS:
      continue
    name = section.kind
    if section.kind == TRAINED:
      field, name = 'teacher.module', section.module
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    try:
      (logits, _), _ = jax.eval_shape(
        functools.partial(
          model(section, num_classes).init_with_output, train=False
        ),
        jax.random.key(0),
        images,
      )
      problem = None
    except Exception as error:  # It is the user's code.
      problem = f'{type(error).__name__}: {error}'
    else:
      if getattr(logits, 'shape', None) != (2, num_classes):
        problem = (
          f'for images {list(images.shape)} it gives {logits}; expected logits '
          f'[2, {num_classes}]'
        )
    if problem:
      raise errors.UserError(f'config.{field}={name!r}: {problem}')


def _validate_model(prefix: str, section: ConfigDict) -> None:
  """Checks a model section."""
  if models.own.is_name(section.kind):
    _find_own(f'{prefix}.kind', section.kind)
  elif section.kind == TRAINED:
    _find_own('teacher.module', section.module)
  else:
    _one_of(f'{prefix}.kind', section.kind, MODELS)
    own = {field.name for field in dataclasses.fields(MODELS[section.kind])}
    foreign = sorted(set(section) - own - {'kind'})
    _check(
      not foreign,
      f'{prefix}.kind',
      section.kind,
      f'one that has the fields of this recipe ({", ".join(foreign)}): choose '
      'a recipe of that kind of network',
    )
  _one_of(f'{prefix}.dtype', section.dtype, ('float32', 'bfloat16'))
  _one_of(
    f'{prefix}.arithmetic', section.arithmetic, models.quantized.ARITHMETICS
  )
  _check(
    not is_quantized(section) or section.dtype == 'float32',
    f'{prefix}.arithmetic',
    section.arithmetic,
    f'float with {prefix}.dtype={section.dtype!r}, or float32',
  )
  _check(
    section.kind in MODELS or not is_quantized(section),
    f'{prefix}.arithmetic',
    section.arithmetic,
    f'float with {prefix}.kind={section.kind!r}',
  )
  temperature = section.temperature
  _check(
    temperature > 0, f'{prefix}.temperature', temperature, 'a number above 0'
  )
  rate = section.get('dropout_rate', 0.0)
  _check(0 <= rate < 1, f'{prefix}.dropout_rate', rate, 'a number in [0, 1)')
  for field, least in _WHOLE_NUMBERS.items():
    values = section.get(field, ())
    _check(
      all(isinstance(value, int) and value >= least for value in values),
      f'{prefix}.{field}',
      values,
      f'whole numbers of at least {least}',
    )
  if section.kind == 'resnet':
    _one_of(f'{prefix}.block', section.block, models.resnet.BLOCKS)
    for field in ('widths', 'strides'):
      _check(
        len(section[field]) == len(section.blocks),
        f'{prefix}.{field}',
        section[field],
        f'one for each of {prefix}.blocks={section.blocks}',
      )
    for field, least in (('stem_stride', 1), ('min_blocks', 0)):
      _check(
        section[field] >= least,
        f'{prefix}.{field}',
        section[field],
        f'a number of at least {least}',
      )


def _outputs_alone(teacher: ConfigDict) -> bool:
  """Whether of a teacher there are outputs, and no network to be called."""
  return bool(
    teacher.logits
    or (
      teacher.shipped
      and not (teacher.retrain or teacher.module)
      and not teacher_outputs.has_weights(teacher.shipped)
    )
  )


def _validate_methods(config: ConfigDict) -> None:
  """Checks which methods there are, their options, and their teacher."""
  distill, teacher = config.distill, config.teacher
  for name in distill.method.split('+'):
    _check(
      name in methods.METHODS and name in distill,
      'distill.method',
      distill.method,
      f'one of {", ".join(sorted(methods.METHODS))}, or several joined by +',
    )
    traced, _ = methods.split_options(distill[name].to_dict())
    for option, value in traced.items():
      _check(
        math.isfinite(value) and (value >= 0 or option != 'weight'),
        f'distill.{name}.{option}',
        value,
        'a number, and of a weight one of at least 0',
      )
  _check(
    distill.ce_weight > 0
    or not method_options(distill)
    or any(
      methods.METHODS[name].inputs & {'student_logits', 'student_fn'}
      for name in method_options(distill)
    ),
    'distill.ce_weight',
    distill.ce_weight,
    f'a weight above 0, or a method beside {distill.method} that learns '
    'logits: nothing would train the last layer',
  )
  _check(
    not uses_features(distill) or not _outputs_alone(config.teacher),
    'distill.method',
    distill.method,
    'a method that takes no features, or a teacher that is trained here '
    f'(teacher.retrain=true): {teacher.logits or teacher.shipped} holds '
    'logits alone',
  )
  _check(
    0 <= teacher.feature_bits <= 16,
    'teacher.feature_bits',
    teacher.feature_bits,
    'a number from 0 to 16',
  )
  _check(
    teacher.feature_bits > 0
    or not any(
      'feature_levels' in methods.METHODS[name].inputs
      for name in method_options(distill)
    ),
    'teacher.feature_bits',
    teacher.feature_bits,
    f'a number from 1 to 16 for the method {distill.method}',
  )
  _check(
    teacher.features_gib >= 0,
    'teacher.features_gib',
    teacher.features_gib,
    'a number of at least 0',
  )


def validate(config: ConfigDict) -> None:
  """Checks a closed config before any work is done.

  Raises:
    UserError: names the field, its value and what was expected.
  """

  def positive(field: str, value) -> None:
    _check(value > 0, field, value, 'a number above 0')

  def at_least(field: str, value, least) -> None:
    _check(value >= least, field, value, f'a number of at least {least}')

  def fraction(field: str, value) -> None:
    _check(0 <= value < 1, field, value, 'a number in [0, 1)')

  for field, kind in _ITEMS.items():
    values = config_path.get_value(field, config)
    _check(
      all(isinstance(value, kind) for value in values),
      field,
      values,
      f'values of type {kind.__name__}',
    )
  at_least('seeds', config.seeds, 1)
  at_least('first_seed', config.first_seed, 0)
  at_least('seeds_per_program', config.seeds_per_program, 0)
  _one_of('data.scaling', config.data.scaling, preprocessing.SCALINGS)
  for field in ('train_examples', 'test_examples'):
    at_least(f'data.{field}', config.data[field], 0)
  at_least('data.holdout_examples', config.data.holdout_examples, 0)
  _one_of('loop', config.loop, ('auto', 'device', 'host'))
  at_least('mesh.data', config.mesh.data, 0)
  for field in ('scaling', 'outputs_scaling'):
    _one_of(f'teacher.{field}', config.teacher[field], preprocessing.SCALINGS)
  for scaling in config.teacher.also_outputs:
    _one_of('teacher.also_outputs', scaling, preprocessing.SCALINGS)
  _validate_model('student', config.student)
  _validate_model('teacher.model', config.teacher.model)
  for prefix, section in (
    ('train', config.train),
    ('teacher.train', config.teacher.train),
  ):
    at_least(f'{prefix}.epochs', section.epochs, 1)
    at_least(f'{prefix}.batch_size', section.batch_size, 1)
    _check(
      section.folds == 0 or section.folds > 1,
      f'{prefix}.folds',
      section.folds,
      '0 (none) or at least 2',
    )
    fraction(f'{prefix}.holdout_fraction', section.holdout_fraction)
    at_least(f'{prefix}.mixup_alpha', section.mixup_alpha, 0)
    _one_of(
      f'{prefix}.augmentation', section.augmentation, augment.AUGMENTATIONS
    )
    _check(
      data.find_subset(section.subset) is not None,
      f'{prefix}.subset',
      section.subset,
      f'one of {", ".join((*data.SUBSETS, *data.PATTERNS))}',
    )
  for prefix, section in (
    ('optim', config.optim),
    ('teacher.optim', config.teacher.optim),
  ):
    _one_of(f'{prefix}.name', section.name, optim.OPTIMIZERS)
    _one_of(f'{prefix}.schedule', section.schedule, optim.SCHEDULES)
    positive(f'{prefix}.learning_rate', section.learning_rate)
    fraction(f'{prefix}.momentum', section.momentum)
    fraction(f'{prefix}.warmup_fraction', section.warmup_fraction)
    at_least(f'{prefix}.weight_decay', section.weight_decay, 0)
  transfer_set, known = config.train.transfer_set, data.TRANSFER_SETS
  _one_of('train.transfer_set', transfer_set, ('', *known, *data.names()))
  _check(
    not config.teacher.train.transfer_set,
    'teacher.train.transfer_set',
    config.teacher.train.transfer_set,
    "'': the teacher learns its data set",
  )
  teacher = config.teacher
  _check(
    not (transfer_set and _outputs_alone(teacher)),
    'train.transfer_set',
    transfer_set,
    "'', or a teacher that is trained here (teacher.retrain=true), to be shown "
    'it: these outputs are of the training split',
  )
  _check(
    teacher.class_shift == 0
    or not (teacher.live or config.train.augmentation != 'none'),
    'teacher.class_shift',
    teacher.class_shift,
    '0 with a live teacher or augmented images: stored outputs are shifted',
  )
  if config.eval.bias_classes:
    _check(
      config.train.holdout_fraction > 0 and not transfer_set,
      'eval.bias_classes',
      config.eval.bias_classes,
      '(), or a part of the training split to choose a bias on: '
      "train.holdout_fraction above 0 and train.transfer_set=''",
    )
  _one_of('teacher.average', teacher.average, teacher_outputs.AVERAGES)
  _check(
    not teacher.rows
    or not (
      teacher.live
      or uses_features(config.distill)
      or config.train.augmentation != 'none'
    ),
    'teacher.rows',
    teacher.rows,
    '() with a live teacher, a method that takes features, or augmented '
    'images: of a row there are the logits of the images as they are',
  )
  _check(
    not (teacher.live and teacher.logits),
    'teacher.live',
    teacher.live,
    'false with teacher.logits: a file has no network to call',
  )
  _check(
    not (teacher.live and _outputs_alone(teacher)),
    'teacher.live',
    teacher.live,
    f'teacher.retrain=true with it: {teacher.shipped} holds outputs alone',
  )
  _check(
    config.train.augmentation == 'none'
    or config.distill.kd_weight == 0
    or not _outputs_alone(teacher),
    'train.augmentation',
    config.train.augmentation,
    "'none', or a teacher that is trained here (teacher.retrain=true): these "
    'outputs are of the images as they are',
  )
  _validate_methods(config)
  distill = config.distill
  positive('distill.temperature', distill.temperature)
  for field in ('ce_weight', 'kd_weight', 'kd_warmup_epochs'):
    at_least(f'distill.{field}', distill[field], 0)
  _check(
    distill.ce_weight + distill.kd_weight > 0,
    'distill.ce_weight + distill.kd_weight',
    0,
    'at least one weight above 0: nothing would be learned',
  )
  fraction('distill.label_smoothing', distill.label_smoothing)
  positive('eval.batch_size', config.eval.batch_size)
  at_least('eval.attacked_examples', config.eval.attacked_examples, 0)
  for size in config.benchmark.batch_sizes:
    at_least('benchmark.batch_sizes', size, 1)
  positive('benchmark.budget_s', config.benchmark.budget_s)


def plain(config: ConfigDict) -> dict[str, Any]:
  """A config as JSON gives it back: tuples as lists."""
  convert = lambda value: (
    {key: convert(v) for key, v in value.items()}
    if isinstance(value, dict)
    else list(value)
    if isinstance(value, tuple)
    else value
  )
  return convert(config.to_dict())


def close_row(config: ConfigDict, row: str) -> ConfigDict:
  """Returns the config of one row: open fields closed by the row's values.

  A field that is not open was given on the command line, and stays. See
  configs/common.py.
  """
  # Without the other rows, of which a copy is most of the work.
  closed = ConfigDict(
    {
      field: value.copy_and_resolve_references()
      if isinstance(value, ConfigDict)
      else value
      for field, value in config.items()
      if field != 'rows'
    }
  )
  for path, value in _leaves(config.rows[row]):
    if config_path.get_value(path, closed) is None:
      config_path.set_value(path, closed, value)
  closed.rows = ConfigDict({row: {}})
  closed.lock()
  return closed


def _leaves(config: ConfigDict, prefix: str = ''):
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      yield from _leaves(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value
