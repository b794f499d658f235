"""Students as ONNX models, for ONNX Runtime, OpenVINO and other runtimes.

ONNX needs extra packages: jax2onnx converts a student, and ONNX Runtime runs
it. `make onnx` installs the packages; see requirements-onnx.txt.
"""

import contextlib
import importlib.util
import pathlib
import warnings
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import models
from kd_jax.export import artifact
from kd_jax.runtime import errors

NETWORK = 'network.onnx'
# The packages that ONNX needs.
PACKAGES = ('jax2onnx', 'onnx_ir', 'onnxruntime')


def check_supported(scheme: str) -> None:
  """Checks that a student can be written as ONNX on this machine.

  Args:
    scheme: the `quantization` of the student's config section.
  Raises:
    UserError: if a package is missing, or ONNX lacks the operations.
  """
  missing = [
    name for name in PACKAGES if importlib.util.find_spec(name) is None
  ]
  if missing:
    raise errors.UserError(
      f'ONNX needs {" and ".join(missing)}, not installed here: make onnx, or '
      'pip install -r requirements-onnx.txt; pip install --no-deps jax2onnx'
    )
  quantization = models.quantization.SCHEMES[scheme]
  # jax2onnx cannot convert products of integers.
  if quantization.bits and not quantization.in_buckets:
    raise errors.UserError(
      f'a student with student.quantization={scheme} cannot be written as '
      'ONNX: export it without --onnx'
    )


def with_flax_convolutions(network: nn.Module) -> nn.Module:
  """Returns a deployed network that uses Flax's convolutions, which ONNX has.

  Args:
    network: a network from `from_config.deploy`. A network of the user's is
      returned unchanged: its layers are the user's.
  """
  if isinstance(network, models.user.NETWORKS):
    return network
  return network.clone(quantization='flax')


def convert(
  forward: Callable[[jax.Array], jax.Array], image_shape: tuple[int, ...]
) -> bytes:
  """Converts a forward pass to an ONNX model.

  Args:
    forward: a function from images uint8 [B, H, W, C] to probabilities [B, K].
    image_shape: [H, W, C].
  Returns:
    The serialized ONNX model, which accepts any batch size B.
  """
  import jax2onnx

  images = jax.ShapeDtypeStruct(('B', *image_shape), jnp.uint8)
  # jax2onnx adds biases of a lower rank.
  with jax.numpy_rank_promotion('allow'), _without_warnings_of_jax2onnx():
    model = jax2onnx.to_onnx(forward, [images])
  # jax2onnx notes wrong shapes of some arrays; runtimes find the right ones.
  del model.graph.value_info[:]
  _simplify(model.graph)
  return model.SerializeToString()


@contextlib.contextmanager
def _without_warnings_of_jax2onnx() -> Iterator[None]:
  """Hides warnings about the code of jax2onnx, which nobody here can mend."""
  with warnings.catch_warnings():
    for message in (
      "'.value' access is now deprecated",
      'Explicitly requested dtype float64',
    ):
      warnings.filterwarnings('ignore', message)
    yield


# --- Simplification of the graph. ---


def _simplify(graph) -> None:
  """Removes nodes that compute nothing from an ONNX graph, in place.

  In a small network, half of the nodes compute nothing, and each node costs a
  call. These nodes are the sizes of batches that jax2onnx computes for each
  reshape, the first of two reshapes in a row, and dropouts outside training.
  The padding before a max pool becomes part of the pool.
  """
  constants = {tensor.name: tensor for tensor in graph.initializer}
  producers = {name: node for node in graph.node for name in node.output}
  replacements: dict[str, str] = {}
  for node in graph.node:
    node.input[:] = [replacements.get(name, name) for name in node.input]
    if node.op_type == 'Reshape':
      _skip_previous_reshape(node, producers)
      _make_shape_constant(node, graph, constants, producers)
    elif node.op_type == 'Dropout' and _is_inactive(node, constants):
      replacements[node.output[0]] = node.input[0]
    elif node.op_type == 'MaxPool':
      _absorb_padding(node, constants, producers)
  _remove_unused(graph)


def _skip_previous_reshape(reshape, producers) -> None:
  """Makes the second of two reshapes in a row read the input of the first."""
  previous = producers.get(reshape.input[0])
  if previous is not None and previous.op_type == 'Reshape':
    reshape.input[0] = previous.input[0]


