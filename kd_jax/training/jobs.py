"""One training in one folder: claimed, resumed, finished, restored."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from kd_jax import data
from kd_jax.evaluation import evaluate
from kd_jax.models import costs
from kd_jax.runtime import environment, files, mesh, processes, run_records
from kd_jax.training import build, checkpoint, steps, train

PyTree = Any

# An epoch that takes longer is saved on the way, so that no more is lost.
PARTIAL_EVERY_S = 300.0
_PARTIAL = 'within_epoch'


class Job(NamedTuple):
  """A training: the network, what it learns from, where it writes.

  Attributes:
    label: of the row, for logs and the progress bar.
    programs: of the network and these settings.
    examples: indices of the training examples it uses, perhaps repeated; None
      for all of them.
    phases: the fits, in order, over those examples.
    carry_optimizer: whether the optimizer's state goes from one to the next.
    settings: of an epoch, counted from 0 over all fits.
    seeds: one, or several that train as one program.
    attacked_examples: the first so many of the test split are attacked after
      training, for robust accuracy.
    bias_classes: a bias on the logits of these is chosen on the held-out part
      of the training split.
    num_held_out: the last so many of the training split, in no fit.
    folder: for checkpoints.
    identity: JSON values that determine the result; a folder of another
      identity is not resumed.
  """

  label: str
  programs: build.Programs
  examples: np.ndarray | None
  phases: list[train.Phase]
  carry_optimizer: bool
  settings: Callable[[int], steps.Settings]
  seeds: tuple[int, ...]
  attacked_examples: int
  bias_classes: tuple[int, ...]
  num_held_out: int
  folder: pathlib.Path
  identity: dict[str, Any]


class Trained(NamedTuple):
  """What came of a training.

  Attributes:
    variables: of the network.
    record: JSON values.
    packed: of a quantized network, its variables as they are stored for use.
  """

  variables: PyTree
  record: dict[str, Any]
  packed: PyTree | None = None


def run(
  job: Job,
  dataset: data.Dataset,
  teacher_logits: dict[str, jax.Array] | None,
  log: run_records.MetricsLog,
  *,
  live_teacher: PyTree | None = None,
  teacher_features: dict[str, np.ndarray] | None = None,
  teacher_of_views: Callable[[np.ndarray, np.ndarray], np.ndarray]
  | None = None,
) -> list[Trained]:
  """Trains (or resumes) a job.

  Args:
    job: the training.
    dataset: on the device, as are the teacher's logits.
    teacher_logits: [N, K] by split; None to learn from labels alone. Without
      the test split, what compares with the teacher is left out.
    log: gets a line an epoch and seed.
    live_teacher: the teacher's variables, where the job's programs call it.
    teacher_features: stored ones of the job's examples, by layer.
    teacher_of_views: (indices, views) of training examples -> the teacher's
      logits, where the job's programs augment and do not call the teacher.
  Returns:
    What came of each seed.
  """
  _claim(job.folder, job.identity)
  programs, label = job.programs, job.label
  keys = [jax.random.split(jax.random.key(seed)) for seed in job.seeds]
  init_key, train_key = jnp.stack(keys, axis=1)
  if not programs.vmapped:
    init_key, train_key = init_key[0], train_key[0]
  state = programs.init(init_key)

  checkpoints = checkpoint.Checkpoints(job.folder / 'checkpoints')
  done_epochs, state = checkpoints.restore(state) or (0, state)
  state = mesh.put_replicated(state)
  partial = _restore_partial(job, state, done_epochs)
  if partial:
    # Perhaps of a later one, if saves take longer than epochs.
    done_epochs = partial.epoch
    logging.info(
      '%s: resumed after step %d of epoch %d', label, partial.step, done_epochs
    )
  elif done_epochs:
    logging.info('%s: resumed after epoch %d', label, done_epochs)
  log.drop(
    lambda line: (
      line['row'] == label
      and line['seed'] in job.seeds
      and line['epoch'] >= done_epochs
    )
  )

  of_teacher = {}
  if teacher_of_views is None and live_teacher is None and teacher_logits:
    of_teacher['teacher_logits'] = teacher_logits['train']
  if teacher_of_views is not None:
    examples = job.examples
    if examples is None:
      examples = np.arange(len(dataset.train.labels))
    teacher_of_views = functools.partial(teacher_of_views, examples)
  whole = {} if live_teacher is None else {'teacher': live_teacher}
  test_teacher = (teacher_logits or {}).get('test')

  def test_logits(state):
    logits = programs.predict(state.variables, dataset.test.images)
    return logits if programs.vmapped else logits[None]

  logits = None
  num_epochs = sum(phase.epochs for phase in job.phases)
  epochs = train.fit(
    programs.epochs,
    state,
    source(job, dataset, of_teacher, teacher_features, whole),
    job.phases,
    key=train_key,
    settings=job.settings,
    done_epochs=done_epochs,
    partial=partial,
    partial_every_s=PARTIAL_EVERY_S,
    reset_optimizer=(None if job.carry_optimizer else programs.reset_optimizer),
    teacher_of_views=teacher_of_views,
    progress=f'{label} seed {",".join(map(str, job.seeds))}'
    if processes.is_first()
    else None,
  )
  # The bar gives way to what is said of an error.
  with contextlib.closing(epochs):
    for result in epochs:
      if isinstance(result, train.Partial):
        _save_partial(job, result)
        continue
      state = result.state
      logits = test_logits(state)
      for i, seed in enumerate(job.seeds):
        log.append(
          {
            'row': label,
            'seed': seed,
            'epoch': result.epoch,
            'phase': result.phase,
            **_train_metrics(result.sums, i),
            **{
              f'eval/{name}': value
              for name, value in evaluate.evaluate(
                logits[i], dataset.test.labels, test_teacher
              ).items()
            },
            # Of a group that trained as one program, a seed's share.
            'time/train_s': result.train_s / len(job.seeds),
            'time/compile_s': result.compile_s / len(job.seeds),
            'time/teacher_s': result.teacher_s / len(job.seeds),
          }
        )
      done_epochs = result.epoch + 1
      if done_epochs == num_epochs or checkpoints.is_due():
        checkpoints.save(done_epochs, state)
  checkpoints.close()

  if logits is None:  # Every epoch was done before a restart.
    logits = test_logits(state)
  held_out_logits = None
  if job.bias_classes:
    images = dataset.train.images[-job.num_held_out :]
    held_out_logits = programs.predict(state.variables, images)
    if not programs.vmapped:
      held_out_logits = held_out_logits[None]
  trained, surroundings = [], environment.describe()
  for i, seed in enumerate(job.seeds):
    pick = (
      (lambda leaf, i=i: leaf[i]) if programs.vmapped else lambda leaf: leaf
    )
    variables = jax.tree.map(pick, state.variables)
    robust = robust_accuracy(
      programs.attack, variables, dataset, job.attacked_examples
    )
    record = {
      'row': label,
      'seed': seed,
      'test': evaluate.evaluate(logits[i], dataset.test.labels, test_teacher),
      'reliability': evaluate.reliability(logits[i], dataset.test.labels),
      'by_class': {
        **evaluate.by_class(logits[i], dataset.test.labels),
        'trained_on': _trained_on(job, dataset),
      },
      **robust,
      'steps': int(pick(state.step)),
      'parameters': costs.count_parameters(variables['params']),
      **_history(log, label, seed),
      'weights': checkpoint.tree_digest(variables),
      'environment': surroundings,
    }
    if held_out_logits is not None:
      record['bias'] = _with_bias(
        job, dataset, teacher_logits, held_out_logits[i], logits[i]
      )
    trained.append(Trained(variables, record))
  return trained


def _save_partial(job: Job, partial: train.Partial) -> None:
  saved = checkpoint.Checkpoints(job.folder / _PARTIAL, keep=1)
  saved.save(
    # The steps of all epochs: of seeds in one program the same for each.
    int(np.max(partial.state.step)),
    {
      'epoch': jnp.int32(partial.epoch),
      'step': jnp.int32(partial.step),
      'state': partial.state,
      'sums': partial.sums,
      'train_s': jnp.float32(partial.train_s),
    },
  )
  saved.close()


def _restore_partial(
  job: Job, state: steps.TrainState, done_epochs: int
) -> train.Partial | None:
  """Returns what is saved within an epoch that is not done, if it is."""
  folder = job.folder / _PARTIAL
  if not processes.from_first(folder.exists):
    return None
  saved = checkpoint.Checkpoints(folder, keep=1)
  whole_number = jax.ShapeDtypeStruct((), jnp.int32)
  like = {
    'epoch': whole_number,
    'step': whole_number,
    'state': state,
    'sums': jax.eval_shape(job.programs.epochs.zero_sums),
    'train_s': jax.ShapeDtypeStruct((), jnp.float32),
  }
  found = saved.restore(like)
  saved.close()
  if found is None:
    return None
  _, tree = found
  if tree['epoch'] < done_epochs:
    return None
  return train.Partial(
    int(tree['epoch']),
    int(tree['step']),
    *mesh.put_replicated((tree['state'], tree['sums'])),
    float(tree['train_s']),
  )


def source(
  job: Job,
  dataset: data.Dataset,
  of_teacher: dict[str, Any],
  features: dict[str, np.ndarray] | None = None,
  whole: dict[str, PyTree] | None = None,
) -> steps.Batch | train.Stream:
  """Returns what a job's training takes its examples from, see `train.fit`.

  Args:
    job: the training.
    dataset: on the device, or on disk.
    of_teacher: 'teacher_logits' [N, K] or nothing.
    features: the teacher's, of the job's examples.
    whole: what is no example's.
  """
  arrays = {
    'images': dataset.train.images,
    'labels': dataset.train.labels,
    **of_teacher,
  }
  whole = mesh.put_replicated(whole or {})
  if data.is_on_disk(dataset.train):
    return train.Stream(functools.partial(_read, job, arrays), whole)
  if job.examples is not None:
    arrays = {name: array[job.examples] for name, array in arrays.items()}
  if features is not None:
    arrays['teacher_features'] = jax.device_put(features)
  return mesh.put_sharded(arrays) | whole


def _read(
  job: Job, arrays: dict[str, Any], order: np.ndarray
) -> Iterator[steps.Batch]:
  """Yields this process's share of batches that are read from disk.

  Args:
    job: the training.
    arrays: of the training split, by name; the images on disk, and perhaps the
      teacher's logits.
    order: positions among the job's examples, in whole batches.
  """
  size = job.programs.epochs.batch_size // processes.count()
  indices = order if job.examples is None else job.examples[order]
  own = np.concatenate(
    [
      mesh.process_share(indices, start, size)
      for start in range(0, len(indices) // processes.count(), size)
    ]
  )
  arrays = dict(arrays)
  images = arrays.pop('images').batches(own, size)
  arrays['labels'] = np.asarray(arrays['labels'])
  for i, batch in enumerate(images):
    index = own[i * size : (i + 1) * size]
    yield {
      'images': batch,
      **{name: array[index] for name, array in arrays.items()},
    }


def _trained_on(job: Job, dataset: data.Dataset) -> list[int]:
  """Returns how many examples of each class a job uses."""
  labels = np.asarray(dataset.train.labels)
  if job.examples is not None:
    labels = labels[job.examples]
  elif job.num_held_out:
    labels = labels[: -job.num_held_out]
  return np.bincount(labels, minlength=dataset.num_classes).tolist()


def _with_bias(
  job: Job,
  dataset: data.Dataset,
  teacher_logits: dict[str, jax.Array] | None,
  held_out_logits: jax.Array,
  test_logits: jax.Array,
) -> dict[str, Any]:
  """Returns metrics of a network with a bias on the logits of some classes.

  It is chosen on the held-out part of the training split: by its labels, and
  by what the teacher decides there, which takes none.
  """
  held_out = slice(-job.num_held_out, None)
  judges = {'labels': dataset.train.labels[held_out]}
  if teacher_logits is not None:
    teacher = teacher_logits['train'][held_out]
    judges['teacher'] = jnp.argmax(teacher, axis=-1)
  labels = dataset.test.labels
  chosen = {}
  for judge, decisions in judges.items():
    bias = evaluate.choose_bias(held_out_logits, decisions, job.bias_classes)
    logits = evaluate.add_bias(test_logits, job.bias_classes, bias)
    chosen[judge] = {
      'bias': bias,
      'test': evaluate.evaluate(logits, labels),
      'by_class': evaluate.by_class(logits, labels),
    }
  return {'classes': list(job.bias_classes), 'by': chosen}


def robust_accuracy(
  attack: Callable[..., jax.Array],
  variables: PyTree,
  dataset: data.Dataset,
  num_examples: int,
) -> dict[str, Any]:
  """Returns 'robust', the metrics of attacked test images; {} of none."""
  if num_examples == 0:
    return {}
  images = dataset.test.images[:num_examples]
  labels = dataset.test.labels[:num_examples]
  logits = attack(variables, images, labels)
  return {
    'robust': evaluate.evaluate(logits, labels)
    | evaluate.ATTACK
    | {'num_steps': evaluate.ATTACK_STEPS, 'examples': len(labels)}
  }


def _train_metrics(sums: dict[str, np.ndarray], index: int) -> dict[str, float]:
  """Averages one seed's totals of an epoch over its examples."""
  own = {name: float(np.atleast_1d(v)[index]) for name, v in sums.items()}
  means = {
    f'train/{name}': total / own['count']
    for name, total in own.items()
    if name not in ('count', 'correct', 'nonfinite_step')
  }
  return means | {'train/accuracy': own['correct'] / own['count']}


