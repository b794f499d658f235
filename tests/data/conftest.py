"""Fixtures of the data tests: toy data sets, and empty data folders."""

import pathlib

import pytest

from kd_jax.data.builtin import prepared_store
from tests.data import toys


@pytest.fixture(autouse=True)
def no_user_data(tmp_path, monkeypatch) -> None:
  """Hides the data folders of the user who runs the tests."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'no_tfds'))


@pytest.fixture
def idx_toy() -> toys.Toy:
  return toys.idx_toy()


@pytest.fixture
def batches_toy() -> toys.Toy:
  return toys.batches_toy()


@pytest.fixture
def data_dir(tmp_path) -> pathlib.Path:
  return tmp_path / 'data'


@pytest.fixture
def home(data_dir) -> pathlib.Path:
  return data_dir / 'toy' / '0.1.0'


@pytest.fixture
def loaded(idx_toy, data_dir, home):
  """Loads a toy data set for the first time; returns it without the source."""
  prepared_store.load(
    toys.with_sources(idx_toy, toys.FakeSource('web', idx_toy.files)),
    data_dir,
    None,
  )
  assert home.exists()
  return idx_toy
