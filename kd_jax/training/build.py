"""From a config's sections to models, optimizers, objectives and settings."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_flags import config_path

from kd_jax import methods, models
from kd_jax.data import augmentation, preprocessing
from kd_jax.evaluation import evaluate
from kd_jax.training import objectives, optimizers, steps, train

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
    return models.user.load_trained(fields['module'])
  if models.user.is_function_name(kind):
    return models.user.make_module(kind, num_classes)
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


def uses_rounded(distill: ConfigDict) -> bool:
  """Whether one takes them rounded, which a live teacher does not give."""
  return any(
    methods.METHODS[name].uses_rounded for name in method_options(distill)
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
  return models.quantization.SCHEMES[config.quantization].bits > 0


def pack(config: ConfigDict, variables: PyTree) -> PyTree:
  """Returns a quantized model's variables as they are stored for use."""
  params = models.quantization.quantize_weights(
    variables['params'], config.quantization
  )
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
  if not models.quantization.has_quantized_weights(variables['params']):
    variables = pack(config, variables)
  network, params = models.quantization.deploy(
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
) -> dict[int, methods.Shapes]:
  """Returns the layers of the teacher that a closed config's methods use.

  They are by the bits that they are rounded to: 0 for as they are.
  """
  layers: dict[int, methods.Shapes] = {}
  for name, options in method_options(config.distill).items():
    method = methods.METHODS[name]
    if method.uses_features:
      student, teacher = (
        feature_shapes(section, num_classes, image_shape)
        for section in (config.student, config.teacher.model)
      )
      pairs = methods.match_layers(options['layers'], student, teacher)
      bits = config.teacher.feature_bits if method.uses_rounded else 0
      layers.setdefault(bits, {}).update(
        {other: teacher[other] for _, other in pairs}
      )
  return layers


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
  if models.user.is_function_name(kind):
    kind = 'resnet'  # It is more likely to have convolutions than not.
  return _LOOPS.get((jax.default_backend(), kind), 'device')


def make_programs(key: FrozenConfigDict) -> Programs:
  """Returns the programs of a key from `programs_key`."""
  module = model(key.model, key.num_classes)
  optimizer = optimizers.make_optimizer(
    key.optim.name,
    momentum=key.optim.momentum,
    nesterov=key.optim.nesterov,
    weight_decay=key.optim.weight_decay,
  )
  schedule = optimizers.make_schedule(
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
      augmentation=augmentation.AUGMENTATIONS[key.augmentation],
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
      quantization='float',
      temperature=1.0,
    )
  )
  config.teacher.lock()
  return config


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
