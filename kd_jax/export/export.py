"""Writes a student of a run as a folder that needs JAX alone.

  python -m kd_jax.export RUN_DIR
  python -m kd_jax.export RUN_DIR --row=h300 --seed=1 --output=FOLDER
  python -m kd_jax.export RUN_DIR --onnx

The folder holds the network as portable StableHLO (`jax.export`) for cpu, cuda
and tpu, with its weights, the scaling of its inputs and the softmax inside:
images as stored go in, probabilities come out, for any number of images. Beside
it is a manifest. What stands there of its accuracy and latency was measured on
what was loaded back. With --onnx the folder holds the network for ONNX Runtime
and its like, too; `make onnx` installs what that needs.

`kd_jax/artifact.py` loads it, `python -m kd_jax.predict` classifies files.
"""

import argparse
import contextlib
import functools
import hashlib
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from kd_jax import data, models
from kd_jax.benchmark import timing
from kd_jax.data import preprocessing
from kd_jax.evaluation import evaluate
from kd_jax.export import artifact, onnx
from kd_jax.runtime import compilation_cache, environment, errors, files
from kd_jax.training import build, context, jobs

PLATFORMS = ('cpu', 'cuda', 'tpu')
# For latency: one image, and many.
_BATCH_SIZES = (1, 100)
_FILES = {'loaded': artifact.NETWORK, 'onnx': onnx.NETWORK}
_AGREEMENT = 1e-3  # of probabilities with the student's, on average
_BUDGET_S = 1.0  # of timed calls, for each of the two at each batch size


def export(
  run_dir: pathlib.Path,
  *,
  row: str | None = None,
  seed: int | None = None,
  output: pathlib.Path | None = None,
  data_dir: str | None = None,
  with_onnx: bool = False,
) -> tuple[pathlib.Path, dict[str, Any]]:
  """Writes a student, loads it back and measures that.

  Args:
    run_dir: of a run with students.
    row: which; the first if None.
    seed: of it; the first that was trained if None.
    output: the folder; in the run's folder if None.
    data_dir: as in `data.load`.
    with_onnx: whether to write it as ONNX, too.
  Returns:
    The folder, and the manifest.
  Raises:
    UserError: if there is no such student, it cannot be written (as ONNX), or
      what is loaded back computes something else.
  """
  config, student = _find(run_dir, row, seed)
  if with_onnx:
    onnx.check(config.student.quantization)
  row, seed = student['row'], student['seed']
  folder = run_dir / 'students' / student.get('same_as', row) / f'seed-{seed}'
  image_size = config.data.get('image_size', 0)  # Older runs say nothing.
  dataset = context.load_data(
    config,
    lambda name: data.load(name, data_dir=data_dir, image_size=image_size),
  )
  network, variables = _restore(config, folder, dataset)
  forward = make_forward(
    network, variables, preprocessing.apart(config.data.scaling)
  )
  image_shape = dataset.train.images.shape[1:]
  with _naming_own(
    config.student.kind,
    'cannot be exported for batches of any size',
    'where it needs that of a batch, it is x.shape[0], not len(x)',
  ):
    contents = {artifact.NETWORK: serialize(forward, image_shape)}
  if with_onnx:
    plain = make_forward(
      onnx.convertible(network),
      variables,
      preprocessing.affine(config.data.scaling, image_shape),
    )
    with _naming_own(
      config.student.kind,
      'cannot be written as ONNX by jax2onnx',
      'export it without --onnx',
    ):
      contents[onnx.NETWORK] = onnx.convert(plain, image_shape)
  output = output or run_dir / 'export' / f'{row}-seed-{seed}'
  for name, content in contents.items():
    files.write_bytes(output / name, content)
  for name in set(_FILES.values()) - set(contents):  # Of an earlier export.
    (output / name).unlink(missing_ok=True)
  manifest = {
    'row': row,
    'seed': seed,
    'student': build.plain(config.student),
    'weights': student['weights'],
    'image_shape': list(image_shape),
    'resized': image_size > 0,
    'classes': list(
      dataset.class_names or map(str, range(dataset.num_classes))
    ),
    'data': dataset.name,
    'scaling': config.data.scaling,
    'platforms': list(PLATFORMS),
    'bytes': {name: len(content) for name, content in contents.items()},
    'sha256': {
      name: hashlib.sha256(content).hexdigest()
      for name, content in contents.items()
    },
  }
  files.write_json(output / artifact.MANIFEST, manifest)
  manifest |= _measure(
    {'live': lambda: jax.jit(forward)}
    | {'loaded': lambda: artifact.load(output).predict}
    | ({'onnx': lambda: onnx.load(output)} if with_onnx else {}),
    dataset,
    config.eval.batch_size,
  )
  _check_agreement(output, manifest['measured'])
  manifest['environment'] = environment.describe()
  files.write_json(output / artifact.MANIFEST, manifest)
  return output, manifest


