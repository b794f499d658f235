"""Students as ONNX, for ONNX Runtime, OpenVINO and their like.

An extra: jax2onnx converts, and ONNX Runtime runs. `make onnx` installs them;
see requirements-onnx.txt.
"""

import importlib.util
import pathlib
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import errors, models

NETWORK = 'network.onnx'
_PACKAGES = ('jax2onnx', 'onnx_ir', 'onnxruntime')


def check(arithmetic: str) -> None:
  """Raises UserError if a student of such arithmetic cannot be written here."""
  missing = [own for own in _PACKAGES if importlib.util.find_spec(own) is None]
  if missing:
    raise errors.UserError(
      f'ONNX needs {" and ".join(missing)}, not installed here: make onnx, or '
      'pip install -r requirements-onnx.txt; pip install --no-deps jax2onnx'
    )
  own = models.quantized.ARITHMETICS[arithmetic]
  if own.bits and not own.in_buckets:  # jax2onnx knows no such products.
    raise errors.UserError(
      f'a student of {arithmetic} cannot be written as ONNX: export it without'
    )


def convertible(network: nn.Module) -> nn.Module:
  """Returns a network in use with the convolutions that ONNX has."""
  return network.clone(arithmetic='flax')


def convert(
  forward: Callable[[jax.Array], jax.Array], image_shape: tuple[int, ...]
) -> bytes:
  """Returns an ONNX model of images uint8 [B, H, W, C] -> [B, K], for any B."""
  import jax2onnx

  images = jax.ShapeDtypeStruct(('B', *image_shape), jnp.uint8)
  with jax.numpy_rank_promotion('allow'):  # jax2onnx adds biases so.
    return jax2onnx.to_onnx(forward, [images]).SerializeToString()


def load(folder: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
  """Returns an exported student's prediction, in ONNX Runtime on the CPU."""
  import onnxruntime

  session = onnxruntime.InferenceSession(
    folder / NETWORK, providers=['CPUExecutionProvider']
  )
  (images,) = session.get_inputs()

  def predict(pixels):
    (probabilities,) = session.run(None, {images.name: np.asarray(pixels)})
    return probabilities

  return predict
