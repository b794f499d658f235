"""Using trained networks: ours beside PyTorch, ONNX Runtime and OpenVINO.

  make bench

From uint8 images to probabilities, at batches of 1, 32, 100 and 1,000, for the
teacher of Table 2, its students and Table 1's 784-300-10. Ours are jitted with
their batch norms folded, and exported and loaded back. The outputs of systems
that compute in float32 are equal before any timing.

Beside them stands the machine's limit: the least time that the fastest matrix
product and the fastest copy of any library, measured in the same rounds, leave
for a network's multiply-accumulates and for the bytes that it must touch
(parameters, images, probabilities).

Where JAX has a GPU, JAX and PyTorch compute on that (PyTorch compiled with
mode='max-autotune', which makes CUDA graphs, too), the others are left out, and
images lie in its memory; probabilities go to the host's.

The export and what it was made of are compared once more, in turns of one
process: in two, where each has its memory makes up to a quarter of a
difference.

Writes results/bench-MACHINE-inference-NETWORK.json, for each network.
"""

import functools
import json
import pathlib
import tempfile
from collections.abc import Callable

import harness
import networks
import numpy as np

BATCHES = (1, 32, 100, 1000)
NETWORKS = ('h300', 'ideal_stem_2', 'ideal', 'baseline', 'teacher')
SYSTEMS = {
  'ours': 'kd_jax, jitted',
  'ours-exported': 'kd_jax, exported and loaded back',
  'torch': 'PyTorch, eager',
  'torch-compiled': 'PyTorch, torch.compile',
  'torch-bfloat16': 'PyTorch, eager, bfloat16',
  'onnxruntime': 'ONNX Runtime, of our ONNX',
  'onnxruntime-torch': "ONNX Runtime, of PyTorch's ONNX",
  'openvino': 'OpenVINO, of our ONNX',
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
_CHECKED = 8  # images
# Of timed calls of the export and of the live function, each, in one process.
_ONE_PROCESS_S = 3.0


def make_images(name: str, count: int) -> np.ndarray:
  """Returns random images, the same everywhere."""
  shape = (count, *networks.image_shape(name))
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def make_system(
  name: str, predict: Callable, *, prepare=lambda images: images, check=True
) -> harness.System:
  """Returns a system.

  Args:
    name: of the network.
    predict: of prepared images -> probabilities as a numpy array.
    prepare: what a caller of this system would hold its images as.
    check: whether its outputs must be the others'.
  """
  batches = {
    str(size): prepare(make_images(name, size)) for size in (_CHECKED, *BATCHES)
  }

  def turn(case):
    return harness.repeat(lambda: predict(batches[case]), int(case))

  outputs = np.asarray(predict(batches[str(_CHECKED)]), np.float64)
  return harness.System(turn, outputs.reshape(-1).tolist() if check else None)


# --- Ours. ---


def deployed(name: str, preprocess=None, **fields):
  """Returns images -> probabilities of our network, as it is in use."""
  from kd_jax import models
  from kd_jax.data import preprocessing
  from kd_jax.export import forward

  module, variables = models.folding.fold(
    networks.make_module(name, **fields), networks.make_variables(name)
  )
  return forward.make_forward(
    module, variables, preprocess or preprocessing.apart('unit')
  )


def ours(name: str, *, bfloat16: bool = False) -> harness.System:
  """Jitted, for each batch."""
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
  """Loaded as on a machine that has JAX alone."""
  import jax

  predict = _loaded(name)
  return make_system(
    name,
    lambda images: np.asarray(predict(images)),
    prepare=jax.device_put,
  )


def _loaded(name: str) -> Callable:
  import jax

  from kd_jax.export import forward

  exported = jax.export.deserialize(
    bytearray(forward.serialize(deployed(name), networks.image_shape(name)))
  )
  return jax.jit(exported.call)


def exported_over_live(name: str) -> dict[str, dict[str, float]]:
  """Returns seconds of the export over the live function's, by batch.

  In turns of one process; quartiles.
  """
  import jax

  from kd_jax.benchmark import timing

  calls = {'live': jax.jit(deployed(name)), 'exported': _loaded(name)}
  ratios = {}
  for size in BATCHES:
    images = jax.device_put(make_images(name, size))
    seconds = timing.interleave(
      {key: functools.partial(call, images) for key, call in calls.items()},
      budget_s=_ONE_PROCESS_S,
    )
    ratios[str(size)] = timing.quartiles(
      np.divide(seconds['exported'], seconds['live'])
    )
  return ratios


# --- Others. ---


def _torch_forward(name: str):
  """Returns a module of uint8 images [B, H, W, C] -> probabilities."""
  import torch

  class Forward(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.net = networks.make_torch(name)

    def forward(self, images):
      # Of NHWC images, permuted: channels-last without a copy.
      x = images.permute(0, 3, 1, 2).float() / 255
      return torch.softmax(self.net(x).float(), dim=1)

  return Forward().eval()


def torch_eager(
  name: str, *, bfloat16: bool = False, compiled: bool = False
) -> harness.System:
  """Channels-last."""
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
  from kd_jax.data import preprocessing
  from kd_jax.export import onnx

  shape = networks.image_shape(name)
  forward = deployed(
    name, preprocessing.affine('unit', shape), quantization='flax'
  )
  content = onnx.convert(forward, shape)
  (folder / onnx.NETWORK).write_bytes(content)


def write_torch_onnx(name: str, folder: pathlib.Path) -> None:
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
  """ONNX Runtime, with its own defaults."""
  from kd_jax.export import onnx

  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    write(name, folder)
    return make_system(
      name, onnx.make_predict((folder / onnx.NETWORK).read_bytes())
    )


def openvino(name: str) -> harness.System:
  """OpenVINO in float32, told to answer soon and not to serve many callers."""
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
LIMITS = {'ours': harness.jax_limits, 'torch': harness.torch_limits}


# --- The limit. ---


def _costs(name: str) -> dict[str, int]:
  """Returns multiply-accumulates and bytes of an image, and of parameters."""
  from kd_jax.models import costs

  parameters = costs.count_parameters(networks.make_variables(name)['params'])
  return {
    'macs': networks.macs(name),
    'parameter_bytes': 4 * parameters,
    'image_bytes': int(np.prod(networks.image_shape(name))) + 4 * 10,
  }


def _work(costs: dict[str, int], batch: str) -> tuple[float, float]:
  """Returns operations and bytes of an image, of a batch of so many."""
  return 2 * costs['macs'], (
    costs['image_bytes'] + costs['parameter_bytes'] / int(batch)
  )


def main() -> None:
  parser = harness.parser(__doc__, rounds=7)
  parser.add_argument('--networks', nargs='*', default=NETWORKS)
  parser.add_argument('--systems', nargs='*', default=())
  args = parser.parse_args()
  cases = list(map(str, BATCHES))
  if args.worker:
    network, system = args.worker.split(':')
    if system == 'exported-over-live':
      print(json.dumps(exported_over_live(network)))
      return
    make = functools.partial(MAKERS[system], network)
    harness.worker(make, cases, LIMITS.get(system))
    return
  on_gpu = harness.on_gpu()
  systems = harness.chosen(GPU_SYSTEMS if on_gpu else SYSTEMS, args.systems)
  for network in args.networks:
    print(f'--- {network}', flush=True)
    results = harness.compare(
      {
        system: functools.partial(
          harness.Worker, __file__, f'{network}:{system}'
        )
        for system in systems
      },
      cases,
      rounds=args.rounds,
      limits_of=tuple(name for name in LIMITS if name in systems),
      # On a GPU a product's factors have ten bits each.
      rtol=5e-2 if on_gpu else 1e-3,
      atol=1e-3 if on_gpu else 1e-5,
    )
    del results['checks']
    costs = _costs(network)
    harness.add_shares(
      results, lambda batch, system, costs=costs: _work(costs, batch)
    )
    peers = () if on_gpu else ('onnxruntime', 'openvino', 'jax2onnx')
    harness.write(
      args.out_dir,
      f'inference-{network}',
      peers=('torch', *peers),
      network=network,
      costs=costs,
      about=systems,
      exported_over_live=harness.in_process(
        __file__, f'--worker={network}:exported-over-live'
      ),
      **results,
    )


if __name__ == '__main__':
  main()
