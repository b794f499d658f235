"""What the trainings of a run share: its data, and how a job is made of it."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from kd_jax import data
from kd_jax.runtime import errors, mesh, processes
from kd_jax.training import build, jobs
from kd_jax.training import train as train_lib

_TOO_MANY_STEPS = 2**31


class Context(NamedTuple):
  """What the trainings of a run share.

  Attributes:
    dataset: on the device, or of several on the host.
    make_programs: `build.make_programs`, each key compiled once in a run.
    load: a data set by its name.
  """

  dataset: data.Dataset
  make_programs: Callable[[FrozenConfigDict], build.Programs]
  load: Callable[[str], data.Dataset]


def make(config: ConfigDict, load: Callable[[str], data.Dataset]) -> Context:
  """Returns the context of a run; `load` gives a data set by its name."""
  return Context(
    load_data(config, load), functools.cache(build.make_programs), load
  )


def on_transfer_set(context: Context, name: str) -> Context:
  """Returns a context whose students learn on other images.

  Args:
    context: of the run.
    name: one that `data.transfer_set` knows; '' for the training split itself.
  Raises:
    DataError: if its images are not of the same kind.
  """
  if not name:
    return context
  if data.is_on_disk(context.dataset.train):
    raise errors.UserError(
      f'config.train.transfer_set={name!r}: the training images of '
      f'{context.dataset.name} are left on disk, and not replaced; raise '
      'config.data.memory_gib'
    )
  train = data.transfer_set(name, context.dataset, context.load)
  return context._replace(
    dataset=dataclasses.replace(context.dataset, train=_put(train))
  )


def _put(split: data.Split) -> data.Split:
  """Puts a split on the device; on several, each part of it when it is due."""
  put = np.asarray if mesh.is_used() else jnp.asarray
  return data.Split(put(split.images), put(split.labels))


def load_data(
  config: ConfigDict, load: Callable[[str], data.Dataset] = data.load
) -> data.Dataset:
  """Returns the config's part of its data set, on the device if there is one.

  Training images that are too large for memory stay on disk.
  """
  dataset = load(config.data.name)

  train, test = dataset.train, dataset.test
  if config.data.holdout_examples:
    kept = len(train.labels) - config.data.holdout_examples
    if kept <= 0:
      raise errors.UserError(
        f'config.data.holdout_examples={config.data.holdout_examples}: '
        f'{dataset.name} has {len(train.labels)} in all'
      )
    test = data.Split(train.images[kept:], train.labels[kept:])
    train = _first(train, kept)

  def part(split: data.Split, field: str) -> data.Split:
    count = config.data[field] or len(split.labels)
    if count > len(split.labels):
      raise errors.UserError(
        f'config.data.{field}={count}: {dataset.name} has {len(split.labels)}'
      )
    split = _first(split, count)
    return split if data.is_on_disk(split) else _put(split)

  return dataclasses.replace(
    dataset,
    train=part(train, 'train_examples'),
    test=part(test, 'test_examples'),
  )


def _first(split: data.Split, count: int) -> data.Split:
  images = (
    split.images.part(0, count)
    if data.is_on_disk(split)
    else split.images[:count]
  )
  return data.Split(images, split.labels[:count])


def used_examples(train: ConfigDict, dataset: data.Dataset) -> np.ndarray:
  """Returns indices [M] of the training examples that a train section uses."""
  labels = np.asarray(dataset.train.labels)
  kept = len(labels) - num_held_out(train, dataset)
  return data.find_subset(train.subset)(labels[:kept])


def num_held_out(train: ConfigDict, dataset: data.Dataset) -> int:
  """Returns how many of the training split, its last ones, are not used."""
  num_examples = len(dataset.train.labels)
  return num_examples - round(num_examples * (1 - train.holdout_fraction))


class _Plan(NamedTuple):
  """What a training sees: see `jobs.Job`."""

  examples: np.ndarray | None
  phases: list[train_lib.Phase]


def _plan(train: ConfigDict, dataset: data.Dataset) -> _Plan:
  examples = used_examples(train, dataset)
  # All up to the held-out part are a mask on the arrays, and no copy of them.
  kept = len(dataset.train.labels) - num_held_out(train, dataset)
  masked = np.array_equal(examples, np.arange(kept))
  used = (
    np.arange(len(dataset.train.labels)) < kept
    if masked
    else np.ones(len(examples), bool)
  )
  phases = train_lib.make_phases(used, epochs=train.epochs, folds=train.folds)
  return _Plan(None if masked else examples, phases)


def check_training(
  dataset: data.Dataset, model: ConfigDict, train: ConfigDict, section: str
) -> None:
  """Checks how a network is to be trained against the data.

  Args:
    dataset: it learns.
    model: of the network.
    train: the training.
    section: its name in the config.
  Raises:
    DataError: if there is no such subset.
    UserError: if batches and data do not go together.
  """
  phases = _plan(train, dataset).phases
  _check_steps(phases, train, section)
  if not train.drop_remainder and build.has_batch_norm(
    model, *kind_of_data(dataset)
  ):
    _refuse_padding(phases, train.batch_size, section)
  devices = jax.device_count()
  if (
    data.is_on_disk(dataset.train)
    and processes.count() > 1
    and train.batch_size % devices
  ):
    raise errors.UserError(
      f'config.{section}.batch_size={train.batch_size}: images that several '
      'processes read from disk are shared out evenly; expected a multiple of '
      f'their {devices} devices'
    )


def make_job(
  config: ConfigDict,
  context: Context,
  *,
  label: str,
  model: ConfigDict,
  train: ConfigDict,
  optim: ConfigDict,
  distill: ConfigDict,
  scaling: str,
  seeds: tuple[int, ...],
  folder: pathlib.Path,
  identity: dict[str, Any],
  live_teacher: bool = False,
) -> jobs.Job:
  dataset = context.dataset
  check_training(
    dataset, model, train, 'teacher.train' if label == 'teacher' else 'train'
  )
  examples, phases = _plan(train, dataset)
  key = build.programs_key(
    config,
    model=model,
    train=train,
    optim=optim,
    distill=distill,
    scaling=scaling,
    num_classes=dataset.num_classes,
    image_shape=dataset.train.images.shape[1:],
    total_steps=train_lib.num_steps(
      phases, train.batch_size, drop_remainder=train.drop_remainder
    ),
    num_seeds=len(seeds) if len(seeds) > 1 else None,
    live_teacher=live_teacher,
  )
  return jobs.Job(
    label=label,
    programs=context.make_programs(key),
    examples=examples,
    phases=phases,
    carry_optimizer=train.carry_optimizer,
    settings=functools.partial(build.settings, optim, distill),
    seeds=seeds,
    attacked_examples=config.eval.attacked_examples,
    bias_classes=() if label == 'teacher' else config.eval.bias_classes,
    num_held_out=num_held_out(train, dataset),
    folder=folder,
    identity=identity,
  )


def _check_steps(
  phases: list[train_lib.Phase], train: ConfigDict, section: str
) -> None:
  """Refuses fits without a step, and more steps than an optimizer counts."""
  total = 0
  for phase in phases:
    _, steps = train_lib.epoch_size(
      phase, train.batch_size, train.drop_remainder
    )
    total += phase.epochs * steps
    if not steps:
      raise errors.UserError(
        f'config.{section}: of {int(phase.subset.sum())} examples there is no '
        f'step to train on, with batch_size={train.batch_size}, '
        f'drop_remainder={train.drop_remainder}, folds={train.folds}, '
        f'holdout_fraction={train.holdout_fraction:g} and '
        f'subset={train.subset!r}'
      )
  if total >= _TOO_MANY_STEPS:
    raise errors.UserError(
      f'config.{section}: {total:,} steps are more than an optimizer counts '
      f'({_TOO_MANY_STEPS - 1:,})'
    )


def _refuse_padding(
  phases: list[train_lib.Phase], batch_size: int, section: str
) -> None:
  """A batch that is padded would have the padding in its statistics."""
  if any(int(phase.subset.sum()) % batch_size for phase in phases):
    raise errors.UserError(
      f'config.{section}.batch_size does not divide the number of examples, '
      'and batch norm needs whole batches: choose another, or set '
      f'config.{section}.drop_remainder=true'
    )


def identity(
  config: ConfigDict, dataset: data.Dataset, **fields: Any
) -> dict[str, Any]:
  """Returns what determines a network: its data and the fields given."""
  # Scalings are named where they matter; where images lie does not.
  other = ('scaling', 'memory_gib')
  own = {key: v for key, v in config.data.items() if key not in other}
  return build.plain(
    ConfigDict({'data': own, 'data_digest': dataset.digest, **fields})
  )


def kind_of_data(dataset: data.Dataset) -> tuple[int, tuple[int, ...]]:
  """Returns what a network depends on: how many classes, an image's shape."""
  return dataset.num_classes, dataset.train.images.shape[1:]