def _make_shape_constant(reshape, graph, constants, producers) -> None:
  """Replaces a computed shape by a constant with -1 for the batch size."""
  from onnx import numpy_helper

  if reshape.input[1] in constants:
    return
  shape = producers.get(reshape.input[1])
  # A shape from any other operation may hold several computed sizes.
  if shape is None or shape.op_type != 'Concat':
    return
  sizes = [
    numpy_helper.to_array(constants[part]).tolist()
    if part in constants
    else [-1]
    for part in shape.input
  ]
  if sizes.count([-1]) != 1:
    return
  name = f'{reshape.output[0]}_shape'
  graph.initializer.append(
    numpy_helper.from_array(np.concatenate(sizes).astype(np.int64), name)
  )
  reshape.input[1] = name


def _is_inactive(dropout, constants) -> bool:
  """Returns whether a dropout is not training, and passes its input on."""
  from onnx import numpy_helper

  training = dropout.input[2] if len(dropout.input) > 2 else ''
  if not training:
    return True
  return training in constants and not numpy_helper.to_array(
    constants[training]
  )


def _absorb_padding(pool, constants, producers) -> None:
  """Moves the padding before a max pool into the pool, if that is equivalent.

  With a separate padding node, ONNX Runtime converts the images from its
  internal layout to the padding's layout and back.
  """
  from onnx import helper, numpy_helper

  transpose = producers.get(pool.input[0])
  if transpose is None or transpose.op_type != 'Transpose':
    return
  pad = producers.get(transpose.input[0])
  if pad is None or pad.op_type != 'Pad':
    return
  if not all(name in constants for name in pad.input[1:3]):
    return
  widths, value = (
    numpy_helper.to_array(constants[name]) for name in pad.input[1:3]
  )
  (axes,) = (item.ints for item in transpose.attribute if item.name == 'perm')
  # Rows: before and after; columns: the axes in the pool's order, N C H W.
  widths = widths.reshape(2, 4)[:, axes]
  pads_only_space = not widths[:, :2].any()
  if _has_padding(pool) or not pads_only_space or not np.isneginf(value).all():
    return
  for item in [i for i in pool.attribute if i.name in ('pads', 'auto_pad')]:
    pool.attribute.remove(item)
  pool.attribute.append(
    helper.make_attribute('pads', widths[:, 2:].reshape(-1).tolist())
  )
  transpose.input[0] = pad.input[0]


def _has_padding(pool) -> bool:
  """Returns whether a pool already pads its input."""
  attributes = {item.name: item for item in pool.attribute}
  if 'pads' in attributes and any(attributes['pads'].ints):
    return True
  return 'auto_pad' in attributes and attributes['auto_pad'].s.startswith(
    b'SAME'
  )


def _remove_unused(graph) -> None:
  """Removes the nodes and constants that no output depends on."""
  used = {output.name for output in graph.output}
  nodes = []
  for node in reversed(graph.node):
    if used & set(node.output):
      used |= set(node.input)
      nodes.append(node)
  constants = [tensor for tensor in graph.initializer if tensor.name in used]
  del graph.node[:]
  graph.node.extend(reversed(nodes))
  del graph.initializer[:]
  graph.initializer.extend(constants)


# --- Prediction. ---


def load(folder: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
  """Loads an exported student in ONNX Runtime on the CPU.

  Args:
    folder: the artifact's folder.
  Returns:
    The prediction function, see `make_onnx_predict`.
  Raises:
    ArtifactError: if the ONNX file is missing or differs from the manifest.
  """
  _, model = artifact.read(folder, NETWORK)
  return make_onnx_predict(model)


def make_onnx_predict(model: bytes) -> Callable[[np.ndarray], np.ndarray]:
  """Returns the prediction function of a serialized ONNX model.

  Args:
    model: a model from `convert`.
  Returns:
    A function from images uint8 [B, H, W, C] to probabilities float32 [B, K],
    computed by ONNX Runtime on the CPU.
  """
  import onnxruntime

  session = onnxruntime.InferenceSession(
    model, providers=['CPUExecutionProvider']
  )
  (session_input,) = session.get_inputs()

  def predict(images):
    (probabilities,) = session.run(
      None, {session_input.name: np.asarray(images)}
    )
    return probabilities

  return predict
