"""Every kind of file that this project reads, with its reader.

A target writes sound files into a folder, and reads them as a command does. Its
result can be compared.
"""

import contextlib
import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from kd_jax import config as config_lib
from kd_jax import data, predict
from kd_jax.data import dataset
from kd_jax.data.builtin import array_cache
from kd_jax.data.user_data import survey, tfds_folder
from kd_jax.experiments import data_record, runner
from kd_jax.export import artifact, forward, run_datasets, run_student
from kd_jax.models import from_config
from kd_jax.report import error_plots, plots, run_report
from kd_jax.runtime import checked_cache, errors, json_records, run_records
from kd_jax.training import checkpoint, training_folder
from kd_jax.training.training_record import TrainingResult
from tests import helpers
from tests.data import tfds_toys, toys
from tests.fuzz import teacher_files
from tests.report import example_records


class Target(NamedTuple):
  """A kind of file.

  Attributes:
    write: writes sound files into a folder.
    read: reads the folder; raises an error of `refusals` if it refuses it.
    is_sense: whether a result can be right although the files were changed on
      purpose; raises an AssertionError that says why not.
    pattern: the files that are damaged.
    is_own: whether only this project writes the files, into folders that must
      be trusted (SECURITY.md). Nobody else makes checksums anew there.
    finds_damage: whether checksums let the reader find any flipped bit. A
      result must then equal that of the sound files.
  """

  write: Callable[[pathlib.Path], Any]
  read: Callable[[pathlib.Path], Any]
  is_sense: Callable[[Any], Any] = lambda result: None
  pattern: str = '**/*'
  is_own: bool = False
  finds_damage: bool = False


REFUSALS = (errors.UserError, artifact.ArtifactError)
_RNG = np.random.default_rng(0)

# --- Records of runs. ---


def _write_report(folder: pathlib.Path) -> None:
  record = example_records.run_record()
  json_records.write(folder / 'run.json', record)
  log = run_records.MetricsLog(folder / 'metrics.jsonl')
  for seed in range(2):
    for epoch in range(3):
      log.append(
        {
          'row': 'h50',
          'seed': seed,
          'epoch': epoch,
          'phase': 'fit',
          'time/train_s': 1.0,
          'train/loss': 0.5,
          'eval/accuracy': 0.9,
        }
      )
  np.savez(folder / error_plots.FILE, **example_records.mistakes())


def _report(folder: pathlib.Path, with_plots: bool = False) -> str:
  with contextlib.ExitStack() as stack:
    if not with_plots:
      no_plots = mock.patch.object(plots, 'write', lambda *_: {})
      stack.enter_context(no_plots)
    return run_report.write(folder)


def _read_log(folder: pathlib.Path) -> list[str]:
  log = run_records.MetricsLog(folder / 'metrics.jsonl')
  log.holds_epochs('h50', [0, 1], 3)
  return [repr(record) for record in log.read()]


# --- Run folders, for `launch.py` and for `python -m kd_jax.export`. ---


@functools.cache
def _config():
  fields = {'student.hidden': (4,), 'teacher.model.hidden': (4,)}
  return helpers.tiny_mnist(fields=fields)


_PREDICTED = [3, 1, 4, 1]


def _write_run(folder: pathlib.Path) -> None:
  config = _config()
  generated = data.load('generated')
  row = config_lib.close_row(config, 'h50')
  like = from_config.variables_like(row.student, generated.task)
  variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), like)
  entry = {
    'row': 'h50',
    'seed': 0,
    'weights': checkpoint.tree_digest(variables),
    'test': {'accuracy': 0.5},
  }
  training_folder.finish(
    TrainingResult(variables, entry, predicted_classes=np.asarray(_PREDICTED)),
    folder / 'students/h50/seed-0',
    {'data_digest': generated.digest},
  )
  json_records.write(
    folder / 'run.json',
    {
      'name': config.name,
      'status': 'complete',
      'config': config_lib.recorded(config),
      'students': [entry],
      'data': data_record.describe(generated),
    },
  )


