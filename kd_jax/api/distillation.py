"""Distillation of a student from arrays, as launch.py does it from a config."""

import functools
import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from kd_jax import config_fields
from kd_jax.api import (
  argument_names,
  call_config,
  call_inputs,
  own_data,
  scalars,
)
from kd_jax.api.call_inputs import CallInputs
from kd_jax.api.trained_student import Student
from kd_jax.experiments import runner
from kd_jax.runtime import call_logs, run_records
from kd_jax.runtime.callbacks import Callback
from kd_jax.training import training_folder

# The fields of a line of metrics.jsonl that are no metrics.
_LABELS = ('row', 'seed', 'epoch', 'phase')
_NO_LABELS = (
  'there are no labels: "accuracy" is the agreement with the teacher\'s '
  'decisions'
)


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
  eval_data: tuple[Any, Any] | float = own_data.HELD_OUT,
  class_names: Sequence[str] = (),
  workdir: str | os.PathLike | None = None,
  fields: Mapping[str, Any] | None = None,
  callbacks: Sequence[Callback] = (),
) -> Student:
  """Trains a student on images, labels and a teacher's outputs.

  The training is the one of launch.py, with its checks, and its results are the
  same bit for bit if the config is the same. `student.metrics` are computed on
  images that the student did not train on.

  Args:
    images: uint8 [N, H, W, C] or [N, H, W], with values from 0 to 255. For
      floats in [0, 1], give np.round(255 * images).astype(np.uint8).
    labels: integers [N] in [0, K); None to learn from the teacher alone.
    teacher: the logits [N, K] of the images; or what `store_outputs`
      returned for these images, which is required for methods that compare
      features and for augmentation. None trains on labels alone, with the same
      schedule: the control of a distillation. `method`, `temperature` and
      `alpha` are then unused.
    model: the student: a module of Flax Linen, whose call gets `train` if it
      takes it; a function of (num_classes) that returns one, a function or a
      class of (num_classes, *, rngs) for Flax NNX or of (num_classes, *, key)
      for Equinox, an object with `init` and `apply`, or a model section of
      kd_jax/config_fields.py. A module of NNX or Equinox is
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
    eval_data: (images, labels) to evaluate on after each epoch, such as the
      test split; labels may be None if the teacher has a network. Or a number
      in (0, 1): the share of `images`, the same of each class, that is held out
      of the training and evaluated on. The same images are held out in every
      call with the same images and labels.
    class_names: the name of each class, in order, for the report and exports.
    workdir: a folder that keeps the run with its report; a training that was
      stopped in it goes on. By default a temporary one.
    fields: further fields of the config by their dotted names, such as
      {'distill.hint.weight': 10.0}; see kd_jax/config_fields.py.
    callbacks: objects of `kd_jax.Callback` that follow the training.
  Returns:
    The trained student.
  Raises:
    UserError: names the argument or the field that is wrong.
  """
  epochs = scalars.whole_number('epochs', epochs)
  batch_size = scalars.whole_number('batch_size', batch_size)
  seed = scalars.whole_number('seed', seed, least=0)
  temperature = scalars.real_number('temperature', temperature)
  learning_rate = scalars.real_number('learning_rate', learning_rate)
  method = scalars.text('method', method)
  augmentation = scalars.text('augmentation', augmentation)
  scaling = scalars.text('scaling', scaling)
  fields = scalars.fields(fields)
  callbacks = scalars.callbacks(callbacks)
  if alpha is not None:
    alpha = scalars.real_number('alpha', alpha)
  if workdir is not None:
    workdir = scalars.path('workdir', workdir)
  inputs = call_inputs.check_inputs(
    images, labels, teacher, eval_data, class_names
  )
  with argument_names.in_errors():
    distill_section = config_fields.hard_labels()
    if teacher is not None:
      distill_section = call_config.loss_section(
        method, temperature, alpha, has_labels=labels is not None
      )
    config = call_config.make_config(
      model=call_config.model_section(model, inputs),
      train=config_fields.training(
        epochs,
        min(batch_size, inputs.num_trained),
        drop_remainder=True,
        augmentation=augmentation,
      ),
      distill=distill_section,
      learning_rate=learning_rate,
      scaling=scaling,
    )
  config.first_seed = seed
  config.data.holdout_examples = inputs.held_out
  call_config.set_fields(config, fields)
  if workdir is not None:
    options = _options(workdir, callbacks, fields)
    return _run(config, teacher, inputs, options)
  # The temporary folder lives as long as the student.
  folder = pathlib.Path(tempfile.mkdtemp(prefix='kd_jax-'))
  remove = functools.partial(shutil.rmtree, folder, ignore_errors=True)
  try:
    options = _options(folder, callbacks, fields)
    options = options._replace(with_report=False)
    student = _run(config, teacher, inputs, options)
  except BaseException:
    remove()
    raise
  weakref.finalize(student, remove)
  return student


def _options(
  folder: pathlib.Path,
  callbacks: Sequence[Callback],
  fields: Mapping[str, Any],
) -> runner.RunOptions:
  return runner.RunOptions(
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
  options: runner.RunOptions,
) -> Student:
  """Trains the student in a folder."""
  logits_file = options.workdir / 'teacher_logits.npz'
  rephrase = functools.partial(
    argument_names.rephrase, hidden=(str(logits_file),)
  )
  options = options._replace(rephrase=rephrase)
  if not inputs.has_eval_labels:
    options = options._replace(warnings=(_NO_LABELS,))
  with call_logs.plain_lines(), argument_names.in_errors(rephrase):
    logging.info('metrics are of %s', inputs.evaluated_on)
    call_config.set_teacher(config, teacher, inputs, logits_file)
    record = runner.run_config_on_data(
      config, lambda name: inputs.dataset, options
    )
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
  history = [
    line
    for line in run_records.MetricsLog(folder / 'metrics.jsonl').read()
    if line['seed'] == result['seed']
  ]
  if not inputs.has_eval_labels:
    metrics = {k: v for k, v in metrics.items() if _needs_no_labels(k)}
    history = [
      {k: v for k, v in line.items() if _needs_no_labels(k)} for line in history
    ]
  variables = training_folder.restore_trained(
    folder / 'students' / call_config.ROW / f'seed-{result["seed"]}',
    config.student,
    inputs.dataset.task,
  )
  return Student(
    metrics=metrics,
    evaluated_on=inputs.evaluated_on,
    variables=variables,
    history=history,
    record=record,
    workdir=folder,
    _dataset=inputs.dataset,
    _config=config,
    _has_eval_labels=inputs.has_eval_labels,
  )


def _needs_no_labels(name: str) -> bool:
  """Returns whether an entry of metrics, or of a line, uses no labels."""
  split, _, metric = name.rpartition('/')
  if split == 'train':
    return metric not in ('accuracy', 'ce')
  return split == 'time' or metric.startswith('teacher_') or metric in _LABELS
