"""A run from start to finish: data, teacher, students, timing, report.

A run is one folder. Whatever is done in it is not done again: the same command
resumes a run that was stopped, adds the seeds that are missing, or reports.
Teachers live beside the runs, in folders named by what determines them, so
that runs share them.
"""

import contextlib
import functools
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from kd_jax import data, methods, models, validation
from kd_jax.benchmark import latency, training_steps
from kd_jax.data import preprocessing
from kd_jax.evaluation import evaluate
from kd_jax.report import report
from kd_jax.runtime import (
  environment,
  errors,
  files,
  mesh,
  processes,
  run_records,
  workers,
)
from kd_jax.teachers import stored_outputs as teacher_outputs
from kd_jax.teachers import teachers
from kd_jax.teachers.teachers import Teacher
from kd_jax.training import build, jobs
from kd_jax.training import context as context_lib
from kd_jax.training.context import Context

# What does not change a student: it may differ between commands in one folder.
FREE_FIELDS = (
  'seeds',
  'first_seed',
  'seeds_per_program',
  'mesh',
  'loop',
  'benchmark',
)
# A worker looks so often for a student that no other is at.
_POLL_S = 1.0


def run(
  config: ConfigDict,
  *,
  workdir: os.PathLike,
  teachers_dir: os.PathLike,
  data_dir: os.PathLike | None = None,
  source_dir: os.PathLike | None = None,
) -> dict[str, Any]:
  """Does what is left to do of a run and returns the content of its run.json.

  Of one of the run's workers that is its share of the students; of the process
  that prepares the run for them, what comes before.

  Args:
    config: from configs/.
    workdir: the run's folder.
    teachers_dir: where teachers are kept.
    data_dir: where prepared data sets are kept; a per-user cache by default.
    source_dir: a folder to look for the data in first.
  Raises:
    UserError: for a mistake of the user's, before any work is done.
  """
  config = build.with_own_teacher(config)
  rows = {name: build.close_row(config, name) for name in config.rows}
  for row_config in rows.values() or (config,):  # A teacher alone has none.
    validation.validate(row_config)
  _check_named_rows(config, rows)
  workdir = pathlib.Path(workdir)
  environment.log_device()
  is_worker = workers.share() is not None
  with (
    files.locked(workdir, shared=is_worker),
    mesh.use(config.mesh.data),
  ):
    record = _open_run(config, workdir)
    context = context_lib.make(
      config,
      functools.partial(
        data.load,
        data_dir=data_dir,
        source_dir=source_dir,
        image_size=config.data.image_size,
        memory_gib=config.data.memory_gib,
      ),
    )
    kind = context_lib.kind_of_data(context.dataset)
    contexts = functools.cache(
      functools.partial(context_lib.on_transfer_set, context)
    )
    for row_config in rows.values():
      validation.check_scalings(row_config, kind[1])
      validation.check_networks(row_config, *kind)
      validation.check_methods(row_config, *kind)
      context_lib.check_training(
        contexts(row_config.train.transfer_set).dataset,
        row_config.student,
        row_config.train,
        'train',
      )
      _is_live(row_config, context.dataset)
    teacher = teachers.get(config, context, pathlib.Path(teachers_dir))
    record['teacher'] = teacher.record
    if not is_worker:
      # Only now is the folder this config's: a mistake in the data or in the
      # teacher's outputs leaves it free for the command that mends it.
      files.write_json(workdir / 'run.json', record)
    if workers.is_preparing():
      return record
    if not rows:
      teachers.ship(config, context.dataset, teacher, workdir)
    identities: dict[str, dict[str, Any]] = {}
    for name, row_config in rows.items():
      identities[name] = _row_identity(
        row_config, context.dataset, teacher, identities
      )
    same_as = _same_as(identities)

    @functools.cache
    def on_transfer_set(name: str) -> tuple[Context, Teacher]:
      own = contexts(name)
      return own, teacher.on(name, own.dataset) if name else teacher

    def train_row(name: str) -> bool:
      own_context, own_teacher = on_transfer_set(rows[name].train.transfer_set)
      return _train_row(
        name,
        rows[name],
        identities[name],
        own_context,
        functools.partial(
          _teacher_of_row,
          rows,
          same_as,
          identities,
          own_context,
          own_teacher,
          workdir,
          name,
        ),
        workdir,
      )

    left = [name for name, first in same_as.items() if first == name]
    while left := [name for name in left if not train_row(name)]:
      time.sleep(_POLL_S)  # Others are at these.
    if is_worker:
      return record
    record['students'] = processes.from_first(
      lambda: _results(workdir, same_as)
    )
    files.write_json(workdir / 'run.json', record)
    if rows and config.benchmark.enabled and processes.count() > 1:
      logging.warning(
        'nothing is timed by several processes: the same command with one, and '
        'the same folder, adds the benchmark'
      )
    elif rows and config.benchmark.enabled:
      _benchmark(rows, context.dataset, teacher, workdir, record)
    record['status'] = 'complete'
    files.write_json(workdir / 'run.json', record)
    processes.from_first(lambda: report.write(workdir))
  return record


