"""From a config's sections to the functions of a training."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from kd_jax import config as config_lib
from kd_jax import methods
from kd_jax.data import ImageTask, augmentation, preprocessing
from kd_jax.evaluation import inference, predictors
from kd_jax.models import apply, from_config, user
from kd_jax.sections import TrainingSections
from kd_jax.training import batch, epoch, method_terms, optimizers, step
from kd_jax.training import objective as objectives
from kd_jax.training.hyperparameters import Hyperparameters

PyTree = Any

# The backends and kinds of network for which Python loops over the steps. A
# compiled loop over a ResNet's step takes 2.5 to 5 times as long on a CPU as
# calls of the step. Over other networks' steps the compiled loop is faster.
_LOOPS_ON_HOST = (('cpu', 'resnet'),)
# Folded into the initialization key to get the key of the methods' parameters.
_METHOD_PARAMS = 1


class TrainingFunctions(NamedTuple):
  """The functions of a training; JAX compiles each on its first call.

  Attributes:
    init: maps a key to the state before the first step.
    reset_optimizer: maps a state to one with a fresh optimizer.
    epoch_functions: the functions of an epoch, see epoch.py.
    predict: maps (variables, images) to logits, see evaluation/inference.py.
    attack: maps (variables, images, labels) to logits of attacked images;
      always of one network.
    num_seeds: S, if keys, states and logits have a leading axis of S networks;
      None for one network.
  """

  init: Callable[[jax.Array], step.TrainState]
  reset_optimizer: Callable[[step.TrainState], step.TrainState]
  epoch_functions: epoch.EpochFunctions
  predict: inference.PredictFn
  attack: inference.AttackFn
  num_seeds: int | None

  def with_seed_axis(self, arrays: PyTree) -> PyTree:
    """Returns arrays with a leading axis [S]; S = 1 for one network."""
    if self.num_seeds is not None:
      return arrays
    return jax.tree.map(lambda array: array[None], arrays)

  def of_seed(self, arrays: PyTree, index: int) -> PyTree:
    """Returns one seed's part of arrays that may have an axis [S]."""
    if self.num_seeds is None:
      return arrays
    return jax.tree.map(lambda array: array[index], arrays)


class TeacherSpec(NamedTuple):
  """The part of a teacher that is traced in a training.

  Attributes:
    model: the section of the teacher's network.
    outputs_scaling: the name of the scaling of its images.
    feature_bits: the bits that its stored features are rounded to; 0 for none.
  """

  model: FrozenConfigDict
  outputs_scaling: str
  feature_bits: int


class TrainingSpec(NamedTuple):
  """The static part of a training; hashable.

  Trainings with equal static parts share their compiled functions, so that
  traced numbers, such as the learning rate, are not in it.

  Attributes:
    model: the section of the network that trains.
    num_classes: K.
    image_shape: (H, W, C).
    scaling: the name of the scaling of the network's images.
    batch_size: examples per step.
    augmentation: the name of the augmentation; 'none' for none.
    mixup_alpha: the parameter of mixup; 0 for none.
    partly_labeled: whether examples may have no label.
    loop: where the loop over steps is: 'device' or 'host', see epoch.py.
    eval_batch_size: examples in a call of the evaluation.
    optim: the section of the optimizer, without the learning rate.
    total_steps: the optimizer steps of the training; 0 for a constant schedule,
      which does not depend on it.
    methods: the static options of each distillation method, by name.
    label_smoothing: the smoothing of the cross-entropy on labels.
    num_seeds: S, to train S networks in one compiled function; None for one.
    live_teacher: whether the teacher is called in every step.
    teacher: None unless the teacher is called live or a method takes features.
  """

  model: FrozenConfigDict
  num_classes: int
  image_shape: tuple[int, ...]
  scaling: str
  batch_size: int
  augmentation: str
  mixup_alpha: float
  partly_labeled: bool
  loop: str
  eval_batch_size: int
  optim: FrozenConfigDict
  total_steps: int
  methods: FrozenConfigDict
  label_smoothing: float
  num_seeds: int | None
  live_teacher: bool
  teacher: TeacherSpec | None


