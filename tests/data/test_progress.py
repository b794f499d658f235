"""The output of TFDS is suppressed; other output is not."""

import logging

import tensorflow_datasets as tfds

from kd_jax.data import progress
from kd_jax.data.builtin import tfds_builder
from tests.data import toys


def test_preparing_is_quiet(tmp_path, capfd, caplog):
  caplog.set_level(logging.INFO, 'absl')
  toy = toys.idx_toy()
  tfds_builder.prepare(toy.spec, toy.arrays, tmp_path)
  assert capfd.readouterr() == ('', '')
  assert not caplog.messages


def test_other_output_is_not_suppressed(caplog, capsys):
  caplog.set_level(logging.INFO, 'absl')
  logger = logging.getLogger('absl')
  with progress.quiet_tfds():
    logger.info('other')
  print('printed')
  assert caplog.messages == ['other']
  assert capsys.readouterr().out == 'printed\n'
  assert not logger.filters


def test_tfds_prints_without_quiet_tfds(tmp_path, capfd, caplog):
  """Shows that `test_preparing_is_quiet` can fail."""
  caplog.set_level(logging.INFO, 'absl')
  toy = toys.idx_toy()
  folder = tfds_builder.prepare(toy.spec, toy.arrays, tmp_path)
  builder = tfds_builder.Builder(toy.spec, toy.arrays, tmp_path / 'loud')
  builder.download_and_prepare(file_format='array_record')
  out, err = capfd.readouterr()
  assert 'Downloading and preparing' in out
  assert 'Generating' in err
  tfds.builder_from_directory(folder)
  assert any('dataset info' in message for message in caplog.messages)
