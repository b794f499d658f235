"""ONNX files of students: checked against the manifest, or refused."""

import shutil

import pytest

from kd_jax.export import artifact, exporter, onnx
from kd_jax.runtime import errors


def test_an_onnx_file_is_checked_against_the_manifest(run, exported, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(exported, copy)
  (copy / onnx.NETWORK).write_bytes((copy / onnx.NETWORK).read_bytes() + b'!')
  expected = 'does not match its SHA-256 digest in manifest.json'
  with pytest.raises(artifact.ArtifactError, match=expected):
    onnx.load(copy)
  # An export without ONNX removes the ONNX file of an older export.
  exporter.export(run, row='h50', output=copy)
  with pytest.raises(
    artifact.ArtifactError, match='holds no intact network.onnx'
  ):
    onnx.load(copy)
  assert not (copy / onnx.NETWORK).exists()


def test_onnx_is_refused_at_once_if_a_package_is_missing(run, monkeypatch):
  monkeypatch.setattr(onnx, 'PACKAGES', ('onnxruntime', 'no_such_package'))
  expected = 'needs no_such_package, not installed here: make onnx'
  with pytest.raises(errors.UserError, match=expected):
    exporter.export(run, row='small', with_onnx=True)
