"""The public `load`: names, folders, and what an import costs."""

import pathlib
import subprocess
import sys

import pytest

from kd_jax import data
from kd_jax.runtime import errors


def _imported_after(code: str) -> set[str]:
  """The top-level modules that a fresh Python has after running `code`."""
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


def test_names():
  assert data.names() == (
    *('mnist', 'fashion_mnist', 'cifar10'),
    *('generated', 'generated_rgb'),
  )


def test_an_unknown_name_lists_the_known():
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


def test_the_import_and_generated_data_need_no_tfds_and_no_jax():
  code = 'from kd_jax import data; data.load("generated")'
  imported = _imported_after(code)
  assert 'kd_jax' in imported
  assert not {'tensorflow_datasets', 'tensorflow', 'jax', 'PIL'} & imported
