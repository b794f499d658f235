"""Names and folders of `kd_jax.data`, and its import without cost."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from kd_jax import data
from kd_jax.runtime import errors
from tests.data import toys


def _imported_after(code: str) -> set[str]:
  """Returns the top-level modules of a new Python after it has run `code`."""
  script = (
    f'{code}\nimport sys\nprint(*{{m.split(".")[0] for m in sys.modules}})'
  )
  result = subprocess.run(
    [sys.executable, '-c', script],
    cwd=pathlib.Path(data.__file__).parents[2],
    capture_output=True,
    text=True,
    check=True,
  )
  return {module.split('.')[0] for module in result.stdout.split()}


def test_names_lists_every_built_in_data_set():
  assert data.names() == (
    *('mnist', 'fashion_mnist', 'cifar10'),
    *('generated', 'generated_rgb'),
  )


def test_the_error_for_an_unknown_name_lists_the_known_names():
  with pytest.raises(data.DataError) as caught:
    data.load('minst')
  assert "'minst'" in str(caught.value)
  assert all(name in str(caught.value) for name in data.names())
  assert isinstance(caught.value, errors.UserError)


def test_default_data_dir(monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', '/some/cache')
  assert data.default_data_dir() == pathlib.Path('/some/cache/kd_jax/data')
  monkeypatch.delenv('XDG_CACHE_HOME')
  monkeypatch.setenv('HOME', '/home/someone')
  expected = pathlib.Path('/home/someone/.cache/kd_jax/data')
  assert data.default_data_dir() == expected


def test_generated_data_is_loaded_without_tfds_and_jax():
  code = 'from kd_jax import data; data.load("generated")'
  imported = _imported_after(code)
  assert 'kd_jax' in imported
  assert not {'tensorflow_datasets', 'tensorflow', 'jax', 'PIL'} & imported


def test_an_image_size_for_images_of_fixed_size_is_refused(tmp_path):
  np.savez(tmp_path / 'mine.npz', **toys.class_arrays(np.random.default_rng(0)))
  for name in ('generated', str(tmp_path / 'mine.npz')):
    with pytest.raises(data.DataError, match='image_size'):
      data.load(name, image_size=16)
