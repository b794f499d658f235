"""Fixtures of the data tests: toy data sets, and empty data folders."""

import pathlib

import pytest

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