@contextlib.contextmanager
def _naming_own(kind: str, what: str, mend: str) -> Iterator[None]:
  """Has what a network of the user's own breaks be told in a line."""
  try:
    yield
  except Exception as error:  # Of a network of the user's, any kind.
    if not models.user.is_function_name(kind):
      raise
    raise errors.UserError(f'{kind} {what} ({error}): {mend}') from error


def _check_agreement(folder: pathlib.Path, measured: dict[str, Any]) -> None:
  """Leaves no file that computes something else than the student."""
  for name, own in measured.items():
    # NaN is no agreement. Where numbers are of few bits, some round otherwise.
    if not own['mean_difference'] < _AGREEMENT:
      for file in (artifact.MANIFEST, *_FILES.values()):
        (folder / file).unlink(missing_ok=True)
      raise errors.UserError(
        f'{_FILES[name]} computes something else than the student: its '
        f'probabilities differ by {own["mean_difference"]:.2g} on average; '
        'nothing was kept'
      )


def _find(
  run_dir: pathlib.Path, row: str | None, seed: int | None
) -> tuple[ConfigDict, dict[str, Any]]:
  """Returns the config of a row, closed, and the record of a student."""
  record = files.read_json(run_dir / 'run.json')
  if record is None or not record.get('students'):
    raise errors.UserError(
      f'{run_dir} holds no run with students: expected a folder that launch.py '
      'wrote, such as runs/NAME'
    )
  known = [(student['row'], student['seed']) for student in record['students']]
  for student in record['students']:
    if row in (None, student['row']) and seed in (None, student['seed']):
      config = ConfigDict(_as_tuples(record['config']))
      return build.close_row(config, student['row']), student
  raise errors.UserError(
    f'{run_dir} holds no student --row={row} --seed={seed}; there are: '
    + ', '.join(f'{name} {number}' for name, number in known)
  )


def _as_tuples(value: Any) -> Any:
  """A config as it was before JSON made lists of its tuples."""
  if isinstance(value, dict):
    return {key: _as_tuples(own) for key, own in value.items()}
  return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _restore(
  config: ConfigDict, folder: pathlib.Path, dataset: data.Dataset
) -> tuple[nn.Module, dict[str, Any]]:
  """Returns a student as it is in use, and its variables."""
  images = dataset.train.images
  variables = jobs.restore(
    folder, build.model(config.student, dataset.num_classes), images
  )
  if variables is not None and build.is_quantized(config.student):
    variables = jobs.restore_packed(
      folder, build.pack(config.student, variables)
    )
  if variables is None:
    raise errors.UserError(f'{folder} holds no sound weights')
  return build.deploy(
    config.student, dataset.num_classes, images.shape[1:], variables
  )


def make_forward(
  network: nn.Module,
  variables: dict[str, Any],
  preprocess: Callable[[jax.Array], jax.Array],
) -> Callable[[jax.Array], jax.Array]:
  """Returns images as stored -> probabilities."""
  apply = build.apply_fn(network)

  def forward(images):
    logits, *_ = apply(variables, preprocess(images), train=False, key=None)
    return jax.nn.softmax(logits)

  size = getattr(network, 'cpu_batch', None)
  return forward if size is None else _in_parts(forward, size)


def _in_parts(
  forward: Callable[[jax.Array], jax.Array], size: int
) -> Callable[[jax.Array], jax.Array]:
  """Returns what computes the same, on a CPU of so many images at a time.

  Where the number of images is a symbol, too.
  """

  def loop(images):
    count = images.shape[0]
    whole = count // size
    rest = forward(images[whole * size :])
    # A slice may not be larger than what it is of, even where none is taken.
    padding = [(0, size), *[(0, 0)] * (images.ndim - 1)]
    padded = jnp.pad(images, padding)
    outputs = jnp.zeros((count + size, *rest.shape[1:]), rest.dtype)

    def compute_part(i, outputs):
      part = forward(lax.dynamic_slice_in_dim(padded, i * size, size))
      return lax.dynamic_update_slice_in_dim(outputs, part, i * size, axis=0)

    outputs = lax.fori_loop(0, whole, compute_part, outputs)
    outputs = lax.dynamic_update_slice_in_dim(
      outputs, rest, whole * size, axis=0
    )
    return outputs[:count]

  def in_parts(images):
    count = images.shape[0]
    if isinstance(count, int) and count <= size:
      return forward(images)
    return lax.platform_dependent(images, cpu=loop, default=forward)

  return in_parts


