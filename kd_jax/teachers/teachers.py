"""The teacher of a run: trained, restored, or of a file; and its outputs."""

import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from kd_jax import data, models
from kd_jax.data import augmentation as augment
from kd_jax.evaluation import evaluate
from kd_jax.runtime import errors, files, run_records
from kd_jax.teachers import outputs_on_disk
from kd_jax.teachers import stored_outputs as stores
from kd_jax.training import build, checkpoint, jobs
from kd_jax.training import context as context_lib
from kd_jax.training.context import Context

# Of logits on disk, the first so many are evaluated.
_TRAIN_PART = 50_000
# How a network was trained, of the fields of a model, and not what it is.
_OF_TRAINING = ('zero_init', 'dtype')


class Teacher(NamedTuple):
  """What students learn from.

  Attributes:
    logits: float32 [N, K] by split, on the device; 'test' may be missing from
      a file of the user's.
    variables: of the network; None for a file of the user's.
    record: JSON values for run.json.
    outputs: all that were computed, by input scaling, on the host.
    epochs: the metrics of its training, an entry each.
    of_views: from the name of an augmentation to a store of logits for its
      views; None for a teacher whose outputs alone are there.
    features: (layers, bits, subset, indices [M]) -> features [M, ...] by layer,
      as half floats or, if bits are given, as whole numbers of so many, for the
      training examples of a named subset; likewise.
    on: (name of a transfer set, data set that has it for a training split)
      -> the teacher that is shown it; likewise.
  """

  logits: dict[str, jax.Array]
  variables: Any
  record: dict[str, Any]
  outputs: dict[str, dict[str, np.ndarray]]
  epochs: list[dict[str, Any]]
  of_views: Callable[[str], stores.ViewOutputs] | None = None
  features: Callable[..., dict[str, np.ndarray]] | None = None
  on: Callable[..., 'Teacher'] | None = None


def get(
  config: ConfigDict, context: Context, teachers_dir: pathlib.Path
) -> Teacher:
  """Returns the config's teacher: the user's file, restored, or trained."""
  dataset, spec = context.dataset, config.teacher
  if spec.logits:
    lengths = {
      'train': len(dataset.train.labels),
      'test': len(dataset.test.labels),
    }
    loaded = [
      stores.load_outputs(path, lengths, dataset.num_classes)
      for path in spec.logits.split(',')
    ]
    logits = loaded[0]
    if len(loaded) > 1:
      logits = stores.average(loaded, spec.average or 'logits')
    return Teacher(
      {split: jnp.asarray(array) for split, array in logits.items()},
      None,
      _teacher_record(
        {'row': 'teacher', 'source': spec.logits}, logits, dataset
      ),
      {},
      [],
    )

  if spec.module:
    return _own_teacher(config, dataset, teachers_dir)

  if spec.shipped and not spec.retrain:
    return _shipped_teacher(config, dataset, teachers_dir)

  identity = context_lib.identity(
    config,
    dataset,
    teacher={
      'distill': build.without_methods(spec.distill, ()),
      **{
        field: spec[field]
        for field in ('seed', 'scaling', 'model', 'train', 'optim')
      },
    },
  )
  folder = teachers_dir / (
    f'{dataset.name}-{_file_name(spec.model.kind)}-{files.digest(identity)[:8]}'
  )
  with files.locked(folder, wait=True):
    job = context_lib.make_job(
      config,
      context,
      label='teacher',
      model=spec.model,
      train=spec.train,
      optim=spec.optim,
      distill=spec.distill,
      scaling=spec.scaling,
      seeds=(spec.seed,),
      folder=folder,
      identity=identity,
    )
    variables = None
    if jobs.is_done(folder, identity):
      variables = jobs.restore(
        folder,
        build.model(spec.model, dataset.num_classes),
        dataset.train.images,
      )
    if variables is None:
      logging.info('teacher: training it in %s', folder)
      log = run_records.MetricsLog(folder / 'metrics.jsonl')
      (trained,) = jobs.run(job, dataset, None, log)
      jobs.finish(trained, folder, identity)
      variables = trained.variables
    else:
      logging.info('teacher: restored from %s', folder)
    record = files.read_json(folder / 'result.json')
    if spec.ship_weights:
      variables = stores.rounded(variables)
    epochs = run_records.MetricsLog(folder / 'metrics.jsonl').read()
    return _of_network(config, dataset, folder, variables, record, epochs)