def _history(
  log: run_records.MetricsLog, row: str, seed: int
) -> dict[str, Any]:
  """Sums up a training from its logged epochs.

  They survive a resume, which a clock around the whole would not.

  Returns:
    'time': seconds in the epochs, in all and by fit, and of compilation;
    'epochs', how many; 'test_accuracy_by_epoch'; 'test_accuracy_after': each
    fit.
  """
  epochs = [
    line for line in log.read() if (line['row'], line['seed']) == (row, seed)
  ]
  by_phase: dict[str, float] = {}
  accuracy: dict[str, float] = {}
  for epoch in epochs:
    phase = epoch['phase']
    by_phase[phase] = by_phase.get(phase, 0.0) + epoch['time/train_s']
    accuracy[phase] = epoch['eval/accuracy']
  total_s, fit_s = sum(by_phase.values()), by_phase.get('fit', 0.0)
  return {
    'time': {
      'train_s': total_s,
      'fold_loop_s': total_s - fit_s,
      'fit_s': fit_s,
      'compile_s': sum(epoch['time/compile_s'] for epoch in epochs),
    },
    'epochs': len(epochs),
    'test_accuracy_by_epoch': [epoch['eval/accuracy'] for epoch in epochs],
    'test_accuracy_after': accuracy,
  }