def serialize(forward, image_shape: tuple[int, ...]) -> bytes:
  """Returns what `make_forward` gave as StableHLO, for any number of images."""
  (batch,) = jax.export.symbolic_shape('batch')
  images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)
  exported = jax.export.export(jax.jit(forward), platforms=PLATFORMS)(images)
  return bytes(exported.serialize())


def _measure(
  makers: Mapping[str, Callable[[], Callable]],
  dataset: data.Dataset,
  batch_size: int,
) -> dict[str, Any]:
  """Returns what networks are worth that were loaded back.

  Args:
    makers: of each network's prediction; the first is what the others are held
      against.
    dataset: whose test split they predict.
    batch_size: of that.
  """
  images, labels = dataset.test.images, dataset.test.labels
  networks, results = {}, {}
  for name, make in makers.items():
    start = time.perf_counter()
    networks[name] = make()
    results[name] = {'load_s': time.perf_counter() - start}
  outputs = {
    name: _predict(network, images, batch_size)
    for name, network in networks.items()
  }
  reference = next(iter(makers))
  for name, output in outputs.items():
    differences = jnp.abs(output - outputs[reference])
    results[name] |= {
      'test': evaluate.evaluate(jnp.log(output), labels),
      'mean_difference': float(differences.mean()),
      'largest_difference': float(differences.max()),
    }
  sizes = sorted({min(size, len(images)) for size in _BATCH_SIZES})
  latency = {str(size): _latency(networks, images[:size]) for size in sizes}
  del results[reference]
  return {'measured': results, 'latency': latency}


def _predict(predict, images: jax.Array, batch_size: int) -> jax.Array:
  """Returns probabilities [N, K] of a split."""
  starts = range(0, len(images), batch_size)
  return jnp.concatenate(
    [jnp.asarray(predict(images[i : i + batch_size])) for i in starts]
  )


def _latency(
  networks: Mapping[str, Callable], images: jax.Array
) -> dict[str, Any]:
  """Returns seconds of a call, and of each over the first, round by round."""
  seconds = timing.interleave(
    {name: functools.partial(net, images) for name, net in networks.items()},
    budget_s=_BUDGET_S,
  )
  reference = next(iter(networks))
  return {
    name: {
      'call_s': timing.quartiles(own),
      f'over_{reference}': timing.quartiles(np.divide(own, seconds[reference])),
    }
    for name, own in seconds.items()
  }


def main() -> None:
  """The command line; see the module's docstring."""
  parser = argparse.ArgumentParser(
    prog='python -m kd_jax.export',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('run_dir', type=pathlib.Path, help='folder of a run')
  parser.add_argument('--row', help='which student; the first by default')
  parser.add_argument('--seed', type=int, help='of it; the first by default')
  parser.add_argument(
    '--output',
    type=pathlib.Path,
    help='folder to write; by default RUN_DIR/export/ROW-seed-SEED',
  )
  parser.add_argument(
    '--data_dir', help='folder of prepared data; a per-user cache by default'
  )
  parser.add_argument(
    '--onnx',
    dest='with_onnx',
    action='store_true',
    help='write it as ONNX, too; `make onnx` installs what that needs',
  )
  args = vars(parser.parse_args())
  compilation_cache.enable()
  try:
    folder, manifest = export(args.pop('run_dir'), **args)
  except (errors.UserError, OSError) as error:
    sys.exit(f'error: {error}')
  for name, own in manifest['measured'].items():
    latency = ', '.join(
      f'{1e3 * networks[name]["call_s"]["median"]:.3f} ms for {size}'
      for size, networks in manifest['latency'].items()
    )
    size = manifest['bytes'][_FILES[name]]
    print(
      f'{folder / _FILES[name]}: {size / 1e6:.1f} MB, loaded in '
      f'{own["load_s"]:.2f} s; test accuracy '
      f'{100 * own["test"]["accuracy"]:.2f} %; {latency}'
    )
