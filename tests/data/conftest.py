"""Fixtures of the data tests: toys, and no data folder but the test's own."""

import pathlib

import pytest
import toys


@pytest.fixture(autouse=True)
def no_other_data(tmp_path, monkeypatch) -> None:
  """Keeps the tests off this user's own data folders."""
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
