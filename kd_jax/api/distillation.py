"""Distillation of a student from arrays, as launch.py does it from a config."""

import dataclasses
import functools
import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data, methods, section_makers
from kd_jax.api import array_data, call_inputs
from kd_jax.api.call_inputs import CallInputs
from kd_jax.api.stored_teacher import StoredOutputs
from kd_jax.config_checks import checking
from kd_jax.evaluation import inference, predictors
from kd_jax.experiments import experiment as run_lib
from kd_jax.models import given
from kd_jax.models.pure_networks import FunctionError
from kd_jax.runtime import errors, local_paths, run_records, suggestions
from kd_jax.runtime.callbacks import Callback
from kd_jax.sections import NetworkSections
from kd_jax.training import job_folder

PyTree = Any
_ROW = 'student'
# The weight of the teacher's loss, if there are labels, too.
_ALPHA = 0.9


@dataclasses.dataclass(frozen=True, eq=False)
class Student:
  """A trained student.

  Attributes:
    metrics: test metrics by name, on `eval_data`; without, on training images.
      Without labels, the metrics that compare the student with the teacher.
    variables: {'params': ..., 'batch_stats': ...} of the network.
    history: a record of each epoch, as in metrics.jsonl.
    record: the content of run.json: config, environment, warnings, times.
    workdir: the folder of the run; removed with the student unless it was
      given.
  """

  metrics: dict[str, float]
  variables: PyTree
  history: list[dict[str, Any]]
  record: dict[str, Any]
  workdir: pathlib.Path
  _dataset: data.Dataset
  _config: ConfigDict

  def logits(self, images: Any) -> np.ndarray:
    """Returns the student's logits.

    Args:
      images: uint8 [N, H, W, C] or [N, H, W], as those it was trained on.
    Returns:
      float32 [N, K].
    """
    images = array_data.check_images(images)
    expected = self._dataset.task.image_shape
    if images.shape[1:] != expected:
      raise errors.UserError(
        f'images are {list(images.shape[1:])}; expected {list(expected)}, as '
        'those that the student was trained on'
      )
    return np.asarray(self._predict_fn(self.variables, images))

  @functools.cached_property
  def _predict_fn(self) -> inference.PredictFn:
    return predictors.make_predict(
      self._config.student,
      self._dataset.num_classes,
      self._config.data.scaling,
      self._config.eval.batch_size,
    )

  def predict(self, images: Any) -> np.ndarray:
    """Returns the probabilities of the classes, as an exported student does.

    Args:
      images: uint8 [N, H, W, C] or [N, H, W], as those it was trained on.
    Returns:
      float32 [N, K].
    """
    return np.asarray(jax.nn.softmax(self.logits(images), axis=-1))

  def export(
    self, folder: str | os.PathLike, *, onnx: bool = False
  ) -> dict[str, Any]:
    """Writes the student to a folder that needs JAX alone, and measures it.

    Args:
      folder: the folder to write; `kd_jax.load` loads it.
      onnx: whether to write the network for ONNX Runtime, too.
    Returns:
      The manifest: accuracy, latency, sizes.
    """
    from kd_jax.export import exporter

    _, manifest = exporter.export(
      self.workdir,
      output=local_paths.expand(folder, 'folder'),
      with_onnx=onnx,
      allow_code=True,  # It is the code of this program.
      load=lambda: self._dataset,
    )
    return manifest