def _of_network(
  config: ConfigDict,
  dataset: data.Dataset,
  folder: pathlib.Path,
  variables: Any,
  record: dict[str, Any],
  epochs: list[dict[str, Any]],
) -> Teacher:
  """Returns a teacher of a network's outputs, stored in a locked folder."""
  spec = config.teacher
  record = record | jobs.robust_accuracy(
    build.attack_fn(
      spec.model, dataset.num_classes, spec.scaling, config.eval.batch_size
    ),
    variables,
    dataset,
    config.eval.attacked_examples,
  )
  trained = _Trained(
    config,
    folder,
    _identity(config, dataset, variables),
    variables,
    dataset,
  )
  outputs = {
    scaling: _outputs(trained, scaling)
    for scaling in (spec.outputs_scaling, *spec.also_outputs)
  }
  record = _teacher_record(record, outputs[spec.outputs_scaling], dataset)
  return _shown(trained, Teacher({}, variables, record, outputs, epochs))


class _Trained(NamedTuple):
  """A network whose outputs are wanted, and where they are stored.

  Attributes:
    config: of the run.
    folder: of the network.
    fingerprint: JSON values that determine its outputs, but for the scaling of
      its inputs.
    variables: of the network.
    dataset: that it is shown.
    transfer_set: what the training split has been replaced by, or ''.
  """

  config: ConfigDict
  folder: pathlib.Path
  fingerprint: dict[str, Any]
  variables: Any
  dataset: data.Dataset
  transfer_set: str = ''

  def store(self, *parts: str) -> pathlib.Path:
    """The folder of a store; `parts` say what is in it."""
    transfer = [self.transfer_set] if self.transfer_set else []
    return self.folder / '-'.join([*parts, *transfer])


def _predict_fn(trained: _Trained, scaling: str) -> Callable:
  config = trained.config
  predict = build.predict_fn(
    config.teacher.model,
    trained.dataset.num_classes,
    scaling,
    config.eval.batch_size,
  )
  return functools.partial(predict, trained.variables)


def _outputs(trained: _Trained, scaling: str) -> dict[str, np.ndarray]:
  """Returns logits [N, K] by split; of a split on disk, on disk."""
  dataset = trained.dataset
  splits = {'train': dataset.train, 'test': dataset.test}
  fingerprint = trained.fingerprint | {'scaling': scaling}
  on_disk = {}
  if data.is_on_disk(dataset.train):
    images = splits.pop('train').images
    predict = _predict_fn(trained, scaling)
    on_disk['train'] = outputs_on_disk.Logits(
      trained.store('outputs', scaling, 'train'),
      fingerprint,
      lambda start, stop: np.asarray(predict(images.part(start, stop))),
      num_examples=len(images),
      num_classes=dataset.num_classes,
    )

  def compute():
    predict = _predict_fn(trained, scaling)
    return {
      name: np.asarray(predict(split.images)) for name, split in splits.items()
    }

  return on_disk | stores.stored_outputs(
    trained.store('outputs', scaling), fingerprint, compute
  )


def _of_views(trained: _Trained, augmentation: str) -> stores.ViewOutputs:
  """Returns the store of logits for the views of an augmentation."""
  config, dataset = trained.config, trained.dataset
  scaling = config.teacher.outputs_scaling
  views = augment.AUGMENTATIONS[augmentation]
  return stores.ViewOutputs(
    trained.store('outputs', scaling, augmentation),
    trained.fingerprint | {'scaling': scaling, 'augmentation': augmentation},
    evaluate.make_predict_views(
      _predict_fn(trained, scaling),
      views.apply,
      dataset.train.images,
      batch_size=config.eval.batch_size,
    ),
    num_examples=len(dataset.train.labels),
    num_views=views.num_views,
    num_classes=dataset.num_classes,
  )