def _claim(folder: pathlib.Path, identity: dict[str, Any]) -> None:
  """Makes a folder for a training, dropping one of another identity."""
  stored = files.read_json(folder / 'identity.json')
  if stored is not None and stored != identity:
    changed = ', '.join(files.differences(identity, stored, 'identity'))
    logging.warning('%s is done again: %s', folder, changed)
  if stored != identity:
    files.remove(folder)
    files.write_json(folder / 'identity.json', identity)


def is_done(folder: pathlib.Path, identity: dict[str, Any]) -> bool:
  return (
    files.read_json(folder / 'identity.json') == identity
    and files.read_json(folder / 'result.json') is not None
  )


def finish(trained: Trained, folder: pathlib.Path, identity) -> None:
  """Keeps the weights and the record of a training, and nothing else."""
  _claim(folder, identity)
  record = dict(trained.record)
  record['bytes'] = _save(folder / 'weights', trained.variables)
  if trained.packed is not None:
    record['packed'] |= {'bytes': _save(folder / 'packed', trained.packed)}
  files.write_json(folder / 'result.json', record)
  files.remove(folder / 'checkpoints')
  files.remove(folder / _PARTIAL)


def _save(folder: pathlib.Path, variables: PyTree) -> int:
  """Saves variables, and returns the bytes that they take on disk."""
  files.remove(folder)
  weights = checkpoint.Checkpoints(folder, keep=1)
  weights.save(0, variables)
  weights.close()
  return processes.from_first(
    lambda: sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())
  )


def restore(
  folder: pathlib.Path, module: nn.Module, images: jax.Array
) -> PyTree | None:
  """Returns the variables that `finish` kept, or None if it is damaged."""
  return _load(
    folder / 'weights', build.variables_like(module, images.shape[1:])
  )


def restore_packed(folder: pathlib.Path, like: PyTree) -> PyTree | None:
  """Likewise what `finish` kept of a quantized network for use.

  Args:
    folder: of the training.
    like: a tree of arrays of the same structure.
  """
  return _load(folder / 'packed', like)


def _load(folder: pathlib.Path, like: PyTree) -> PyTree | None:
  weights = checkpoint.Checkpoints(folder, keep=1)
  restored = weights.restore(like)
  weights.close()
  return None if restored is None else restored[1]