def _find_student(folder: pathlib.Path) -> tuple:
  """Finds and restores a student as an export does."""
  record, config, entry, student = run_student.find(
    folder, None, None, allow_code=False
  )
  load = functools.partial(run_datasets.load, config, None)
  found = run_datasets.find(config, student, record.get('data'), load)
  variables = training_folder.restore_deployed(
    student, config.student, found.task
  )
  from_config.deploy(config.student, found.task, variables)
  return entry['row'], found.classes, checkpoint.tree_digest(variables)


def _read_predicted(folder: pathlib.Path) -> bool:
  """Returns True: the classes are those that were kept, or None."""
  student = folder / 'students/h50/seed-0'
  found = training_folder.read_predicted_classes(student)
  assert found is None or found.tolist() == _PREDICTED
  return True


def _resume(folder: pathlib.Path) -> str:
  """Reads a run folder as `launch.py` does when it goes on."""
  record = runner.new_or_stored_record(
    _config(), runner.RunOptions(folder, folder)
  )
  data_record.check_same(record, folder, data.load('generated'))
  return record['status']


# --- Data. ---


def _write_npz(folder: pathlib.Path) -> None:
  np.savez(folder / 'own.npz', **toys.class_arrays(np.random.default_rng(0)))


def _load_data(folder: pathlib.Path, name: str = '.', **options) -> tuple:
  found = data.load(str(folder / name), data_dir=folder.parent, **options)
  return found.digest, found.class_names, found


def _is_data(result: tuple) -> None:
  """Checks images, labels and names of a data set."""
  _, names, found = result
  for split in (found.train, found.test):
    assert split.images.dtype == np.uint8 and split.images.ndim == 4
    assert 0 not in split.images.shape
    assert len(split.images) == len(split.labels)
    assert 0 <= split.labels.min() <= split.labels.max() < found.num_classes
  assert not names or len(set(names)) == found.num_classes


def _write_images(folder: pathlib.Path) -> None:
  for split, count in (('train', 3), ('test', 1)):
    for kind in ('ant', 'bee'):
      for index in range(count):
        path = folder / split / kind / f'{index}.{"jpg" if index else "png"}'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = _RNG.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path)


def _read_images(folder: pathlib.Path) -> list:
  path = folder / 'train/ant/0.png'
  return predict.read_image(path, (8, 8, 3), resize=True).tolist()


def _write_tfds(folder: pathlib.Path) -> None:
  made = tfds_toys.official(toys.idx_toy(), folder.parent / 'made')
  for path in made.iterdir():
    path.rename(folder / path.name)


def _read_labels_cache(folder: pathlib.Path) -> list | None:
  found = tfds_folder._load_labels(folder / 'train-labels-0.npz')
  return None if found is None else [found[0].tolist(), found[1]]


def _write_labels_cache(folder: pathlib.Path) -> None:
  labels = np.arange(5, dtype=np.int32)
  tfds_folder._store_labels(folder / 'train-labels-0.npz', labels, 'digest')


# --- Checkpoints, weights and caches. ---


def _state(value: float) -> dict:
  return {'w': jnp.full((3, 2), value), 'step': jnp.int32(value)}


def _write_checkpoints(folder: pathlib.Path) -> None:
  checkpoints = checkpoint.Checkpoints(folder / 'checkpoints')
  for epoch in (1, 2):
    checkpoints.save(epoch, _state(epoch))
  checkpoints.close()


def _restore(folder: pathlib.Path) -> bool:
  """Returns True: a checkpoint gives the state that was saved, or None."""
  checkpoints = checkpoint.Checkpoints(folder / 'checkpoints')
  found = checkpoints.restore(jax.eval_shape(lambda: _state(0)))
  checkpoints.close()
  if found is not None:
    number, state = found
    jax.tree.map(np.testing.assert_array_equal, state, _state(number))
  return True


def _write_cache(folder: pathlib.Path) -> None:
  cache = checked_cache.CheckedCache(str(folder / 'cache'), max_size=-1)
  cache.put('key', b'a compiled function')


def _read_cache(folder: pathlib.Path) -> bytes | None:
  cache = checked_cache.CheckedCache(str(folder / 'cache'), max_size=-1)
  return cache.get('key') or b'a compiled function'


