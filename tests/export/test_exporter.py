"""Exports of a run's students: the manifest, the choice of one, refusals.

Also tests `kd_jax/export/__main__.py` and `kd_jax/export/measurement.py`.
"""

import shutil

import pytest

from kd_jax.export import artifact, exporter, onnx
from kd_jax.runtime import errors, files


def test_the_manifest_describes_the_student_and_its_measurements(run, exported):
  manifest = files.read_json(exported / 'manifest.json')
  student = files.read_json(run / 'run.json')['students'][0]
  assert (manifest['row'], manifest['seed']) == ('small', 0)
  assert manifest['weights'] == student['weights']
  assert manifest['student']['hidden'] == [20]
  assert manifest['image_shape'] == [28, 28, 1]
  assert manifest['classes'] == list('0123456789')
  assert manifest['platforms'] == ['cpu', 'cuda', 'tpu']
  assert list(manifest['measured']) == ['loaded', 'onnx']
  for result in manifest['measured'].values():
    assert result['test']['errors'] == student['test']['errors']
    assert result['test']['nll'] == pytest.approx(student['test']['nll'], 1e-4)
    assert result['mean_difference'] <= result['largest_difference'] < 1e-6
  assert set(manifest['latency']) == {'1', '100'}
  ratio = manifest['latency']['100']['loaded']['over_live']
  assert ratio['lower'] <= ratio['median'] <= ratio['upper']


def test_row_and_seed_choose_the_student(run, tmp_path):
  output = tmp_path / 'x'
  folder, manifest = exporter.export(run, row='h50', seed=0, output=output)
  assert folder == output and manifest['row'] == 'h50'
  student = files.read_json(run / 'run.json')['students'][1]
  measured = manifest['measured']
  assert list(measured) == ['loaded']
  assert measured['loaded']['test']['errors'] == student['test']['errors']


def test_an_unknown_student_or_run_is_refused(run, tmp_path):
  expected = r'expected one of \(row seed\) small 0, h50 0, int8 0'
  with pytest.raises(errors.UserError, match=expected):
    exporter.export(run, row='h51')
  several = '3 rows: choose one by --row=ROW; the rows are: small, h50, int8'
  with pytest.raises(errors.UserError, match=several):
    exporter.export(run)
  with pytest.raises(errors.UserError, match='holds no run with students'):
    exporter.export(tmp_path)


def test_a_quantized_student_keeps_its_integer_weights(run, exported):
  folder, manifest = exporter.export(run, row='int8')
  student = files.read_json(run / 'run.json')['students'][2]
  measured = manifest['measured']['loaded']
  assert measured['test']['errors'] == student['packed']['errors']
  assert measured['largest_difference'] < 1e-6
  float_bytes = files.read_json(exported / 'manifest.json')['bytes']
  ratio = manifest['bytes'][artifact.NETWORK] / float_bytes[artifact.NETWORK]
  assert ratio < 0.5
  with pytest.raises(errors.UserError, match='int8 cannot be written as ONNX'):
    exporter.export(run, row='int8', with_onnx=True)


def test_a_network_that_disagrees_with_the_student_is_removed(
  run, tmp_path, monkeypatch
):
  convert = onnx.convert
  convert_wrongly = lambda forward, image_shape: convert(
    lambda images: 1 - forward(images), image_shape
  )
  monkeypatch.setattr(onnx, 'convert', convert_wrongly)
  expected = 'network.onnx computes something else than the student'
  with pytest.raises(errors.UserError, match=expected):
    exporter.export(run, row='small', output=tmp_path / 'wrong', with_onnx=True)
  assert not list((tmp_path / 'wrong').iterdir())


def test_damaged_weights_are_not_exported(run, tmp_path):
  copy = tmp_path / 'run'
  shutil.copytree(run, copy)
  shutil.rmtree(copy / 'students' / 'small' / 'seed-0' / 'weights')
  with pytest.raises(errors.UserError, match='is damaged: remove'):
    exporter.export(copy, row='small')
