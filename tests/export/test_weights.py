"""Weights as .safetensors files, with our names and with torchvision's.

The tests with PyTorch run by `make test-torch`.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from kd_jax import config_fields, data
from kd_jax.export import artifact, exporter, weights
from kd_jax.models import from_config
from kd_jax.runtime import errors
from tests import documents

PROBLEM = data.ImageTask(3, (16, 16, 3))


def _resnet(**fields) -> ConfigDict:
  return config_fields.resnet(
    (1, 1, 1, 1), widths=(64, 128, 256, 512), **fields
  )


def _variables(model):
  """Returns random variables of a network, its statistics included."""
  rng = np.random.default_rng(0)
  like = from_config.variables_like(model, PROBLEM)
  return jax.tree.map(
    lambda leaf: (0.05 + 0.1 * rng.random(leaf.shape)).astype(np.float32), like
  )


@pytest.mark.parametrize('model', [_resnet(), config_fields.mlp((5, 4))])
def test_flat_names_are_paths(model):
  variables = _variables(model)
  tensors = weights.flatten(variables)
  assert all(name.split('.')[0] in variables for name in tensors)
  restored = weights.unflatten(tensors)
  jax.tree.map(np.testing.assert_array_equal, restored, variables)


def test_torchvision_names_are_one_to_one():
  tensors = weights.flatten(_variables(_resnet()))
  converted = weights.to_torchvision(tensors, 1.0)
  assert len(converted) == len(tensors)
  assert converted['conv1.weight'].shape == (64, 3, 3, 3)
  assert converted['layer2.0.downsample.1.running_var'].shape == (128,)
  assert converted['fc.weight'].shape == (3, 512)
  restored = weights.from_torchvision(converted, tensors)
  jax.tree.map(np.testing.assert_array_equal, restored, tensors)
  halved = weights.to_torchvision(tensors, 2.0)
  np.testing.assert_allclose(halved['fc.bias'], converted['fc.bias'] / 2)
  np.testing.assert_array_equal(halved['bn1.bias'], converted['bn1.bias'])


@pytest.mark.parametrize(
  'model, has_names',
  [
    (_resnet(), True),
    (config_fields.resnet((1, 1, 0, 0), min_blocks=1), True),
    (config_fields.resnet((1, 1, 0, 0)), False),
    (config_fields.resnet((1, 1), widths=(8, 8), strides=(1, 2)), False),
    (config_fields.resnet((2, 1, 1, 2), block='pooled'), False),
    (config_fields.resnet((1, 1, 1, 1), strides=(1, 2, 2, 1)), False),
    (config_fields.resnet((1, 1, 1, 1), head_pool='max'), False),
    (config_fields.mlp((5,)), False),
  ],
)
def test_torchvision_has_resnets_of_four_stages(model, has_names):
  assert weights.has_torchvision_names(model) == has_names


def test_the_package_is_named_if_it_is_missing(monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'safetensors', None)
  model = config_fields.mlp((5,))
  with pytest.raises(errors.UserError, match='pip install safetensors'):
    weights.file_contents(model, _variables(model), {})


def test_files_hold_the_weights_and_describe_them():
  safetensors_numpy = pytest.importorskip('safetensors.numpy')
  model = _resnet()
  variables = _variables(model)
  contents = weights.file_contents(model, variables, {'classes': ['a', 'é']})
  assert contents.keys() == {weights.WEIGHTS, weights.TORCHVISION}
  tensors = safetensors_numpy.load(contents[weights.WEIGHTS])
  jax.tree.map(
    np.testing.assert_array_equal, weights.unflatten(tensors), variables
  )
  converted = safetensors_numpy.load(contents[weights.TORCHVISION])
  restored = weights.unflatten(weights.from_torchvision(converted, tensors))
  jax.tree.map(np.testing.assert_array_equal, restored, variables)
  # The header is JSON behind its length.
  size = int.from_bytes(contents[weights.WEIGHTS][:8], 'little')
  header = json.loads(contents[weights.WEIGHTS][8 : 8 + size])
  assert json.loads(header['__metadata__']['classes']) == ['a', 'é']
  assert json.loads(header['__metadata__']['student'])['kind'] == 'resnet'


def test_an_export_lists_the_files_and_removes_older_ones(run, tmp_path):
  pytest.importorskip('safetensors.numpy')
  folder, manifest = exporter.export(
    run, row='small', output=tmp_path, with_weights=True
  )
  assert weights.WEIGHTS in manifest['sha256']
  artifact.read(folder, weights.WEIGHTS)  # Checks the digest.
  exporter.export(run, row='small', output=tmp_path)
  assert not (tmp_path / weights.WEIGHTS).exists()


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'block': 'bottleneck', 'temperature': 4.0},
    {'stem_pool': False, 'stem_stride': 2, 'blocks': (2, 1, 1, 2)},
    {'widths': (16, 24, 32, 64), 'blocks': (1, 1, 0, 0), 'min_blocks': 1},
  ],
)
def test_torchvision_computes_the_same_logits(fields, tmp_path):
  """The network is built by the function of docs/how-to/export.md."""
  torch = pytest.importorskip('torch', reason='make test-torch runs this test')
  pytest.importorskip('torchvision')
  model = _resnet()
  model.update(fields)
  variables = _variables(model)
  contents = weights.file_contents(model, variables, {})
  (tmp_path / weights.TORCHVISION).write_bytes(contents[weights.TORCHVISION])
  given = {}
  exec(documents.EXAMPLES['torchvision'], given)
  network = given['load_resnet'](tmp_path / weights.TORCHVISION)
  images = np.random.default_rng(1).random((2, 16, 16, 3), np.float32)
  with torch.inference_mode():
    theirs = network(torch.from_numpy(images).permute(0, 3, 1, 2))
  module = from_config.make_module(model, 3)
  ours, _ = module.apply(variables, jnp.asarray(images), train=False)
  np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4)