def make_spec(
  config: ConfigDict,
  sections: TrainingSections,
  task: ImageTask,
  *,
  total_steps: int,
  num_seeds: int | None = None,
  live_teacher: bool = False,
) -> TrainingSpec:
  """Returns the static part of a training, for `make_training_functions`.

  Args:
    config: the closed config of a row.
    sections: the sections of the network that trains.
    task: images and classes.
    total_steps: the optimizer steps of the training.
    num_seeds: S, to train S networks in one compiled function; None for one.
    live_teacher: whether the teacher is called in every step.
  """
  model, train, distill = sections.model, sections.train, sections.distill
  optim = sections.optim.to_dict()
  del optim['learning_rate']
  teacher = None
  if live_teacher or config_lib.uses_features(distill):
    teacher = TeacherSpec(
      model=FrozenConfigDict(config.teacher.model.to_dict()),
      outputs_scaling=config.teacher.outputs_scaling,
      feature_bits=config.teacher.feature_bits,
    )
  return TrainingSpec(
    model=FrozenConfigDict(model.to_dict()),
    num_classes=task.num_classes,
    image_shape=task.image_shape,
    scaling=sections.scaling,
    batch_size=train.batch_size,
    augmentation=train.augmentation,
    mixup_alpha=train.mixup_alpha,
    partly_labeled=bool(train.unlabeled),
    loop=_place_of_loop(config.loop, model.kind),
    eval_batch_size=config.eval.batch_size,
    optim=FrozenConfigDict(optim),
    total_steps=0 if optim['schedule'] == 'constant' else total_steps,
    methods=FrozenConfigDict(
      {
        name: methods.split_options(options)[1]
        for name, options in config_lib.method_options(distill).items()
      }
    ),
    label_smoothing=distill.label_smoothing,
    num_seeds=num_seeds,
    live_teacher=live_teacher,
    teacher=teacher,
  )


def _place_of_loop(loop: str, kind: str) -> str:
  """Returns where the loop over steps is: 'device' or 'host'."""
  if loop != 'auto':
    return loop
  if user.is_function_name(kind):
    kind = 'resnet'  # A user's network is likely to have convolutions.
  on_host = (jax.default_backend(), kind) in _LOOPS_ON_HOST
  return 'host' if on_host else 'device'


def make_training_functions(spec: TrainingSpec) -> TrainingFunctions:
  """Returns the functions of a training, see `make_spec`."""
  module = from_config.make_module(spec.model, spec.num_classes)
  apply_fn = apply.make_apply(module)
  optimizer = optimizers.make_optimizer(
    spec.optim.name,
    momentum=spec.optim.momentum,
    nesterov=spec.optim.nesterov,
    weight_decay=spec.optim.weight_decay,
    bias_factor=spec.optim.bias_factor,
    scale_factor=spec.optim.scale_factor,
  )
  objective = objectives.make_objective(
    spec.methods.to_dict(),
    method_setup(
      spec.model,
      spec.teacher.model if spec.teacher else None,
      spec.scaling,
      ImageTask(spec.num_classes, spec.image_shape),
      feature_bits=spec.teacher.feature_bits if spec.teacher else 0,
      unroll=spec.loop == 'host',
    ),
    label_smoothing=spec.label_smoothing,
    mixed=spec.mixup_alpha > 0,
    partly_labeled=spec.partly_labeled,
  )

  def init(key):
    variables = apply.init_variables(module, spec.image_shape, key)
    method_params = objective.init(jax.random.fold_in(key, _METHOD_PARAMS))
    return step.init_state(variables, optimizer, method_params)

  def reset_optimizer(state):
    return step.reset_optimizer(state, optimizer)

  if spec.num_seeds is not None:
    init, reset_optimizer = jax.vmap(init), jax.vmap(reset_optimizer)
  return TrainingFunctions(
    init=jax.jit(init),
    reset_optimizer=jax.jit(reset_optimizer, donate_argnums=0),
    epoch_functions=epoch.make_epoch_functions(
      step.make_train_step(
        apply_fn, objective, optimizer, _make_schedule(spec)
      ),
      _pipeline(spec),
      _epoch_options(spec, objective),
    ),
    predict=inference.make_batched_predict(
      apply_fn,
      preprocessing.unfused(spec.scaling),
      batch_size=spec.eval_batch_size,
      num_seeds=spec.num_seeds,
    ),
    attack=predictors.make_attack(
      spec.model, spec.num_classes, spec.scaling, spec.eval_batch_size
    ),
    num_seeds=spec.num_seeds,
  )