_ARRAYS = {'train_labels': np.arange(5, dtype=np.int32)}


def _read_arrays(folder: pathlib.Path) -> list:
  digests = {name: dataset.array_digest(a) for name, a in _ARRAYS.items()}
  arrays, damaged = array_cache.read(folder, digests)
  assert arrays.keys() | {path.stem for path in damaged} == _ARRAYS.keys()
  return [_ARRAYS[name].tolist() if damaged else array.tolist()
          for name, array in (arrays or _ARRAYS).items()]  # fmt: skip


# --- Exports. ---


def _write_artifact(folder: pathlib.Path) -> None:
  content = _network()
  (folder / artifact.NETWORK).write_bytes(content)
  json_records.write(
    folder / artifact.MANIFEST,
    {
      'image_shape': [4, 4, 1],
      'classes': ['ant', 'bee'],
      'sha256': {artifact.NETWORK: hashlib.sha256(content).hexdigest()},
    },
  )


@functools.cache
def _network() -> bytes:
  def classify(images):
    features = jnp.asarray(images, 'f').reshape(images.shape[0], -1)
    return jax.nn.softmax(features[:, :2])

  return forward.serialize(classify, (4, 4, 1))


def _load_artifact(folder: pathlib.Path) -> tuple:
  student = artifact.load(folder)
  return student.manifest['image_shape'], student.manifest['classes']


def _is_student(result: tuple) -> None:
  shape, classes = result
  assert shape == [4, 4, 1] and len(classes) == 2
  assert all(isinstance(name, str) for name in classes)


TARGETS = {
  'report': Target(_write_report, _report),
  'report with plots': Target(
    _write_report, functools.partial(_report, with_plots=True)
  ),
  'log': Target(_write_report, _read_log, pattern='metrics.jsonl'),
  'artifact': Target(
    _write_artifact, _load_artifact, _is_student, finds_damage=True
  ),
  'run, exported': Target(_write_run, _find_student, finds_damage=True),
  'run, resumed': Target(_write_run, _resume, pattern='*.json'),
  'predicted classes': Target(
    _write_run, _read_predicted, pattern='students/**/*', is_own=True
  ),
  'survey': Target(_write_images, lambda folder: survey.survey(str(folder))),
  'npz data': Target(
    _write_npz,
    functools.partial(_load_data, name='own.npz'),
    _is_data,
  ),
  'images': Target(_write_images, _load_data, _is_data),
  'resized images': Target(
    _write_images, functools.partial(_load_data, image_size=8), _is_data
  ),
  'image': Target(_write_images, _read_images, pattern='train/ant/0.png'),
  'TFDS folder': Target(_write_tfds, _load_data, _is_data),
  'labels cache': Target(_write_labels_cache, _read_labels_cache),
  **{
    f'{suffix} logits': Target(
      functools.partial(teacher_files.write_logits, suffix=suffix),
      functools.partial(teacher_files.read_logits, suffix=suffix),
      teacher_files.are_logits,
    )
    for suffix in ('npy', 'npz')
  },
  **{
    name: Target(
      functools.partial(
        teacher_files.write_pretrained, has_weights=has_weights
      ),
      functools.partial(teacher_files.read_pretrained, has_weights=has_weights),
    )
    for name, has_weights in (
      ('published outputs', False),
      ('published weights', True),
    )
  },
  'stored outputs': Target(
    teacher_files.use_stored_outputs,
    teacher_files.use_stored_outputs,
    is_own=True,
    finds_damage=True,
  ),
  'stored views': Target(
    teacher_files.use_stored_views,
    teacher_files.use_stored_views,
    is_own=True,
    finds_damage=True,
  ),
  'shards': Target(
    teacher_files.use_shards,
    teacher_files.use_shards,
    is_own=True,
    finds_damage=True,
  ),
  'checkpoints': Target(_write_checkpoints, _restore),
  'compiled functions': Target(_write_cache, _read_cache, finds_damage=True),
  'arrays': Target(
    lambda folder: array_cache.write(folder, _ARRAYS),
    _read_arrays,
    finds_damage=True,
  ),
}
