"""Students that leave home: exported, reloaded, refused, served."""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx as onnx_lib
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import mnist, tables
from kd_jax import data, predict
from kd_jax.data import preprocessing
from kd_jax.experiments import experiment
from kd_jax.export import artifact, export, onnx
from kd_jax.runtime import errors, files
from kd_jax.training import build

UNIT = preprocessing.SCALINGS['unit']
IMAGES = data.load('generated').test.images
NETWORKS = (artifact.NETWORK, onnx.NETWORK)
ROOT = pathlib.Path(artifact.__file__).parents[2]


@pytest.fixture(name='run', scope='module')
def _run(tmp_path_factory):
  """A run of three small students, a seed each."""
  folder = tmp_path_factory.mktemp('export')
  config = mnist.get_config('h50')
  config.data.name = 'generated'
  config.teacher.model.update(hidden=(16,), filters=(4,))
  config.benchmark.enabled = False
  config.train.folds = 0
  rows = {
    'small': {'student.hidden': (20,)},
    'h50': {},
    'int8': {'student.hidden': (20,), 'student.arithmetic': 'int8'},
  }
  config = tables.make_table(config, rows)
  experiment.run(config, workdir=folder / 'run', teachers_dir=folder)
  return folder / 'run'


@pytest.fixture(name='exported', scope='module')
def _exported(run):
  """What the command wrote."""
  result = subprocess.run(
    [sys.executable, '-m', 'kd_jax.export', str(run), '--onnx'],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  folder = run / 'export' / 'small-seed-0'
  lines = [line.split(': ')[0] for line in result.stdout.splitlines()]
  assert lines == [str(folder / name) for name in NETWORKS]
  return folder


def test_the_manifest_says_what_it_is_and_how_good(run, exported):
  manifest = files.read_json(exported / 'manifest.json')
  student = files.read_json(run / 'run.json')['students'][0]
  assert (manifest['row'], manifest['seed']) == ('small', 0)
  assert manifest['weights'] == student['weights']
  assert manifest['student']['hidden'] == [20]
  assert manifest['image_shape'] == [28, 28, 1]
  assert manifest['classes'] == list('0123456789')
  assert manifest['platforms'] == ['cpu', 'cuda', 'tpu']
  assert list(manifest['measured']) == ['loaded', 'onnx']
  for own in manifest['measured'].values():
    assert own['test']['errors'] == student['test']['errors']
    assert own['test']['nll'] == pytest.approx(student['test']['nll'], 1e-4)
    assert own['mean_difference'] <= own['largest_difference'] < 1e-6
  assert set(manifest['latency']) == {'1', '100'}
  ratio = manifest['latency']['100']['loaded']['over_live']
  assert ratio['lower'] <= ratio['median'] <= ratio['upper']


def test_another_student_is_named_by_row_and_seed(run, tmp_path):
  output = tmp_path / 'x'
  folder, manifest = export.export(run, row='h50', seed=0, output=output)
  assert folder == output and manifest['row'] == 'h50'
  student = files.read_json(run / 'run.json')['students'][1]
  measured = manifest['measured']
  assert list(measured) == ['loaded']
  assert measured['loaded']['test']['errors'] == student['test']['errors']
  with pytest.raises(
    errors.UserError, match='there are: small 0, h50 0, int8 0'
  ):
    export.export(run, row='h51')
  with pytest.raises(errors.UserError, match='holds no run with students'):
    export.export(tmp_path)


def test_a_quantized_student_stays_one_of_whole_numbers(run, exported):
  folder, manifest = export.export(run, row='int8')
  student = files.read_json(run / 'run.json')['students'][2]
  measured = manifest['measured']['loaded']
  assert measured['test']['errors'] == student['packed']['errors']
  assert measured['largest_difference'] < 1e-6
  as_floats = files.read_json(exported / 'manifest.json')['bytes']
  ratio = manifest['bytes'][artifact.NETWORK] / as_floats[artifact.NETWORK]
  assert ratio < 0.5
  with pytest.raises(errors.UserError, match='int8 cannot be written as ONNX'):
    export.export(run, row='int8', with_onnx=True)


@pytest.mark.parametrize('size', [1, 7])
def test_any_number_of_images_goes_in_and_probabilities_come_out(
  exported, size
):
  loaded = artifact.load(exported)
  probabilities = loaded.predict(IMAGES[:size])
  assert probabilities.shape == (size, 10)
  np.testing.assert_allclose(jnp.sum(probabilities, axis=-1), 1, rtol=1e-5)
  np.testing.assert_allclose(
    probabilities, loaded.predict(IMAGES[:50])[:size], atol=1e-6
  )


def test_it_needs_jax_and_nothing_of_the_project(exported, tmp_path):
  shutil.copy(ROOT / 'kd_jax' / 'export' / 'artifact.py', tmp_path)
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


def test_what_is_not_as_its_manifest_says_is_refused(exported, tmp_path):
  with pytest.raises(artifact.ArtifactError, match='holds no sound network'):
    artifact.load(tmp_path / 'none')
  copy = tmp_path / 'copy'
  shutil.copytree(exported, copy)
  network = (copy / artifact.NETWORK).read_bytes()
  (copy / artifact.NETWORK).write_bytes(network[:-1])
  with pytest.raises(artifact.ArtifactError, match='is not what manifest.json'):
    artifact.load(copy)
  # What its maker's JAX wrote, and this one cannot read.
  manifest = json.loads((copy / artifact.MANIFEST).read_text())
  (copy / artifact.NETWORK).write_bytes(b'other' + network)
  manifest['sha256'][artifact.NETWORK] = hashlib.sha256(
    b'other' + network
  ).hexdigest()
  (copy / artifact.MANIFEST).write_text(json.dumps(manifest))
  with pytest.raises(artifact.ArtifactError, match='cannot be read by JAX'):
    artifact.load(copy)
  (copy / artifact.MANIFEST).write_text('{}')
  with pytest.raises(artifact.ArtifactError, match='holds no sound network'):
    artifact.load(copy)


@pytest.mark.parametrize(
  'field', [{'image_shape': [28, 14, 1]}, {'classes': ['0']}]
)
def test_a_manifest_of_another_network_is_refused(exported, tmp_path, field):
  copy = tmp_path / 'copy'
  shutil.copytree(exported, copy)
  manifest = json.loads((copy / artifact.MANIFEST).read_text())
  (copy / artifact.MANIFEST).write_text(json.dumps(manifest | field))
  with pytest.raises(artifact.ArtifactError, match='is not of this network'):
    artifact.load(copy)


def test_onnx_is_what_the_manifest_says(run, exported, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(exported, copy)
  (copy / onnx.NETWORK).write_bytes((copy / onnx.NETWORK).read_bytes() + b'!')
  with pytest.raises(artifact.ArtifactError, match='is not what manifest.json'):
    onnx.load(copy)
  # Another student, without it: that of before is not left beside.
  export.export(run, row='h50', output=copy)
  with pytest.raises(
    artifact.ArtifactError, match='holds no sound network.onn'
  ):
    onnx.load(copy)
  assert not (copy / onnx.NETWORK).exists()


def test_what_computes_something_else_is_not_kept(run, tmp_path, monkeypatch):
  convert = onnx.convert
  wrong = lambda forward, shape: convert(lambda x: 1 - forward(x), shape)
  monkeypatch.setattr(onnx, 'convert', wrong)
  expected = 'network.onnx computes something else than the student'
  with pytest.raises(errors.UserError, match=expected):
    export.export(run, output=tmp_path / 'wrong', with_onnx=True)
  assert not list((tmp_path / 'wrong').iterdir())


def test_without_its_packages_onnx_is_refused_at_once(run, monkeypatch):
  monkeypatch.setattr(onnx, '_PACKAGES', ('onnxruntime', 'no_such_package'))
  expected = 'needs no_such_package, not installed here: make onnx'
  with pytest.raises(errors.UserError, match=expected):
    export.export(run, with_onnx=True)


def test_damaged_weights_are_not_exported(run, tmp_path):
  copy = tmp_path / 'run'
  shutil.copytree(run, copy)
  shutil.rmtree(copy / 'students' / 'small' / 'seed-0' / 'weights')
  with pytest.raises(errors.UserError, match='holds no sound weights'):
    export.export(copy)


# As small as has every form of convolution that a CPU is given.
RESNET = dict(
  kind='resnet', block='basic', blocks=(1, 1), widths=(16, 32), strides=(1, 2),
  min_blocks=0, stem_stride=1, stem_pool=True, zero_init=False,
  temperature=2.0, dtype='float32', arithmetic='float',
)  # fmt: skip


def test_a_resnet_keeps_its_statistics_and_its_temperature():
  model = ConfigDict(RESNET)
  module = build.model(model, 10)
  variables = build.init_variables(module, (8, 8, 3), jax.random.key(0))
  variables['batch_stats'] = jax.tree.map(
    lambda leaf: leaf - 0.1, variables['batch_stats']
  )
  as_trained = jax.jit(export.make_forward(module, variables, UNIT))
  network, variables = build.deploy(model, 10, (8, 8, 3), variables)
  forward = export.make_forward(network, variables, UNIT)
  exported = jax.export.deserialize(
    bytearray(export.serialize(forward, (8, 8, 3)))
  )
  plain = export.make_forward(
    onnx.convertible(network),
    variables,
    preprocessing.affine('unit', (8, 8, 3)),
  )
  as_onnx = onnx.convert(plain, (8, 8, 3))
  kinds = [n.op_type for n in onnx_lib.load_from_string(as_onnx).graph.node]
  # Scaled as rows: by a last axis of 1, ONNX Runtime takes 30 times as long.
  assert kinds[:3] == ['Reshape', 'Cast', 'Mul']
  assert 'Conv' in kinds and not {'Shape', 'Dropout', 'Pad', 'Div'} & set(
    kinds[:-3]
  )
  images = np.random.default_rng(0).integers(0, 256, (230, 8, 8, 3), np.uint8)
  expected = np.concatenate([as_trained(part) for part in np.split(images, 10)])
  assert expected.std(axis=0).min() > 1e-3  # No two images are as one.
  loaded = jax.jit(exported.call), jax.jit(forward), onnx.run(as_onnx)
  # Fewer than a CPU computes at a time, as many, more.
  for size in (1, 70, network.cpu_batch, 230):
    for predict_fn in loaded:
      output = np.asarray(predict_fn(images[:size]))
      np.testing.assert_allclose(output, expected[:size], atol=1e-5)


def _png(path, pixels):
  Image.fromarray(pixels).save(path)
  return path


def test_files_are_classified_as_their_pixels_are(exported, tmp_path):
  expected = np.asarray(artifact.load(exported).predict(IMAGES[:2]))
  paths = [
    _png(tmp_path / 'gray.png', IMAGES[0, ..., 0]),
    _png(tmp_path / 'color.png', np.repeat(IMAGES[1], 3, axis=-1)),
  ]
  results = predict.predict(exported, paths)
  assert list(results[0]) == list('0123456789')
  np.testing.assert_allclose(
    [list(own.values()) for own in results], expected, atol=1e-6
  )


def test_the_command_prints_the_likeliest_classes(exported, tmp_path):
  path = _png(tmp_path / 'image.png', IMAGES[0, ..., 0])
  command = [sys.executable, '-m', 'kd_jax.predict', '--top=2']
  result = subprocess.run(
    [*command, str(exported), str(path)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  name, *classes = result.stdout.strip().split('\t')
  (own,) = predict.predict(exported, [path])
  best = sorted(own, key=own.get, reverse=True)[:2]
  assert name == str(path)
  assert classes == [f'{label} {own[label]:.4f}' for label in best]


def test_files_that_are_no_such_image_are_named(exported, tmp_path):
  small = _png(tmp_path / 'small.png', np.zeros((14, 28), np.uint8))
  with pytest.raises(errors.UserError, match='small.png is of 28×14.*28×28'):
    predict.predict(exported, [small])
  text = tmp_path / 'text.png'
  text.write_text(json.dumps({}))
  with pytest.raises(errors.UserError, match='text.png: cannot identify'):
    predict.predict(exported, [text])
  bomb = tmp_path / 'bomb.png'
  Image.new('1', (20_000, 10_000)).save(bomb)
  with pytest.raises(errors.UserError, match='bomb.png: .*bomb'):
    predict.predict(exported, [bomb])
  with pytest.raises(errors.UserError, match='none.png: .*No such file'):
    predict.predict(exported, [tmp_path / 'none.png'])
  deep = _png(tmp_path / 'deep.png', np.full((28, 28), 40_000, np.uint16))
  with pytest.raises(errors.UserError, match='deep.png: has more than 8 bits'):
    predict.predict(exported, [deep])
  other = tmp_path / 'other.bmp'
  Image.new('L', (28, 28)).save(other)
  with pytest.raises(errors.UserError, match='other.bmp: cannot identify'):
    predict.predict(exported, [other])
  with pytest.raises(errors.UserError, match='images of 4 channels'):
    predict.read_image(deep, (28, 28, 4))


def test_images_are_seen_as_they_were_taken(tmp_path):
  pixels = IMAGES[0, :14, :, 0]
  path = tmp_path / 'turned.jpg'
  exif = Image.Exif()
  exif[0x0112] = 6  # Orientation: to be turned by a quarter, clockwise.
  Image.fromarray(pixels).save(path, exif=exif, quality=100, subsampling=0)
  turned = np.rot90(pixels, -1)[..., None].astype(int)
  image = predict.read_image(path, (28, 14, 1)).astype(int)
  assert np.abs(image - turned).max() < 8  # JPEG's own errors.
  # What is transparent counts as the color that is there.
  half = Image.fromarray(np.full((4, 4), 200, np.uint8)).convert('LA')
  half.putalpha(9)
  half.save(tmp_path / 'half.png')
  image = predict.read_image(tmp_path / 'half.png', (4, 4, 1))
  np.testing.assert_array_equal(image, 200)