def _make_schedule(spec: TrainingSpec) -> optimizers.Schedule:
  return optimizers.make_schedule(
    spec.optim.schedule,
    total_steps=spec.total_steps,
    warmup_fraction=spec.optim.warmup_fraction,
  )


def _pipeline(spec: TrainingSpec) -> batch.Pipeline:
  return batch.Pipeline(
    preprocess=preprocessing.SCALINGS[spec.scaling],
    augmentation=augmentation.AUGMENTATIONS[spec.augmentation],
    mixup_alpha=spec.mixup_alpha,
    teacher_fn=_make_teacher_fn(spec) if spec.live_teacher else None,
  )


def _epoch_options(
  spec: TrainingSpec, objective: objectives.Objective
) -> epoch.EpochOptions:
  discriminators = map(
    objectives.discriminator_term, objective.discriminator_names
  )
  return epoch.EpochOptions(
    batch_size=spec.batch_size,
    sum_names=(
      *step.SUM_NAMES,
      *([step.LABELED] if spec.partly_labeled else []),
      *objective.names,
      *discriminators,
    ),
    loop=spec.loop,
    num_seeds=spec.num_seeds,
  )


def _make_teacher_fn(spec: TrainingSpec) -> batch.TeacherFn:
  """Returns a function from images to the teacher's logits and features."""
  assert spec.teacher is not None  # See `TrainingSpec`.
  apply_fn = apply.make_apply(
    from_config.make_module(spec.teacher.model, spec.num_classes)
  )
  scale = preprocessing.SCALINGS[spec.teacher.outputs_scaling]

  def teacher_fn(variables, images):
    logits, features, _ = apply_fn(
      variables, scale(images), train=False, key=None
    )
    # The compiler leaves out the features that no method takes.
    return logits, features

  return teacher_fn


def method_setup(
  student_model: ConfigDict,
  teacher_model: ConfigDict | None,
  scaling: str,
  task: ImageTask,
  *,
  feature_bits: int = 0,
  unroll: bool = False,
) -> method_terms.MethodSetup:
  """Returns what methods compare: shapes, image range, peer network.

  Args:
    student_model: the student's model section.
    teacher_model: the teacher's; None if no method takes features.
    scaling: the name of the scaling of the student's images.
    task: images and classes.
    feature_bits: the bits that the teacher's features are rounded to.
    unroll: whether loops are best written out.
  """
  init_peer, peer_fn = make_peer(student_model, task)
  return method_terms.MethodSetup(
    num_classes=task.num_classes,
    student_shapes=from_config.feature_shapes(student_model, task),
    teacher_shapes=(
      {}
      if teacher_model is None
      else from_config.feature_shapes(teacher_model, task)
    ),
    feature_levels=2**feature_bits - 1,
    image_range=preprocessing.image_range(scaling, task.image_shape[-1]),
    init_peer=init_peer,
    peer_fn=peer_fn,
    unroll=unroll,
  )


def make_peer(
  model: ConfigDict, task: ImageTask
) -> tuple[Callable[[jax.Array], PyTree], Callable[..., jax.Array]]:
  """Returns a peer network of the student's kind, as two functions.

  Returns:
    init: maps a key to the peer's parameters.
    peer: maps (parameters, images, key) to logits [B, K] in training.
  """
  module = from_config.make_module(model, task.num_classes)
  apply_fn = apply.make_apply(module)
  init = functools.partial(apply.init_variables, module, task.image_shape)

  def peer(params, images, key):
    # Its running statistics are not kept: it is not used after training.
    stats = init(jax.random.key(0))['batch_stats']
    variables = {'params': params, 'batch_stats': stats}
    return apply_fn(variables, images, train=True, key=key)[0]

  return lambda key: init(key)['params'], peer


def hyperparameters_of_epoch(
  optim: ConfigDict, distill: ConfigDict, epoch_index: int
) -> Hyperparameters:
  """Returns the traced numbers of an epoch."""
  warmup = objectives.kd_warmup(
    epoch_index, warmup_epochs=distill.kd_warmup_epochs
  )
  return Hyperparameters(
    learning_rate=jnp.float32(optim.learning_rate),
    ce_weight=jnp.float32(distill.ce_weight),
    kd_weight=jnp.float32(distill.kd_weight * warmup),
    temperature=jnp.float32(distill.temperature),
    methods={
      name: {
        option: jnp.float32(value)
        for option, value in methods.split_options(options)[0].items()
      }
      for name, options in config_lib.method_options(distill).items()
    },
  )
