"""Artifacts: loading, predictions, and what is refused."""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import data
from kd_jax.export import artifact


@pytest.mark.parametrize('size', [1, 7])
def test_a_batch_of_any_size_gives_probabilities(exported, size):
  images = data.load('generated').test.images
  student = artifact.load(exported)
  probabilities = student.predict(images[:size])
  assert probabilities.shape == (size, 10)
  np.testing.assert_allclose(jnp.sum(probabilities, axis=-1), 1, rtol=1e-5)
  np.testing.assert_allclose(
    probabilities, student.predict(images[:50])[:size], atol=1e-6
  )


def test_a_copied_artifact_module_needs_only_jax(exported, tmp_path):
  shutil.copy(pathlib.Path(artifact.__file__), tmp_path)
  script = f"""
import sys
import artifact, numpy
student = artifact.load({str(exported)!r})
print(student.predict(numpy.zeros((3, 28, 28, 1), 'uint8')).shape)
others = ('kd_jax', 'flax', 'optax', 'orbax', 'ml_collections', 'absl.flags')
print([name for name in others if name in sys.modules])
"""
  result = subprocess.run(
    [sys.executable, '-c', script],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=True,
  )
  assert result.stdout.splitlines() == ['(3, 10)', '[]']


def test_a_missing_artifact_is_refused(tmp_path):
  with pytest.raises(artifact.ArtifactError, match='there is no folder .*none'):
    artifact.load(tmp_path / 'none')
  with pytest.raises(artifact.ArtifactError, match='holds no intact') as raised:
    artifact.load(tmp_path)
  assert raised.value.__cause__ is None


def test_the_folder_of_a_run_says_how_to_export_it(tmp_path):
  (tmp_path / 'run.json').write_text('{}')
  expected = 'is the folder of a run: export a student .*kd_jax.export'
  with pytest.raises(artifact.ArtifactError, match=expected):
    artifact.load(tmp_path)
  with pytest.raises(artifact.ArtifactError, match='^5 is no path'):
    artifact.load(5)


def test_a_file_that_differs_from_its_digest_is_refused(exported, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(exported, copy)
  network = (copy / artifact.NETWORK).read_bytes()
  (copy / artifact.NETWORK).write_bytes(network[:-1])
  expected = 'does not match its SHA-256 digest in manifest.json'
  with pytest.raises(artifact.ArtifactError, match=expected):
    artifact.load(copy)


def _manifest(folder):
  """Returns a manifest without its checksum, as older versions wrote it."""
  manifest = json.loads((folder / artifact.MANIFEST).read_text())
  del manifest['checksum']
  return manifest


def test_a_file_that_this_jax_cannot_read_is_refused(exported, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(exported, copy)
  network = b'other' + (copy / artifact.NETWORK).read_bytes()
  (copy / artifact.NETWORK).write_bytes(network)
  manifest = _manifest(copy)
  manifest['sha256'][artifact.NETWORK] = hashlib.sha256(network).hexdigest()
  (copy / artifact.MANIFEST).write_text(json.dumps(manifest))
  with pytest.raises(artifact.ArtifactError, match='JAX .* cannot read'):
    artifact.load(copy)
  (copy / artifact.MANIFEST).write_text('{}')
  with pytest.raises(artifact.ArtifactError, match='holds no intact network'):
    artifact.load(copy)


@pytest.mark.parametrize(
  'field', [{'image_shape': [28, 14, 1]}, {'classes': ['0']}]
)
def test_a_manifest_of_another_network_is_refused(exported, tmp_path, field):
  copy = tmp_path / 'copy'
  shutil.copytree(exported, copy)
  manifest = _manifest(copy) | field
  (copy / artifact.MANIFEST).write_text(json.dumps(manifest))
  with pytest.raises(artifact.ArtifactError, match='describes another network'):
    artifact.load(copy)


def _write_program(folder, fn, shape=(28, 28, 1), classes=10):
  """Writes a program as an artifact whose digest is right."""
  (batch,) = jax.export.symbolic_shape('b')
  images = jax.ShapeDtypeStruct((batch, *shape), jnp.uint8)
  check = jax.export.DisabledSafetyCheck.custom_call
  network = jax.export.export(
    jax.jit(fn), platforms=['cpu'], disabled_checks=[check('theirs')]
  )(images).serialize()
  (folder / artifact.NETWORK).write_bytes(network)
  manifest = {
    'image_shape': list(shape),
    'classes': list(map(str, range(classes))),
    'sha256': {artifact.NETWORK: hashlib.sha256(network).hexdigest()},
  }
  (folder / artifact.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.faults
def test_a_program_that_calls_other_code_is_refused(tmp_path):
  """An exported program that calls other code: it is refused before it runs."""

  def program(images):
    call = jax.ffi.ffi_call(
      'theirs', jax.ShapeDtypeStruct(images.shape[:1] + (10,), jnp.float32)
    )
    return call(images)

  _write_program(tmp_path, program)
  with pytest.raises(artifact.ArtifactError, match="calls 'theirs', which"):
    artifact.load(tmp_path)


def test_a_program_may_call_jaxs_linear_algebra(tmp_path):
  def program(images):
    square = images[:, :, :, 0].astype(jnp.float32)
    return jnp.linalg.qr(square)[0][:, 0, :10]

  _write_program(tmp_path, program)
  images = np.ones((2, 28, 28, 1), np.uint8)
  assert artifact.load(tmp_path).predict(images).shape == (2, 10)


def test_a_program_that_maps_other_arrays_is_refused(tmp_path):
  _write_program(tmp_path, lambda images: images.sum(axis=(1, 2, 3)))
  with pytest.raises(artifact.ArtifactError, match='expected one array of'):
    artifact.load(tmp_path)


@pytest.mark.parametrize('classes', [None, 5, [5] * 10, {'0': 1}])
def test_classes_that_are_no_names_are_refused(exported, tmp_path, classes):
  copy = tmp_path / 'copy'
  shutil.copytree(exported, copy)
  manifest = _manifest(copy)
  manifest['classes'] = classes
  (copy / artifact.MANIFEST).write_text(json.dumps(manifest))
  with pytest.raises(artifact.ArtifactError, match='describes another network'):
    artifact.load(copy)


def test_an_address_is_no_folder():
  with pytest.raises(artifact.ArtifactError, match='gs://b/x is an address'):
    artifact.load('gs://b/x')
