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

from kd_jax import models
from kd_jax.export import artifact
from kd_jax.runtime import errors

NETWORK = 'network.onnx'
_PACKAGES = ('jax2onnx', 'onnx_ir', 'onnxruntime')


def check(quantization: str) -> None:
  """Raises UserError if a student of this scheme cannot be written here."""
  missing = [own for own in _PACKAGES if importlib.util.find_spec(own) is None]
  if missing:
    raise errors.UserError(
      f'ONNX needs {" and ".join(missing)}, not installed here: make onnx, or '
      'pip install -r requirements-onnx.txt; pip install --no-deps jax2onnx'
    )
  own = models.quantization.SCHEMES[quantization]
  if own.bits and not own.in_buckets:  # jax2onnx knows no such products.
    raise errors.UserError(
      f'a student of {quantization} cannot be written as ONNX: export it '
      'without'
    )


def convertible(network: nn.Module) -> nn.Module:
  """Returns a network in use with the convolutions that ONNX has."""
  if isinstance(network, models.user.UserModule):  # Its layers are the user's.
    return network
  return network.clone(quantization='flax')


def convert(
  forward: Callable[[jax.Array], jax.Array], image_shape: tuple[int, ...]
) -> bytes:
  """Returns an ONNX model of images uint8 [B, H, W, C] -> [B, K], for any B."""
  import jax2onnx

  images = jax.ShapeDtypeStruct(('B', *image_shape), jnp.uint8)
  with jax.numpy_rank_promotion('allow'):  # jax2onnx adds biases so.
    model = jax2onnx.to_onnx(forward, [images])
  _simplify(model.graph)
  return model.SerializeToString()


def _simplify(graph) -> None:
  """Takes out of a graph what computes nothing.

  A batch's size, which jax2onnx computes for each reshape, is what -1 stands
  for; of two reshapes in a row the second is enough; and a dropout that is not
  training passes its input on. Of a small network these are half of the nodes,
  and each costs a call. The border of a max pool is a matter of its own.
  """
  from onnx import numpy_helper

  constants = {own.name: own for own in graph.initializer}
  maker = {name: node for node in graph.node for name in node.output}
  renamed: dict[str, str] = {}
  for node in graph.node:
    node.input[:] = [renamed.get(name, name) for name in node.input]
    if node.op_type == 'Reshape':
      before = maker.get(node.input[0])
      if before is not None and before.op_type == 'Reshape':
        node.input[0] = before.input[0]
    if node.op_type == 'Reshape' and node.input[1] not in constants:
      shape = maker.get(node.input[1])
      # Whatever else computes a shape may stand for several sizes.
      parts = shape.input if shape and shape.op_type == 'Concat' else ()
      sizes = [
        numpy_helper.to_array(constants[part]).tolist()
        if part in constants
        else [-1]
        for part in parts
      ]
      if sizes.count([-1]) == 1:
        shape = np.concatenate(sizes).astype(np.int64)
        name = f'{node.output[0]}_shape'
        graph.initializer.append(numpy_helper.from_array(shape, name))
        node.input[1] = name
    elif node.op_type == 'Dropout' and _is_off(node, constants):
      renamed[node.output[0]] = node.input[0]
    elif node.op_type == 'MaxPool':
      _take_border(node, maker, constants)
  _drop_unused(graph)


def _take_border(pool, maker, constants) -> None:
  """Makes the border before a max pool part of it, if it is nothing else.

  Else ONNX Runtime takes the images out of its own layout, and back into it,
  for the border alone.
  """
  from onnx import helper, numpy_helper

  transpose = maker.get(pool.input[0])
  if transpose is None or transpose.op_type != 'Transpose':
    return
  border = maker.get(transpose.input[0])
  if border is None or border.op_type != 'Pad':
    return
  if not all(name in constants for name in border.input[1:3]):
    return
  widths, value = (
    numpy_helper.to_array(constants[name]) for name in border.input[1:3]
  )
  (order,) = (own.ints for own in transpose.attribute if own.name == 'perm')
  pads = widths.reshape(2, 4)[:, order]
  known = {own.name: own for own in pool.attribute}
  has_border = 'pads' in known and any(known['pads'].ints)
  has_border |= 'auto_pad' in known and known['auto_pad'].s.startswith(b'SAME')
  if has_border or pads[:, :2].any() or not np.isneginf(value).all():
    return
  for name in {'pads', 'auto_pad'} & set(known):
    pool.attribute.remove(known[name])
  pool.attribute.append(
    helper.make_attribute('pads', pads[:, 2:].reshape(-1).tolist())
  )
  transpose.input[0] = border.input[0]


def _is_off(dropout, constants) -> bool:
  from onnx import numpy_helper

  training = dropout.input[2] if len(dropout.input) > 2 else ''
  if not training:
    return True
  return training in constants and not numpy_helper.to_array(
    constants[training]
  )


def _drop_unused(graph) -> None:
  """Drops nodes and constants that no output depends on."""
  used = {own.name for own in graph.output}
  kept = []
  for node in reversed(graph.node):
    if used & set(node.output):
      used |= set(node.input)
      kept.append(node)
  constants = [own for own in graph.initializer if own.name in used]
  for field, values in (
    (graph.node, kept[::-1]),
    (graph.initializer, constants),
  ):
    del field[:]
    field.extend(values)


def load(folder: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
  """Returns an exported student's prediction, in ONNX Runtime on the CPU.

  Raises:
    ArtifactError: if it is not there, or not what its manifest says.
  """
  _, network = artifact.read(folder, NETWORK)
  return run(network)


def run(network: bytes) -> Callable[[np.ndarray], np.ndarray]:
  """Returns the prediction of an ONNX model, in ONNX Runtime on the CPU."""
  import onnxruntime

  session = onnxruntime.InferenceSession(
    network, providers=['CPUExecutionProvider']
  )
  (images,) = session.get_inputs()

  def predict(pixels):
    (probabilities,) = session.run(None, {images.name: np.asarray(pixels)})
    return probabilities

  return predict