def distill(  # noqa: PLR0913 - the fields of a config that most users set
  images: Any,
  labels: Any,
  teacher: Any,
  *,
  model: Any,
  method: str = 'kl',
  temperature: float = 4.0,
  alpha: float | None = None,
  epochs: int = 30,
  batch_size: int = 128,
  learning_rate: float = 1e-3,
  augmentation: str = 'none',
  scaling: str = 'unit',
  seed: int = 0,
  eval_data: tuple[Any, Any] | None = None,
  workdir: str | os.PathLike | None = None,
  fields: Mapping[str, Any] | None = None,
  callbacks: Sequence[Callback] = (),
) -> Student:
  """Trains a student on images, labels and a teacher's outputs.

  The training is the one of launch.py, with its checks, and its results are the
  same bit for bit if the config is the same.

  Args:
    images: uint8 [N, H, W, C] or [N, H, W], with values from 0 to 255.
    labels: integers [N] in [0, K); None to learn from the teacher alone.
    teacher: logits [N, K], a row for each image; or what `store_outputs`
      returned for these images, which methods of features and augmented images
      need.
    model: the student: a module of Flax Linen, a function of (num_classes) that
      returns one, a function of (num_classes, *, rngs) for Flax NNX or of
      (num_classes, *, key) for Equinox, an object with `init` and `apply`, or a
      model section of kd_jax/section_makers.py. A module of NNX or Equinox is
      trained from the weights that it has.
    method: a name in METHODS of kd_jax/methods, or several joined by +.
    temperature: divisor of the logits in the teacher's loss.
    alpha: weight of the teacher's loss; labels weigh 1 - alpha. By default 0.9,
      or 1 without labels.
    epochs: passes over the images.
    batch_size: images in a batch; those that do not fill the last batch of an
      epoch are left out of it.
    learning_rate: Adam's largest learning rate, at the end of a short warmup;
      it falls to 0 as a cosine.
    augmentation: a name in AUGMENTATIONS of kd_jax/data/augmentation.py.
    scaling: what the student gets: a name in SCALINGS of
      kd_jax/data/preprocessing.py. 'unit' scales pixels to [0, 1].
    seed: the seed of initial weights, the order of images and dropout.
    eval_data: (images, labels) to evaluate on after each epoch. By default, at
      most 1,000 training images. Labels may be None if the teacher has a
      network.
    workdir: a folder that keeps the run with its report; a training that was
      stopped in it goes on. By default a temporary one.
    fields: further fields of the config by their dotted names, such as
      {'distill.hint.weight': 10.0}; see kd_jax/section_makers.py.
    callbacks: objects of `kd_jax.Callback` that follow the training.
  Returns:
    The trained student.
  Raises:
    UserError: names the argument or the field that is wrong.
  """
  inputs = call_inputs.check_inputs(images, labels, teacher, eval_data)
  config = _make_config(
    model=_model_section(model, inputs),
    train=section_makers.training(
      epochs,
      min(batch_size, len(inputs.dataset.train.labels)),
      drop_remainder=True,
      augmentation=augmentation,
    ),
    distill=_loss(method, temperature, alpha, has_labels=labels is not None),
    learning_rate=learning_rate,
    scaling=scaling,
  )
  config.first_seed = seed
  _set_fields(config, fields or {})
  if workdir is not None:
    folder = local_paths.expand(workdir, 'workdir').absolute()
    options = _options(folder, callbacks, fields or {})
    return _run(config, teacher, inputs, options)
  folder = pathlib.Path(tempfile.mkdtemp(prefix='kd_jax-'))
  remove = functools.partial(shutil.rmtree, folder, ignore_errors=True)
  try:
    options = _options(folder, callbacks, fields or {})
    options = options._replace(with_report=False)
    student = _run(config, teacher, inputs, options)
  except BaseException:
    remove()
    raise
  weakref.finalize(student, remove)
  return student


# --- Arguments. ---


def _model_section(model: Any, inputs: CallInputs) -> ConfigDict:
  """Returns the section of the student's network."""
  if isinstance(model, ConfigDict):
    return model
  task = inputs.dataset.task
  try:
    kind = given.register_student(model, task.num_classes, task.image_shape)
  except FunctionError as error:
    raise errors.UserError(f'model: {error}') from None
  return section_makers.model(
    kind, temperature=1.0, dtype='float32', quantization='float'
  )


def _loss(
  method: str, temperature: float, alpha: float | None, *, has_labels: bool
) -> ConfigDict:
  """Returns the section of the loss."""
  for name in method.split('+'):
    checking.check_one_of('distill.method', name, methods.METHODS)
  if alpha is None:
    alpha = _ALPHA if has_labels else 1.0
  if not 0 <= alpha <= 1:
    raise errors.UserError(
      f"alpha={alpha}: expected the weight of the teacher's loss, from 0 to 1"
    )
  if alpha < 1 and not has_labels:
    raise errors.UserError(
      f'alpha={alpha}: without labels, expected 1, the weight of the teacher'
    )
  return section_makers.distillation(
    method=method,
    temperature=float(temperature),
    ce_weight=1.0 - alpha,
    kd_weight=float(alpha),
  )


# --- The config. ---


