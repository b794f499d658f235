"""TFDS is kept quiet, and nothing else is."""

import logging

import tensorflow_datasets as tfds
import toys

from kd_jax.data import progress, tfds_builder


def test_preparing_is_quiet(tmp_path, capfd, caplog):
  caplog.set_level(logging.INFO, 'absl')
  toy = toys.idx_toy()
  tfds_builder.prepare(toy.spec, toy.arrays, tmp_path)
  assert capfd.readouterr() == ('', '')
  assert not caplog.messages


def test_others_are_heard(caplog, capsys):
  caplog.set_level(logging.INFO, 'absl')
  logger = logging.getLogger('absl')
  with progress.quiet_tfds():
    logger.info('ours')
  print('printed')
  assert caplog.messages == ['ours']
  assert capsys.readouterr().out == 'printed\n'
  assert not logger.filters


def test_the_chatter_is_there_to_be_kept_out(tmp_path, capfd, caplog):
  """Else the first test here could not fail."""
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