def _check_named_rows(config: ConfigDict, rows: dict[str, ConfigDict]) -> None:
  """Refuses rows named that are not there, or too late to teach."""
  against = config.benchmark.steps_against
  if against and against not in rows:
    raise errors.UserError(
      f'config.benchmark.steps_against={against!r}: expected a row '
      f'({", ".join(rows)}), or nothing'
    )
  earlier = ['teacher']
  for name, config in rows.items():
    unknown = [row for row in config.teacher.rows if row not in earlier]
    if unknown:
      raise errors.UserError(
        f'config.teacher.rows={config.teacher.rows} of row {name!r}: expected '
        f'rows before it ({", ".join(earlier)}), not {", ".join(unknown)}'
      )
    earlier.append(name)


def _open_run(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  """Returns the run's record, new or continued, or refuses the folder."""
  plain = build.recorded(config)
  record = files.read_json(workdir / 'run.json')
  if record is None:
    if processes.from_first((workdir / 'students').exists):
      raise errors.UserError(
        f'{workdir} holds students but no sound run.json, so what they were '
        'trained with is unknown: remove the folder, or choose another '
        'with --workdir'
      )
    record = {'environment': environment.describe()}
  else:
    fixed = [_fixed_fields(c) for c in (plain, record['config'])]
    differences = list(files.differences(*fixed, 'config'))
    if differences:
      raise errors.UserError(
        f'{workdir} holds a run of another config:\n  '
        + '\n  '.join(differences)
        + '\nChoose another folder with --workdir, or remove this one'
      )
  record |= {
    'status': 'running',
    'name': config.name,
    'command': ' '.join(sys.argv),
    'config': plain,
  }
  return record


def _fixed_fields(config: dict[str, Any]) -> dict[str, Any]:
  """Returns a recorded config less what may differ between commands."""
  drop = lambda fields: {
    k: v for k, v in fields.items() if k not in FREE_FIELDS
  }
  rows = {name: drop(fields) for name, fields in config['rows'].items()}
  return drop(config) | {'rows': rows}


# --- The students. ---


def _row_identity(
  config: ConfigDict,
  dataset: data.Dataset,
  teacher: Teacher,
  earlier: dict[str, dict[str, Any]],
) -> dict[str, Any]:
  """Returns what determines a row's students, but for their seeds.

  Args:
    config: closed.
    dataset: it learns.
    teacher: of the run.
    earlier: identities of the rows before it.
  """
  digest = {'teacher': teacher.record['outputs']} | {
    name: files.digest(identity) for name, identity in earlier.items()
  }
  teachers, bits = config.teacher.rows, config.teacher.feature_bits
  return context_lib.identity(
    config,
    dataset,
    # Of features that are used; without, nothing depends on it.
    **({'feature_bits': bits} if build.uses_features(config.distill) else {}),
    teacher_outputs={
      'average': config.teacher.average,
      'of': [digest[row] for row in teachers],
    }
    if teachers
    else digest['teacher'],
    class_shift=config.teacher.class_shift,
    # Of what is measured with it; without, nothing depends on it.
    **(
      {'bias_classes': config.eval.bias_classes}
      if config.eval.bias_classes
      else {}
    ),
    scaling=config.data.scaling,
    student=build.network(config.student),
    **(
      {'student_source': models.user.source(config.student.kind)}
      if models.user.is_name(config.student.kind)
      else {}
    ),
    distill=build.without_methods(
      config.distill, build.method_options(config.distill)
    ),
    train=config.train,
    optim=config.optim,
    live_teacher=_is_live(config, dataset),
  )


def _is_live(config: ConfigDict, dataset: data.Dataset) -> bool:
  """Whether a row's steps call the teacher: if told, or if features do not fit.

  Without a distillation loss there is nothing to call it for.
  """
  if not build.method_options(config.distill):
    return False
  layers = build.teacher_layers(config, *context_lib.kind_of_data(dataset))
  train, on_disk = config.train, data.is_on_disk(dataset.train)
  # Of these, what would be stored is larger than the images.
  on_disk &= bool(layers) or train.augmentation != 'none'
  if config.teacher.live or not (layers or on_disk):
    return config.teacher.live
  examples = context_lib.used_examples(train, dataset)
  size = len(examples) * sum(
    teacher_outputs.features_dtype(bits).itemsize * int(np.prod(shape))
    for bits, shapes in layers.items()
    for shape in shapes.values()
  )
  is_live = (
    on_disk
    or train.augmentation != 'none'
    or train.mixup_alpha > 0
    or size > config.teacher.features_gib * 2**30
  )
  if is_live and any(layers):
    raise errors.UserError(
      f'config.teacher.feature_bits={config.teacher.feature_bits}: features '
      f'of {size / 2**30:.1f} GiB are to be stored, of images as they are: '
      'raise config.teacher.features_gib, choose fewer layers, and leave out '
      'augmentation and mixup'
    )
  return is_live


def _same_as(identities: dict[str, dict[str, Any]]) -> dict[str, str]:
  """Returns for each row the first that is the same training: often itself."""
  first: dict[str, str] = {}
  return {
    name: first.setdefault(files.digest(identity), name)
    for name, identity in identities.items()
  }


def _teacher_of_row(
  rows: dict[str, ConfigDict],
  same_as: dict[str, str],
  identities: dict[str, dict[str, Any]],
  context: Context,
  teacher: Teacher,
  workdir: pathlib.Path,
  name: str,
  seed: int,
) -> Teacher | None:
  """Returns what teaches a seed of a row: the run's teacher, or earlier rows.

  Outputs of these are stored beside their weights. None while another worker
  trains one of them.
  """
  spec, transfer_set = rows[name].teacher, rows[name].train.transfer_set
  if not (spec.rows or spec.class_shift):
    return teacher
  outputs = []
  for row in spec.rows or ('teacher',):
    if row == 'teacher':
      outputs.append(teacher.logits)
      continue
    folder = workdir / 'students' / same_as[row] / f'seed-{seed}'
    if not jobs.is_done(folder, identities[row]):
      return None
    outputs.append(_student_outputs(rows[row], context, transfer_set, folder))
  logits = teacher_outputs.average(outputs, spec.average)
  return teacher._replace(
    logits={
      split: jnp.roll(array, spec.class_shift, axis=-1)
      for split, array in logits.items()
    }
  )


def _student_outputs(
  config: ConfigDict, context: Context, transfer_set: str, folder: pathlib.Path
) -> dict[str, np.ndarray]:
  """Returns a trained student's logits [N, K] by split.

  Args:
    config: of its row.
    context: of the row that it teaches.
    transfer_set: of that row.
    folder: of the student.
  """
  dataset = context.dataset
  result = files.read_json(folder / 'result.json')

  def compute():
    variables = _restore_student(config, dataset, folder)
    predict = build.predict_fn(
      config.student,
      dataset.num_classes,
      config.data.scaling,
      config.eval.batch_size,
    )
    return {
      name: np.asarray(predict(variables, split.images))
      for name, split in (('train', dataset.train), ('test', dataset.test))
    }

  store = folder / '-'.join(['outputs', *filter(None, [transfer_set])])
  with files.locked(store, wait=True):
    return teacher_outputs.stored_outputs(
      store,
      {
        'weights': result['weights'],
        'data_digest': dataset.digest,
        'transfer_set': transfer_set,
      },
      compute,
    )


def _restore_student(
  config: ConfigDict, dataset: data.Dataset, folder: pathlib.Path
):
  """Returns the variables of a trained student."""
  variables = jobs.restore(
    folder,
    build.model(config.student, dataset.num_classes),
    dataset.train.images,
  )
  if variables is None:
    raise _damaged(folder / 'weights')
  return variables


def _damaged(folder: pathlib.Path) -> errors.UserError:
  return errors.UserError(
    f'{folder} is damaged: remove {folder.parent}, and the same command trains '
    'that student again'
  )


def _train_row(
  name: str,
  config: ConfigDict,
  identity: dict[str, Any],
  context: Context,
  teacher_of: Callable[[int], Teacher | None],
  workdir: pathlib.Path,
) -> bool:
  """Trains the seeds of a row that are not there yet.

  Of several workers each leaves out what another is at.

  Args:
    name: of the row.
    config: closed.
    identity: of the row's students, but for their seeds.
    context: of what they learn.
    teacher_of: gives the teacher of a seed, or None if it is not there yet.
    workdir: of the run.
  Returns:
    Whether all seeds are there.
  """
  folder = workdir / 'students' / name

  def missing_seeds():
    return [
      seed
      for seed in range(config.first_seed, config.first_seed + config.seeds)
      if not jobs.is_done(folder / f'seed-{seed}', identity)
    ]

  missing = missing_seeds()
  if not missing:
    return True
  # On a CPU, networks in one program take as long as one after the other.
  together = config.seeds_per_program or (
    1 if jax.default_backend() == 'cpu' else len(missing)
  )
  if config.teacher.rows or data.is_on_disk(context.dataset.train):
    together = 1  # Each seed has its own teacher, or its own order.
  for seeds in _groups(missing, together, folder, identity):
    with _held([folder / f'seed-{seed}' for seed in seeds]) as held:
      # Another worker may have been at them until now.
      if not held or not set(seeds) & set(missing_seeds()):
        continue
      teacher = teacher_of(seeds[0])
      if teacher is not None:
        _train_seeds(name, config, identity, context, teacher, seeds, workdir)
  return not missing_seeds()


def _groups(
  missing: list[int],
  together: int,
  folder: pathlib.Path,
  identity: dict[str, Any],
) -> list[tuple[int, ...]]:
  """Returns the seeds that train as one program, by program.

  Those that did so when a run was stopped go on so, though some may be done: of
  another size a program is not the same to the last bit.
  """
  groups, left = [], list(missing)
  for name in processes.from_first(
    lambda: sorted(path.name for path in folder.glob('seed-*-*'))
  ):
    seeds = tuple(map(int, name.split('-')[1:]))
    begun = files.read_json(folder / name / 'identity.json') == identity
    if begun and set(seeds) & set(left):
      groups.append(seeds)
      left = [seed for seed in left if seed not in seeds]
  for first in range(0, len(left), together):
    groups.append(tuple(left[first : first + together]))
  return groups


@contextlib.contextmanager
def _held(folders: list[pathlib.Path]) -> Iterator[bool]:
  """Holds folders, of students, unless another worker has one of them."""
  with contextlib.ExitStack() as locks:
    try:
      for folder in folders:
        locks.enter_context(files.locked(folder))
    except files.Busy:
      yield False
    else:
      yield True


def _train_seeds(
  name: str,
  config: ConfigDict,
  identity: dict[str, Any],
  context: Context,
  teacher: Teacher,
  seeds: tuple[int, ...],
  workdir: pathlib.Path,
) -> None:
  """Trains seeds of a row, as one program if there are several."""
  folder, live = workdir / 'students' / name, _is_live(config, context.dataset)
  job = context_lib.make_job(
    config,
    context,
    label=name,
    model=config.student,
    train=config.train,
    optim=config.optim,
    distill=config.distill,
    scaling=config.data.scaling,
    seeds=seeds,
    folder=folder / f'seed-{"-".join(map(str, seeds))}',
    identity=identity,
    live_teacher=live,
  )
  of_views = features = None
  if build.method_options(config.distill) and not live:
    layers = build.teacher_layers(
      config, *context_lib.kind_of_data(context.dataset)
    )
    if config.train.augmentation != 'none':
      of_views = teacher.of_views(config.train.augmentation)
    if layers:
      examples = job.examples
      if examples is None:
        examples = np.arange(len(context.dataset.train.labels))
      features = {}
      for bits, shapes in layers.items():
        stored = teacher.features(
          tuple(shapes), bits, config.train.subset, examples
        )
        features |= {
          methods.stored_layer(layer, bits > 0): stored[layer]
          for layer in shapes
        }
  for trained in jobs.run(
    job,
    context.dataset,
    teacher.logits,
    run_records.MetricsLog(workdir / 'metrics.jsonl'),
    live_teacher=teacher.variables if live else None,
    teacher_features=features,
    teacher_of_views=of_views,
  ):
    seed = trained.record['seed']
    if jobs.is_done(folder / f'seed-{seed}', identity):
      continue  # Before the others of its program were stopped.
    if build.is_quantized(config.student):
      trained = _pack(trained, config, context.dataset, teacher.logits)
    jobs.finish(trained, folder / f'seed-{seed}', identity)
    logging.info(
      '%s seed %d: test accuracy %.2f%%, trained in %.1f s',
      name,
      seed,
      100 * trained.record['test']['accuracy'],
      trained.record['time']['train_s'],
    )
  if len(seeds) > 1:
    files.remove(job.folder)


def _pack(
  trained: jobs.Trained,
  config: ConfigDict,
  dataset: data.Dataset,
  teacher_logits: dict[str, jax.Array],
) -> jobs.Trained:
  """Adds what a quantized student is in use, and its metrics.

  'trained_agreement' is the share of the test split on which it decides as the
  network of floats that was trained.
  """
  images, labels = dataset.test.images, dataset.test.labels
  packed = build.pack(config.student, trained.variables)
  network, variables = build.deploy(
    config.student, *context_lib.kind_of_data(dataset), packed
  )
  predict = evaluate.make_predict(
    build.apply_fn(network),
    preprocessing.apart(config.data.scaling),
    batch_size=config.eval.batch_size,
  )
  logits = predict(variables, images)
  as_trained = build.predict_fn(
    config.student,
    dataset.num_classes,
    config.data.scaling,
    config.eval.batch_size,
  )(trained.variables, images)
  same = jnp.argmax(logits, axis=-1) == jnp.argmax(as_trained, axis=-1)
  record = trained.record | {
    'packed': evaluate.evaluate(logits, labels, teacher_logits.get('test'))
    | {'trained_agreement': float(jnp.mean(same))}
  }
  return trained._replace(record=record, packed=packed)


def _results(
  workdir: pathlib.Path, same_as: dict[str, str]
) -> list[dict[str, Any]]:
  """Returns the records of all finished students, in the order of the rows.

  A row that is the same training as an earlier one has that one's, and
  'same_as' in them.
  """
  results = []
  for name, first in same_as.items():
    folders = (workdir / 'students' / first).glob('seed-*')
    found = [files.read_json(f / 'result.json') for f in folders]
    found = [result for result in found if result is not None]
    if first != name:
      found = [{**r, 'row': name, 'same_as': first} for r in found]
    results += sorted(found, key=lambda result: result['seed'])
  return results


# --- Timing. ---


def _benchmark(
  rows: dict[str, ConfigDict],
  dataset: data.Dataset,
  teacher: Teacher,
  workdir: pathlib.Path,
  record: dict[str, Any],
) -> None:
  """Times the teacher and each distinct student network, once for a run."""
  config = next(iter(rows.values()))
  students, network_of = latency.distinct_models(rows)
  done = record.get('benchmark', {})
  asked = build.plain(config.benchmark)
  if (done.get('network_of'), done.get('config')) == (network_of, asked):
    return
  models, variables = {}, {}
  image_shape = dataset.train.images.shape[1:]
  if not config.teacher.logits:
    models['teacher'] = config.teacher.model
    variables['teacher'] = teacher.variables
    if teacher.variables is None:  # Its time does not depend on its weights.
      variables['teacher'] = build.init_variables(
        build.model(config.teacher.model, dataset.num_classes),
        image_shape,
        jax.random.key(0),
      )
  for name, model in students.items():
    seed = next(s['seed'] for s in record['students'] if s['row'] == name)
    folder = workdir / 'students' / name / f'seed-{seed}'
    models[name] = model
    own = _restore_student(rows[name], dataset, folder)
    if build.is_quantized(model):
      own = jobs.restore_packed(folder, build.pack(model, own))
      if own is None:
        raise _damaged(folder / 'packed')
    variables[name] = own
  record['benchmark'] = latency.benchmark_inference(
    config, models, network_of, variables, dataset
  )
  if config.benchmark.steps_against:
    record['benchmark']['steps_against'] = training_steps.measure_against_row(
      rows,
      config.benchmark.steps_against,
      dataset,
      budget_s=config.benchmark.budget_s,
    )
  # Which may be later than the trainings, and by other code.
  record['benchmark']['environment'] = environment.describe()
  with_live = {
    name: rows[name]
    for name in students
    if not build.uses_rounded(rows[name].distill)
  }
  if config.benchmark.live_teacher and 'teacher' in models and with_live:
    record['benchmark']['training'] = training_steps.measure_stored_and_live(
      with_live,
      variables['teacher'],
      dataset,
      budget_s=config.benchmark.budget_s,
    )