def _make_config(
  *,
  model: ConfigDict,
  train: ConfigDict,
  distill: ConfigDict,
  learning_rate: float,
  scaling: str,
) -> ConfigDict:
  """Returns the config of a run with one row."""
  optim = section_makers.optimizer(
    'adam', float(learning_rate), schedule='cosine', warmup_fraction=0.1
  )
  config = section_makers.base(
    name='distill',
    dataset=array_data.NAME,
    # It is never trained: it has logits or a network.
    teacher=NetworkSections(
      section_makers.mlp((1,)),
      section_makers.training(1, 1),
      section_makers.optimizer('adam', 1e-3),
      section_makers.hard_labels(),
    ),
    student=NetworkSections(model, train, optim, distill),
    scaling=scaling,
  )
  config.benchmark.enabled = False
  config.rows = ConfigDict({_ROW: {}})
  return config


def _set_fields(config: ConfigDict, fields: Mapping[str, Any]) -> None:
  """Overrides fields of a config by their dotted names."""
  for name, value in fields.items():
    section = config
    *path, last = name.split('.')
    for key in (*path, last):
      if not isinstance(section, ConfigDict) or key not in section:
        known = section if isinstance(section, ConfigDict) else ()
        raise errors.UserError(
          f'fields: there is no field {name!r}{suggestions.nearest(key, known)}'
        )
      section = section if key == last else section[key]
    try:
      section[last] = value
    except TypeError as error:
      raise errors.UserError(f'fields: {name}={value!r}: {error}') from None


def _set_teacher(
  config: ConfigDict, teacher: Any, inputs: CallInputs, folder: pathlib.Path
) -> None:
  """Makes the argument `teacher` the teacher of a config.

  Stored logits are enough unless a method takes features, or each epoch shows
  other views of the images: then the network is asked.
  """
  needs_network = (
    config_lib.uses_features(config.distill)
    or config.train.augmentation != 'none'
    or config.train.mixup_alpha > 0
    or config.teacher.live
  )
  if isinstance(teacher, StoredOutputs):
    config.teacher.outputs_scaling = teacher.scaling
    if needs_network:
      config.teacher.module = given.register_teacher(
        teacher.network, inputs.dataset.task.image_shape
      )
      return
  elif needs_network and config_lib.uses_features(config.distill):
    raise errors.UserError(
      f'method={config.distill.method!r} takes features of the teacher, and an '
      'array of logits has none: expected a teacher from `store_outputs` whose '
      'network returns (logits, features)'
    )
  path = folder / 'teacher_logits.npz'
  folder.mkdir(parents=True, exist_ok=True)
  np.savez(path, **inputs.logits)  # type: ignore[arg-type]
  config.teacher.logits = str(path)


# --- The result. ---


def _options(
  folder: pathlib.Path,
  callbacks: Sequence[Callback],
  fields: Mapping[str, Any],
) -> run_lib.RunOptions:
  return run_lib.RunOptions(
    folder,
    folder / 'teachers',
    command='kd_jax.distill',
    callbacks=tuple(callbacks),
    set_fields=tuple(fields),
  )


def _run(
  config: ConfigDict,
  teacher: Any,
  inputs: CallInputs,
  options: run_lib.RunOptions,
) -> Student:
  """Trains the student in a folder."""
  _set_teacher(config, teacher, inputs, options.workdir)
  record = run_lib.run_on_data(config, lambda name: inputs.dataset, options)
  return _collect(record, config, inputs, options.workdir)


def _collect(
  record: dict[str, Any],
  config: ConfigDict,
  inputs: CallInputs,
  folder: pathlib.Path,
) -> Student:
  """Returns the student of a finished run."""
  (result,) = (
    student
    for student in record['students']
    if student['seed'] == config.first_seed
  )
  metrics = result['test']
  if not inputs.has_eval_labels:
    metrics = {k: v for k, v in metrics.items() if k.startswith('teacher_')}
  variables = job_folder.restore_trained(
    folder / 'students' / _ROW / f'seed-{result["seed"]}',
    config.student,
    inputs.dataset.task,
  )
  log = run_records.MetricsLog(folder / 'metrics.jsonl').read()
  return Student(
    metrics=metrics,
    variables=variables,
    history=[line for line in log if line['seed'] == result['seed']],
    record=record,
    workdir=folder,
    _dataset=inputs.dataset,
    _config=config,
  )