def _features(
  trained: _Trained,
  layers: tuple[str, ...],
  bits: int,
  subset: str,
  examples: np.ndarray,
) -> dict[str, np.ndarray]:
  """Returns features [M, ...] by layer; see `Teacher.features`."""
  config, dataset = trained.config, trained.dataset
  scaling = config.teacher.outputs_scaling

  def compute():
    predict = build.features_fn(
      config.teacher.model,
      dataset.num_classes,
      scaling,
      config.eval.batch_size,
      layers,
    )
    compute_features = evaluate.make_features(
      functools.partial(predict, trained.variables),
      dataset.train.images,
      batch_size=min(config.eval.batch_size, len(examples)),
    )
    computed = compute_features(examples)
    if not bits:
      return {
        layer: stores.half_floats(array) for layer, array in computed.items()
      }
    stored = {}
    for layer, array in computed.items():
      stored[layer], stored[f'{layer}-largest'] = stores.whole_numbers(
        array, bits
      )
    return stored

  kind = f'features_{bits}_bits' if bits else 'features'
  with files.locked(trained.folder, wait=True):
    stored = stores.stored_outputs(
      trained.store(kind, scaling, subset, *layers),
      trained.fingerprint
      | {
        'scaling': scaling,
        'subset': subset,
        'examples': len(examples),
        'layers': list(layers),
        'bits': bits,
      },
      compute,
    )
  return {layer: stored[layer] for layer in layers}


def _shown(trained: _Trained, teacher: Teacher) -> Teacher:
  """Returns a teacher with what its network says of what it is shown."""
  logits = _outputs(trained, trained.config.teacher.outputs_scaling)
  return teacher._replace(
    logits={
      split: array
      if isinstance(array, outputs_on_disk.Logits)
      else jnp.asarray(array)
      for split, array in logits.items()
    },
    of_views=functools.cache(functools.partial(_of_views, trained)),
    features=functools.partial(_features, trained),
    on=functools.partial(_on_transfer_set, trained, teacher),
  )


def _on_transfer_set(
  trained: _Trained, teacher: Teacher, name: str, dataset: data.Dataset
) -> Teacher:
  """Returns a teacher that is shown other training images; see `Teacher.on`."""
  trained = trained._replace(
    dataset=dataset,
    transfer_set=name,
    fingerprint=trained.fingerprint | {'transfer_set': name},
  )
  with files.locked(trained.folder, wait=True):
    return _shown(trained, teacher)


def _file_name(kind: str) -> str:
  return kind.replace(':', '.')


def _home(
  teachers_dir: pathlib.Path,
  kind: str,
  config: ConfigDict,
  dataset: data.Dataset,
  variables: Any,
) -> pathlib.Path:
  """Returns the folder of a trained network's outputs on a part of a data set.

  Runs on other parts of it have folders of their own, and leave them be.
  """
  digest = files.digest(_identity(config, dataset, variables))
  return teachers_dir / f'{dataset.name}-{_file_name(kind)}-{digest[:8]}'


def _identity(config: ConfigDict, dataset: data.Dataset, variables: Any):
  """Returns what determines a network's outputs, but for their scaling."""
  module = config.teacher.module
  return context_lib.identity(
    config,
    dataset,
    weights=checkpoint.tree_digest(variables),
    model=config.teacher.model,
    **({'source': models.user.source_digest(module)} if module else {}),
  )


def _own_teacher(
  config: ConfigDict, dataset: data.Dataset, teachers_dir: pathlib.Path
) -> Teacher:
  """Returns the trained network that the user gives."""
  name = config.teacher.module
  variables = models.user.load_trained(name).variables
  home = _home(teachers_dir, name, config, dataset, variables)
  logging.info('teacher: that of %s', name)
  with files.locked(home, wait=True):
    return _of_network(
      config, dataset, home, variables, {'row': 'teacher', 'source': name}, []
    )


