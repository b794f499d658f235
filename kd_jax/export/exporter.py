"""Export of a run's student as a folder that needs only JAX to run.

`python -m kd_jax.export` is the command line, and kd_jax/export/__main__.py
describes the folder.
"""

import contextlib
import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data, models
from kd_jax.data import preprocessing
from kd_jax.export import (
  artifact,
  forward,
  measurement,
  onnx,
  run_datasets,
  run_student,
  weights,
)
from kd_jax.models import from_config
from kd_jax.report import fields
from kd_jax.runtime import environment, errors, files, json_records
from kd_jax.training import training_folder

# The files of the networks, by the networks' names in the manifest.
FILE_NAMES = {'loaded': artifact.NETWORK, 'onnx': onnx.NETWORK}
_WEIGHTS = (weights.WEIGHTS, weights.TORCHVISION)
# The largest mean difference between the probabilities of a written network
# and of the student.
_TOLERANCE = 1e-3


def export(  # noqa: PLR0913 - the flags of the command line
  run_dir: pathlib.Path,
  *,
  row: str | None = None,
  seed: int | None = None,
  output: pathlib.Path | None = None,
  data_dir: str | None = None,
  with_onnx: bool = False,
  with_weights: bool = False,
  allow_code: bool = False,
  load: Callable[[], data.Dataset] | None = None,
) -> tuple[pathlib.Path, dict[str, Any]]:
  """Writes a student to a folder, loads it back and measures it.

  If several students of the run match `row` and `seed`, exports the first.

  Args:
    run_dir: the folder of a run with students.
    row: the student's row; None for any row.
    seed: the student's seed; None for any seed.
    output: the folder to write; None for RUN_DIR/export/ROW-seed-SEED.
    data_dir: the folder of prepared data, see `data.load`.
    with_onnx: whether to write the student as ONNX, too.
    with_weights: whether to write its weights as .safetensors, too.
    allow_code: whether a module that run.json names may be imported.
    load: returns the data of the run; None to load what its config names.
  Returns:
    The folder and its manifest.
  Raises:
    UserError: if no student of the run matches, the student cannot be written,
      or a loaded network computes something else than the student.
  """
  record, config, student, folder = run_student.find(
    run_dir, row, seed, allow_code=allow_code
  )
  if with_onnx:
    onnx.check_supported(config.student.quantization)
  run_data = run_datasets.find(
    config,
    folder,
    record.get('data'),
    load or functools.partial(run_datasets.load, config, data_dir),
  )
  image_shape = run_data.task.image_shape
  network, variables = _restore(config, folder, run_data.task)
  forward_fn = forward.make_forward(
    network, variables, preprocessing.unfused(config.data.scaling)
  )
  contents = {artifact.NETWORK: _to_stablehlo(forward_fn, config, image_shape)}
  if with_onnx:
    contents[onnx.NETWORK] = _to_onnx(network, variables, config, image_shape)
  if with_weights:
    contents |= _weight_files(config, folder, run_data)
  output = output or (
    run_dir / 'export' / f'{student["row"]}-seed-{student["seed"]}'
  )
  manifest = _describe(config, student, run_data, contents)
  _write(output, contents, manifest)
  manifest |= measurement.measure(
    _loaders(forward_fn, output, with_onnx=with_onnx),
    run_data.images,
    run_data.labels,
    config.eval.batch_size,
  )
  _check_agreement(output, manifest['measured'])
  manifest['environment'] = environment.describe()
  json_records.write(output / artifact.MANIFEST, manifest)
  return output, manifest


def _restore(
  config: ConfigDict, folder: pathlib.Path, task: data.ImageTask
) -> tuple[nn.Module, dict[str, Any]]:
  """Returns a student's network in deployed form, and its variables."""
  variables = training_folder.restore_deployed(folder, config.student, task)
  return from_config.deploy(config.student, task, variables)


# --- The files of the folder. ---


def _to_stablehlo(
  forward_fn: forward.ForwardFn,
  config: ConfigDict,
  image_shape: tuple[int, ...],
) -> bytes:
  """Returns the content of the StableHLO file."""
  with _explain_user_network_errors(
    config.student.kind,
    'cannot be exported for batches of any size',
    'use x.shape[0], not len(x), for the batch size',
  ):
    return forward.serialize(forward_fn, image_shape)


