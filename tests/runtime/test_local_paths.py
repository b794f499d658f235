"""Paths of the user, and addresses that only look like paths."""

import os
import pathlib

import pytest

from kd_jax import data
from kd_jax.data import images_on_disk, tfds_classes, tfds_record_files
from kd_jax.data.builtin import array_cache
from kd_jax.data.user_data import image_files, survey, tfds_folder
from kd_jax.experiments import part_times
from kd_jax.export import artifact
from kd_jax.report import error_plots
from kd_jax.runtime import errors, files, json_records, local_paths, run_records
from kd_jax.teachers import user_logits
from kd_jax.training import training_folder
from tests import helpers


def test_a_tilde_is_the_home_folder():
  assert local_paths.expand('~/x', 'flag') == pathlib.Path.home() / 'x'
  assert local_paths.expand(pathlib.Path('a/b'), 'f') == pathlib.Path('a/b')


@pytest.mark.parametrize('path', ['gs://b/run', 's3://b', 'https://x.y/z.npz'])
def test_an_address_is_refused(path):
  with pytest.raises(errors.UserError, match=f'--x={path}: expected a local'):
    local_paths.expand(path, '--x')
  with pytest.raises(errors.UserError, match='config.data.name=.*address'):
    data.load(path)
  with pytest.raises(errors.UserError, match='data_dir=.*address'):
    data.load('mnist', data_dir=path)
  with pytest.raises(errors.UserError, match='teacher.logits=.*address'):
    user_logits.load_outputs(path, data.load('generated'))


def test_the_home_of_an_unknown_user_is_refused():
  with pytest.raises(errors.UserError, match='--x=~no_such_user_/x: '):
    local_paths.expand('~no_such_user_/x', '--x')


@pytest.mark.parametrize(
  'flag',
  [
    '--workdir',
    '--runs_dir',
    '--data_dir',
    '--source_dir',
    '--config.data.name',
    '--config.teacher.logits',
  ],
)
def test_an_address_in_a_command_is_refused_before_any_work(flag, tmp_path):
  result = helpers.launch_here(
    '--config=configs/mnist.py:h300,smoke',
    f'--workdir={tmp_path}',
    f'{flag}=gs://b/run',
  )
  assert result.returncode == 1
  name = flag.removeprefix('--') if 'config' in flag else flag
  assert f'error: {name}=gs://b/run: expected a local path' in result.stderr
  assert not list(tmp_path.iterdir())


@pytest.mark.faults
@pytest.mark.parametrize('kind', ['a pipe', 'a folder', 'a device'])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, kind):
  """A pipe, a folder or a device as data: it is refused by its kind."""
  path = tmp_path / 'data.npz'
  if kind == 'a pipe':
    os.mkfifo(path)
  elif kind == 'a folder':
    path.mkdir()
  else:
    path.symlink_to('/dev/zero')
  expected = f'{path} is {kind}; expected a file'
  with pytest.raises(errors.UserError, match=expected):
    local_paths.check_regular(path, 'config.data.name')
  with pytest.raises(errors.UserError, match=expected):
    data.load(str(path))
  with pytest.raises(errors.UserError, match=expected):
    user_logits.load_outputs(path, data.load('generated'))


def test_a_file_and_what_is_missing_are_left_to_who_opens_them(tmp_path):
  (tmp_path / 'file').touch()
  local_paths.check_regular(tmp_path / 'file', 'a')
  local_paths.check_regular(tmp_path / 'none', 'a')


def _read_image(path):
  image_files.decode('an image', path, image_size=0, is_gray=False)


def _open_images(path):
  images_on_disk.OpenFile(path)


def _hold_lock(path):
  with files.locked(path):
    pass


@pytest.mark.faults
@pytest.mark.parametrize(
  'read',
  [
    lambda path: json_records.find(path, json_records.RUN),
    lambda path: run_records.MetricsLog(path).read(),
    lambda path: artifact.read(path.parent, path.name),
    lambda path: artifact.load(path.parent),
    lambda path: tfds_record_files.read(path),
    lambda path: tfds_record_files.read(path.with_name('a.array_record')),
    lambda path: list(tfds_record_files.read_chunks(path)),
    lambda path: tfds_classes.check(path.parent),
    lambda path: array_cache.read(path.parent, {'array': ''}),
    lambda path: files.file_digest(path),
    lambda path: survey._image_size(path),
    lambda path: error_plots.write(path.parent),
    lambda path: training_folder.read_predicted_classes(path.parent),
    lambda path: tfds_folder._load_labels(path),
    lambda path: part_times._read_setup_seconds(path),
    _open_images,
    _hold_lock,
    _read_image,
  ],
)
def test_no_reader_waits_for_a_pipe(tmp_path, read):
  """A pipe where a file belongs: it is named, and never waited for."""
  for name in (
    *('file', '.file.lock', 'a.array_record', 'array.npy', 'manifest.json'),
    *('decisions.npy', 'result.json', 'test_errors.npz'),
  ):
    os.mkfifo(tmp_path / name)
  with helpers.time_limit(20):
    try:
      result = read(tmp_path / 'file')
    except (errors.UserError, artifact.ArtifactError, OSError) as error:
      result = error
  is_named = 'pipe' in str(result) or 'is no file' in str(result)
  assert is_named or not result  # Nothing was read.
