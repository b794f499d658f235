"""The systems of inference.py, each in a process: ours and the others."""

import functools
import pathlib
import tempfile
from collections.abc import Callable

import harness
import networks
import numpy as np

BATCHES = (1, 32, 100, 1000)
SYSTEMS = {
  'ours': 'kd_jax, jitted',
  'ours-exported': 'kd_jax, exported and loaded back',
  'torch': 'PyTorch, eager',
  'torch-compiled': 'PyTorch, torch.compile',
  'torch-bfloat16': 'PyTorch, eager, bfloat16',
  'onnxruntime': 'ONNX Runtime, our ONNX',
  'onnxruntime-torch': "ONNX Runtime, PyTorch's ONNX",
  'openvino': 'OpenVINO, our ONNX',
}
GPU_SYSTEMS = {
  'ours': 'kd_jax, jitted',
  'ours-bfloat16': 'kd_jax, jitted, bfloat16',
  'ours-exported': 'kd_jax, exported and loaded back',
  'torch': 'PyTorch, eager',
  'torch-bfloat16': 'PyTorch, eager, bfloat16',
  'torch-compiled': 'PyTorch, torch.compile',
  'torch-compiled-bfloat16': 'PyTorch, torch.compile, bfloat16',
}
_CHECKED = 8  # Images whose probabilities are compared.


def make_images(name: str, count: int) -> np.ndarray:
  """Returns random images uint8 [N, H, W, C], the same in every process."""
  shape = (count, *networks.image_shape(name))
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def make_system(
  name: str, predict: Callable, *, prepare=lambda images: images, check=True
) -> harness.System:
  """Returns a system that repeats predictions of a batch in each turn.

  Args:
    name: the network.
    predict: prepared images -> probabilities as a NumPy array.
    prepare: NumPy images -> images in the form in which a caller holds them.
    check: whether the probabilities must equal those of the other systems.
  """
  batches = {
    str(size): prepare(make_images(name, size)) for size in (_CHECKED, *BATCHES)
  }

  def turn(case):
    return harness.repeat(lambda: predict(batches[case]), int(case))

  outputs = np.asarray(predict(batches[str(_CHECKED)]), np.float64)
  return harness.System(turn, outputs.reshape(-1).tolist() if check else None)


# --- Our systems. ---


def deployed(name: str, preprocess=None, **fields):
  """Returns our network for use: uint8 images -> probabilities.

  Args:
    name: the network.
    preprocess: images -> scaled images; by default by a table, as in an export.
    **fields: further fields of the module.
  """
  from kd_jax import models
  from kd_jax.data import preprocessing
  from kd_jax.export import forward

  module, variables = models.folding.fold(
    networks.make_module(name, **fields), networks.make_variables(name)
  )
  return forward.make_forward(
    module, variables, preprocess or preprocessing.unfused('unit')
  )


def ours(name: str, *, bfloat16: bool = False) -> harness.System:
  """Returns our network, jitted."""
  import jax

  fields = {'dtype': 'bfloat16'} if bfloat16 else {}
  forward = jax.jit(deployed(name, **fields))
  return make_system(
    name,
    lambda images: np.asarray(forward(images)),
    prepare=jax.device_put,
    check=not bfloat16,
  )


def ours_exported(name: str) -> harness.System:
  """Returns our network, exported and loaded with JAX alone."""
  import jax

  predict = loaded(name)
  return make_system(
    name,
    lambda images: np.asarray(predict(images)),
    prepare=jax.device_put,
  )


def loaded(name: str) -> Callable:
  """Returns our network after an export, jitted."""
  import jax

  from kd_jax.export import forward

  exported = jax.export.deserialize(
    bytearray(forward.serialize(deployed(name), networks.image_shape(name)))
  )
  return jax.jit(exported.call)


# --- Other systems. ---


def _torch_forward(name: str):
  """Returns a PyTorch module: uint8 images [B, H, W, C] -> probabilities."""
  import torch
  import torch_networks

  class Forward(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.net = torch_networks.make(name)

    def forward(self, images):
      # Permuted NHWC images are channels-last without a copy.
      x = images.permute(0, 3, 1, 2).float() / 255
      return torch.softmax(self.net(x).float(), dim=1)

  return Forward().eval()


def torch_eager(
  name: str, *, bfloat16: bool = False, compiled: bool = False
) -> harness.System:
  """Returns the network in PyTorch, channels-last.

  Args:
    name: the network.
    bfloat16: whether it computes under bfloat16 autocast.
    compiled: whether it is compiled; otherwise eager.
  """
  import torch

  device = harness.torch_device()
  forward = _torch_forward(name).to(device)
  if compiled:
    mode = 'max-autotune' if device == 'cuda' else None
    forward = torch.compile(forward, dynamic=False, mode=mode)

  def predict(images):
    with (
      torch.inference_mode(),
      torch.autocast(device, dtype=torch.bfloat16, enabled=bfloat16),
    ):
      return forward(images).cpu().numpy()

  return make_system(
    name,
    predict,
    prepare=lambda images: torch.from_numpy(images).to(device),
    check=not bfloat16,
  )


def write_our_onnx(name: str, folder: pathlib.Path) -> None:
  """Writes our ONNX file of a network into a folder."""
  from kd_jax.data import preprocessing
  from kd_jax.export import onnx

  shape = networks.image_shape(name)
  forward = deployed(
    name, preprocessing.affine('unit', shape), quantization='flax'
  )
  content = onnx.convert(forward, shape)
  (folder / onnx.NETWORK).write_bytes(content)


def write_torch_onnx(name: str, folder: pathlib.Path) -> None:
  """Writes PyTorch's ONNX file of a network into a folder."""
  import torch

  from kd_jax.export import onnx

  torch.onnx.export(
    _torch_forward(name),
    (torch.from_numpy(make_images(name, 2)),),
    folder / onnx.NETWORK,
    dynamo=True,
    external_data=False,
    dynamic_shapes=({0: torch.export.Dim('batch')},),
  )


def onnxruntime(name: str, write: Callable) -> harness.System:
  """Returns the network in ONNX Runtime, with default options.

  Args:
    name: the network.
    write: a function that writes the ONNX file into a folder.
  """
  from kd_jax.export import onnx

  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    write(name, folder)
    return make_system(
      name, onnx.make_onnx_predict((folder / onnx.NETWORK).read_bytes())
    )


def openvino(name: str) -> harness.System:
  """Returns the network in OpenVINO: float32, optimized for latency."""
  import openvino

  from kd_jax.export import onnx

  with tempfile.TemporaryDirectory() as folder:
    write_our_onnx(name, pathlib.Path(folder))
    core = openvino.Core()
    model = core.read_model(pathlib.Path(folder) / onnx.NETWORK)
  options = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'}
  compiled = core.compile_model(model, 'CPU', options)
  return make_system(name, lambda images: compiled(images)[0])


MAKERS: dict[str, Callable[[str], harness.System]] = {
  'ours': ours,
  'ours-bfloat16': functools.partial(ours, bfloat16=True),
  'ours-exported': ours_exported,
  'torch': torch_eager,
  'torch-compiled': functools.partial(torch_eager, compiled=True),
  'torch-bfloat16': functools.partial(torch_eager, bfloat16=True),
  'torch-compiled-bfloat16': functools.partial(
    torch_eager, compiled=True, bfloat16=True
  ),
  'onnxruntime': functools.partial(onnxruntime, write=write_our_onnx),
  'onnxruntime-torch': functools.partial(onnxruntime, write=write_torch_onnx),
  'openvino': openvino,
}