def _shipped_teacher(
  config: ConfigDict, dataset: data.Dataset, teachers_dir: pathlib.Path
) -> Teacher:
  """Returns the teacher that comes with the project, or its outputs alone."""
  spec = config.teacher
  folder = stores.shipped_folder(spec.shipped)
  manifest = stores.shipped_manifest(folder, dataset.digest)
  if not same_network(manifest['teacher']['model'], build.plain(spec.model)):
    raise errors.UserError(
      f'config.teacher.model is not that of the outputs in {folder}: '
      'config.teacher.retrain=true trains it'
    )
  if stores.has_weights(spec.shipped):
    logging.info('teacher: that of %s', folder)
    module = build.model(spec.model, dataset.num_classes)
    variables = stores.shipped_weights(
      folder,
      manifest,
      build.variables_like(module, dataset.train.images.shape[1:]),
    )
    home = _home(teachers_dir, spec.model.kind, config, dataset, variables)
    with files.locked(home, wait=True):
      return _of_network(
        config, dataset, home, variables, manifest['training'], []
      )
  logits = stores.shipped_logits(folder, manifest, spec.outputs_scaling)
  held_out = config.data.holdout_examples
  train = logits['train']
  if held_out:
    logits = {'train': train[:-held_out], 'test': train[-held_out:]}
  logits = {
    'train': logits['train'][: len(dataset.train.labels)],
    'test': logits['test'][: len(dataset.test.labels)],
  }
  logging.info('teacher outputs: those of %s', folder)
  return Teacher(
    {split: jnp.asarray(array) for split, array in logits.items()},
    None,
    _teacher_record(manifest['training'], logits, dataset),
    {},
    [],
  )


def same_network(a: dict[str, Any], b: dict[str, Any]) -> bool:
  """Whether two model sections differ at most in how they were trained."""
  # Records written before the field's renaming call it 'arithmetic'; records
  # written before there was a choice have neither.
  a, b = (
    {'quantization': model.get('arithmetic', 'float')}
    | {
      key: value
      for key, value in model.items()
      if key not in (*_OF_TRAINING, 'arithmetic')
    }
    for model in (a, b)
  )
  return a == b


def _teacher_record(record, logits, dataset: data.Dataset) -> dict[str, Any]:
  """Adds metrics of the outputs, which are what the students are given."""
  record = dict(record)
  record.pop('test', None)
  train = logits['train']
  if isinstance(train, outputs_on_disk.Logits):
    record['outputs'] = train.digest
    # Metrics of a part: the whole is not to be in memory.
    train = train[:_TRAIN_PART]
    record['train_examples'] = len(train)
  else:
    record['outputs'] = checkpoint.tree_digest(logits)
  record['train'] = evaluate.evaluate(train, dataset.train.labels[: len(train)])
  if 'test' in logits:
    record['test'] = evaluate.evaluate(logits['test'], dataset.test.labels)
    record['reliability'] = evaluate.reliability(
      logits['test'], dataset.test.labels
    )
  return record


def ship(
  config: ConfigDict,
  dataset: data.Dataset,
  teacher: Teacher,
  workdir: pathlib.Path,
) -> None:
  """Writes a teacher as a folder that teacher.shipped can name."""
  record = teacher.record
  log = run_records.MetricsLog(workdir / 'metrics.jsonl')
  log.drop(lambda line: True)
  for epoch in teacher.epochs:
    log.append(epoch)
  stores.ship(
    workdir / 'outputs',
    teacher.outputs,
    {
      'command': ' '.join(sys.argv),
      'data': dataset.name,
      'data_digest': dataset.digest,
      'teacher': build.recorded(config)['teacher'],
      'training': {
        key: value
        for key, value in record.items()
        if key not in ('test', 'train', 'reliability', 'outputs')
      },
      'accuracy': {
        scaling: {
          'train': evaluate.evaluate(logits['train'], dataset.train.labels),
          'test': evaluate.evaluate(logits['test'], dataset.test.labels),
        }
        for scaling, logits in teacher.outputs.items()
      },
    },
    weights=teacher.variables if config.teacher.ship_weights else None,
  )
  logging.info('teacher outputs, to be shipped: %s', workdir / 'outputs')
