"""Forward passes: live, exported and as ONNX, for batches of any size."""

import jax
import numpy as np
import onnx as onnx_lib
import pytest
from ml_collections import ConfigDict

from kd_jax import data
from kd_jax.data import preprocessing
from kd_jax.export import forward, onnx
from kd_jax.models import apply, from_config

# The smallest network with all forms of convolution that a CPU uses.
RESNET = dict(
  kind='resnet', block='basic', blocks=(1, 1), widths=(16, 32), strides=(1, 2),
  min_blocks=0, stem_stride=1, stem_pool=True, zero_init=False,
  temperature=2.0, dtype='float32', quantization='float',
)  # fmt: skip
IMAGE_SHAPE = (8, 8, 3)


@pytest.mark.parametrize('block', ['basic', 'pooled'])
def test_an_exported_resnet_keeps_its_statistics_and_its_temperature(block):
  model = ConfigDict(RESNET | {'block': block})
  module = from_config.make_module(model, 10)
  variables = apply.init_variables(module, IMAGE_SHAPE, jax.random.key(0))
  variables['batch_stats'] = jax.tree.map(
    lambda leaf: leaf - 0.1, variables['batch_stats']
  )
  unit = preprocessing.SCALINGS['unit']
  as_trained = jax.jit(forward.make_forward(module, variables, unit))
  network, variables = from_config.deploy(
    model, data.ImageTask(10, IMAGE_SHAPE), variables
  )
  forward_fn = forward.make_forward(network, variables, unit)
  exported = jax.export.deserialize(
    bytearray(forward.serialize(forward_fn, IMAGE_SHAPE))
  )
  onnx_model = onnx.convert(
    forward.make_forward(
      onnx.with_flax_convolutions(network),
      variables,
      preprocessing.affine('unit', IMAGE_SHAPE),
    ),
    IMAGE_SHAPE,
  )
  _check_operations(onnx_model)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (230, *IMAGE_SHAPE), np.uint8)
  expected = np.concatenate([as_trained(part) for part in np.split(images, 10)])
  # The outputs differ between images.
  assert expected.std(axis=0).min() > 1e-4
  predict_fns = (
    jax.jit(exported.call),
    jax.jit(forward_fn),
    onnx.make_onnx_predict(onnx_model),
  )
  # Batches below, at and above the size of the parts that a CPU computes.
  for size in (1, network.cpu_batch, 230):
    for predict_fn in predict_fns:
      output = np.asarray(predict_fn(images[:size]))
      np.testing.assert_allclose(output, expected[:size], atol=1e-5)


def _check_operations(onnx_model: bytes):
  """Checks that an ONNX model has no operations that cost time for nothing."""
  nodes = onnx_lib.load_from_string(onnx_model).graph.node
  operations = [node.op_type for node in nodes]
  # The images are scaled as rows: ONNX Runtime takes 30 times as long to scale
  # along a last axis of length 1.
  assert operations[:3] == ['Reshape', 'Cast', 'Mul']
  assert 'Conv' in operations
  assert not {'Shape', 'Dropout', 'Pad', 'Div'} & set(operations[:-3])
