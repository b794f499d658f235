"""A trained student, as `distill` returns it."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from kd_jax import data
from kd_jax.api import argument_names, array_data, scalars
from kd_jax.data import selection
from kd_jax.evaluation import inference, predictors
from kd_jax.models import apply, costs, from_config
from kd_jax.runtime import call_logs

PyTree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Student:
  """A trained student.

  Attributes:
    metrics: metrics by name, of the images that `evaluated_on` names, none of
      which the student trained on. Without labels, the metrics that compare the
      student with the teacher.
    evaluated_on: the images that `metrics` are of.
    variables: {'params': ..., 'batch_stats': ...} of the network.
    history: a record of each epoch, as in metrics.jsonl.
    record: the content of run.json: config, environment, warnings, times.
    workdir: the folder of the run; removed with the student unless it was
      given.
  """

  metrics: dict[str, float]
  evaluated_on: str
  variables: PyTree
  history: list[dict[str, Any]]
  record: dict[str, Any]
  workdir: pathlib.Path
  _dataset: data.Dataset
  _config: ConfigDict
  _has_eval_labels: bool

  def __repr__(self) -> str:
    """Returns the metrics and the size, in a line."""
    shown = ('accuracy', 'teacher_agreement')
    metrics = ''.join(
      f'{name}={self.metrics[name]:.4f}, '
      for name in shown
      if name in self.metrics
    )
    parameters = costs.count_parameters(self.variables['params'])
    return (
      f'Student({metrics}evaluated_on={self.evaluated_on!r}, '
      f'parameters={parameters:,})'
    )

  @property
  def network(self) -> tuple[Callable[..., Any], PyTree]:
    """(apply, variables): the student as a network for `store_outputs`."""
    forward = apply.make_apply(
      from_config.make_module(self._config.student, self._dataset.num_classes)
    )

    def apply_fn(variables, images):
      return forward(variables, images, train=False, key=None)[:2]

    return apply_fn, self.variables

  def logits(self, images: Any) -> np.ndarray:
    """Returns the student's logits.

    Args:
      images: uint8 [N, H, W, C] or [N, H, W], as those it was trained on.
    Returns:
      float32 [N, K].
    """
    shape = self._dataset.task.image_shape
    images = array_data.check_images(images, image_shape=shape)
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
      The manifest: accuracy, on the images of `evaluated_on`, latency, sizes.
    """
    from kd_jax.export import exporter

    path = scalars.path('folder', folder)
    with call_logs.plain_lines(), argument_names.in_errors():
      _, manifest = exporter.export(
        self.workdir,
        output=path,
        with_onnx=onnx,
        allow_code=True,  # It is the code of this program.
        load=self._evaluated_dataset,
      )
    return manifest

  def _evaluated_dataset(self) -> data.Dataset:
    """Returns the data of the run; without labels, the test split has none."""
    dataset = selection.select(self._dataset, self._config.data)
    if self._has_eval_labels:
      return dataset
    no_labels = np.full(len(dataset.test.labels), data.NO_LABEL, np.int32)
    test = dataclasses.replace(dataset.test, labels=no_labels)
    return dataclasses.replace(dataset, test=test)