def _to_onnx(
  network: nn.Module,
  variables: dict[str, Any],
  config: ConfigDict,
  image_shape: tuple[int, ...],
) -> bytes:
  """Returns the content of the ONNX file."""
  forward_fn = forward.make_forward(
    onnx.with_flax_convolutions(network),
    variables,
    preprocessing.affine(config.data.scaling, image_shape),
  )
  with _explain_user_network_errors(
    config.student.kind,
    'cannot be written as ONNX by jax2onnx',
    'export it without --onnx',
  ):
    return onnx.convert(forward_fn, image_shape)


def _weight_files(
  config: ConfigDict, folder: pathlib.Path, run_data: run_datasets.RunData
) -> dict[str, bytes]:
  """Returns the contents of the files of weights by name."""
  return weights.file_contents(
    config.student,
    training_folder.restore_trained(folder, config.student, run_data.task),
    {'scaling': config.data.scaling, 'classes': list(run_data.classes)},
  )


@contextlib.contextmanager
def _explain_user_network_errors(
  kind: str, failure: str, fix: str
) -> Iterator[None]:
  """Turns an error that a network of the user causes into a UserError.

  Args:
    kind: the `kind` of the student's config section.
    failure: what the network cannot do.
    fix: what the user can do.
  """
  try:
    yield
  except Exception as error:  # The user's code may raise any exception.
    if not models.user.is_function_name(kind):
      raise
    raise errors.UserError(f'{kind} {failure} ({error}): {fix}') from error


def _describe(
  config: ConfigDict,
  student: Mapping[str, Any],
  run_data: run_datasets.RunData,
  contents: Mapping[str, bytes],
) -> dict[str, Any]:
  """Returns the manifest of a student, without measurements.

  Args:
    config: the closed config of the student's row.
    student: the student's entry in run.json.
    run_data: the data of the run.
    contents: the files' contents by name.
  """
  return {
    'row': student['row'],
    'seed': student['seed'],
    'student': config_lib.to_json(config.student),
    'weights': student['weights'],
    'image_shape': list(run_data.task.image_shape),
    'resized': run_datasets.image_size(config) > 0,
    'classes': list(run_data.classes),
    'data': run_data.name,
    'data_digest': run_data.digest,
    # The images on which 'measured' was computed.
    'evaluated_on': (
      f'{len(run_data.images):,} images without labels'
      if run_data.labels is None
      else fields.evaluated_on(config.data)
    ),
    'scaling': config.data.scaling,
    'platforms': list(forward.PLATFORMS),
    'bytes': {name: len(content) for name, content in contents.items()},
    'sha256': {
      name: hashlib.sha256(content).hexdigest()
      for name, content in contents.items()
    },
  }


def _write(
  folder: pathlib.Path,
  contents: Mapping[str, bytes],
  manifest: dict[str, Any],
) -> None:
  """Writes the files and the manifest, and removes files of older exports."""
  for name, content in contents.items():
    files.write_bytes(folder / name, content)
  for name in {*FILE_NAMES.values(), *_WEIGHTS} - set(contents):
    (folder / name).unlink(missing_ok=True)
  json_records.write(folder / artifact.MANIFEST, manifest)


# --- The networks, measured. ---


def _loaders(
  forward_fn: forward.ForwardFn, folder: pathlib.Path, *, with_onnx: bool
) -> dict[str, Callable[[], measurement.NetworkFn]]:
  """Returns functions that load the student and the networks of the folder."""
  loaders: dict[str, Callable[[], measurement.NetworkFn]] = {
    'live': lambda: jax.jit(forward_fn),
    'loaded': lambda: artifact.load(folder).predict,
  }
  if with_onnx:
    loaders['onnx'] = lambda: onnx.load(folder)
  return loaders


def _check_agreement(
  folder: pathlib.Path, measured: Mapping[str, dict[str, Any]]
) -> None:
  """Removes the written files if a network disagrees with the student.

  The check uses the mean difference, not the largest one, because a network of
  few bits may round some values differently.

  Args:
    folder: the folder with the written files.
    measured: 'measured' of `measurement.measure`.
  Raises:
    UserError: if the probabilities of a network differ from the student's.
  """
  for name, result in measured.items():
    difference = result['mean_difference']
    if difference < _TOLERANCE:  # False for NaN.
      continue
    for file_name in (artifact.MANIFEST, *FILE_NAMES.values(), *_WEIGHTS):
      (folder / file_name).unlink(missing_ok=True)
    raise errors.UserError(
      f'{FILE_NAMES[name]} computes something else than the student: its '
      f'probabilities differ by {difference:.2g} on average, expected less '
      f'than {_TOLERANCE:g}; the exported files were removed from {folder}'
    )
