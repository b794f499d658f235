"""The network behind a teacher, whose outputs are computed once and stored."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.data import augmentation as augment
from kd_jax.evaluation import inference, predictors
from kd_jax.runtime import files
from kd_jax.teachers import (
  compact_arrays,
  logit_checks,
  output_store,
  sharded_logits,
)
from kd_jax.teachers.logit_checks import Logits
from kd_jax.teachers.user_logits import UNLABELED_SPLIT
from kd_jax.training import checkpoint

PyTree = Any


class TeacherNetwork:
  """A network whose outputs are stored, each computed once.

  Attributes:
    config: the run's config.
    variables: the network's variables.
    dataset: the images that the network is shown.
    folder: where the network's outputs are stored.
  """

  def __init__(
    self,
    config: ConfigDict,
    dataset: data.Dataset,
    variables: PyTree,
    folder: pathlib.Path,
    *,
    transfer_set: str = '',
    labeled: 'TeacherNetwork | None' = None,
  ):
    """Describes a network; nothing is computed yet.

    Args:
      config: the run's config.
      dataset: the images that the network is shown.
      variables: the network's variables.
      folder: where its outputs are stored.
      transfer_set: the name of the images that replace or join the training
        split, or ''.
      labeled: if images without labels have joined it, the network that is
        shown the others.
    """
    self.variables = variables
    self.dataset = dataset
    self.config = config
    self.folder = folder
    self._transfer_set = transfer_set
    self._labeled = labeled
    self._logits: dict[str, Logits] = {}
    self._view_stores: dict[str, output_store.ViewOutputs] = {}

  @functools.cached_property
  def _identity(self) -> dict[str, Any]:
    """The identity of the outputs, without the scaling of the inputs."""
    # The transfer set changes what the network is shown, not the network.
    identity = config_lib.outputs_identity(
      self.config, self.dataset, checkpoint.tree_digest(self.variables)
    )
    if self._transfer_set:
      identity['transfer_set'] = self._transfer_set
    return identity

  def use_logits(self, by_scaling: Mapping[str, Logits]) -> None:
    """Takes logits by split, by input scaling; they are not computed then."""
    self._logits.update(by_scaling)

  def logits(self, scaling: str) -> Logits:
    """Returns logits [N, K] by split, of images in a scaling."""
    if scaling not in self._logits:
      self._logits[scaling] = self._load_logits(scaling)
    return self._logits[scaling]

  def view_store(self, augmentation: str) -> output_store.ViewOutputs:
    """Returns the store of logits for the views of an augmentation."""
    if augmentation not in self._view_stores:
      self._view_stores[augmentation] = self._open_view_store(augmentation)
    return self._view_stores[augmentation]

  def features(
    self,
    layers: tuple[str, ...],
    bits: int,
    name: str,
    example_indices: np.ndarray,
  ) -> dict[str, np.ndarray]:
    """Returns features [M, ...] by layer, for some training examples.

    Args:
      layers: names of layers.
      bits: 0 for features as float16; otherwise the bits of whole numbers that
        they are rounded to.
      name: the name of the examples, see `plan.name_of_examples`.
      example_indices: int [M].
    """
    scaling = self.config.teacher.outputs_scaling
    kind = f'features_{bits}_bits' if bits else 'features'
    with files.locked(self.folder, wait=True):
      stored = output_store.load_or_compute(
        self._store(kind, scaling, name, *layers),
        self._identity
        | {
          'scaling': scaling,
          'subset': name,
          'examples': len(example_indices),
          'layers': list(layers),
          'bits': bits,
        },
        lambda: self._compute_features(layers, bits, example_indices),
      )
    return {layer: stored[layer] for layer in layers}

  def on_transfer_set(
    self, name: str, dataset: data.Dataset
  ) -> 'TeacherNetwork':
    """Returns the network, shown other or more training images."""
    return TeacherNetwork(
      self.config,
      dataset,
      self.variables,
      self.folder,
      transfer_set=name,
      labeled=self if dataset.unlabeled else None,
    )

  def _store(self, *parts: str) -> pathlib.Path:
    """Returns the folder of a store; `parts` say what is in it."""
    transfer_set = [self._transfer_set] if self._transfer_set else []
    return self.folder / '-'.join([*parts, *transfer_set])

  def _predict(self, scaling: str) -> Callable[[Any], jax.Array]:
    predict = predictors.make_predict(
      self.config.teacher.model,
      self.dataset.num_classes,
      scaling,
      self.config.eval.batch_size,
    )
    return functools.partial(predict, self.variables)

  def _load_logits(self, scaling: str) -> Logits:
    """Returns logits by split; those of a split on disk are on disk, too."""
    dataset = self.dataset
    splits = {'train': dataset.train, 'test': dataset.test}
    identity = self._identity | {'scaling': scaling}
    on_disk: Logits = {}
    if data.is_on_disk(dataset.train):
      images = splits.pop('train').images
      predict = self._predict(scaling)
      on_disk['train'] = sharded_logits.ShardedLogits(
        self._store('outputs', scaling, 'train'),
        identity,
        lambda start, stop: logit_checks.as_logits(
          np.asarray(predict(images.part(start, stop))),
          f"the teacher's outputs for training examples {start} to {stop - 1}",
        ),
        shape=(len(images), dataset.num_classes),
      )

    if self._labeled is not None and not on_disk:
      return self._add_unlabeled(self._labeled.logits(scaling), scaling)

    def compute():
      return {
        name: self._compute_logits(scaling, split.images, f'{name} split')
        for name, split in splits.items()
      }

    stored = output_store.load_or_compute(
      self._store('outputs', scaling), identity, compute
    )
    return on_disk | stored

  def _add_unlabeled(self, logits: Logits, scaling: str) -> Logits:
    """Returns logits by split, with those of the images without labels."""

    def compute():
      images = self.dataset.train.images[self.dataset.num_labeled :]
      return {
        UNLABELED_SPLIT: self._compute_logits(
          scaling, images, 'images without labels'
        )
      }

    stored = output_store.load_or_compute(
      self._store('outputs', scaling),
      self._identity | {'scaling': scaling},
      compute,
    )
    return join_unlabeled(logits | stored)

  def _compute_logits(self, scaling: str, images: Any, name: str) -> np.ndarray:
    """Returns checked logits [N, K]; `name` says of which images."""
    return logit_checks.as_logits(
      np.asarray(self._predict(scaling)(images)),
      f"the teacher's outputs for the {name}",
    )

  def _open_view_store(self, augmentation: str) -> output_store.ViewOutputs:
    scaling = self.config.teacher.outputs_scaling
    views = augment.AUGMENTATIONS[augmentation]
    assert views is not None
    return output_store.ViewOutputs(
      self._store('outputs', scaling, augmentation),
      self._identity | {'scaling': scaling, 'augmentation': augmentation},
      inference.make_predict_views(
        self._predict(scaling),
        views.apply,
        self.dataset.train.images,
        batch_size=self.config.eval.batch_size,
      ),
      shape=(
        len(self.dataset.train.labels),
        views.num_views,
        self.dataset.num_classes,
      ),
    )

  def _compute_features(
    self, layers: tuple[str, ...], bits: int, example_indices: np.ndarray
  ) -> dict[str, np.ndarray]:
    """Returns features as they are stored: see `features`."""
    batch_size = self.config.eval.batch_size
    predict = predictors.make_features(
      self.config.teacher.model,
      self.dataset.num_classes,
      self.config.teacher.outputs_scaling,
      batch_size,
      layers,
    )
    predict_features = inference.make_predict_features(
      functools.partial(predict, self.variables),
      self.dataset.train.images,
      batch_size=min(batch_size, len(example_indices)),
    )
    stored = {}
    for layer, array in predict_features(example_indices).items():
      if bits:
        levels, largest = compact_arrays.to_integers(array, bits)
        stored[layer], stored[f'{layer}-largest'] = levels, largest
      else:
        stored[layer] = compact_arrays.half_floats(array)
    return stored


def join_unlabeled(logits: Logits) -> Logits:
  """Returns logits whose training split ends with those of UNLABELED_SPLIT."""
  joined = dict(logits)
  parts = [np.asarray(joined[name]) for name in ('train', UNLABELED_SPLIT)]
  del joined[UNLABELED_SPLIT]
  return joined | {'train': np.concatenate(parts)}
