"""Times inference of trained networks, ours and other systems.

  make bench

A call maps uint8 images to probabilities, at batches of 1, 32, 100 and 1,000,
for the teacher of Table 2, its students and Table 1's 784-300-10. Our networks
are jitted with their batch norms folded, and exported and loaded back. The
outputs of all systems that compute in float32 are compared before anything is
timed.

The machine's limit is the least time that the fastest matrix product and the
fastest copy of any library, measured in the same rounds, leave for a network's
multiply-accumulates and for the bytes that it must touch (parameters, images,
probabilities).

If JAX has a GPU, JAX and PyTorch compute on the GPU and the other systems are
left out. PyTorch is then compiled with mode='max-autotune', which includes CUDA
graphs. Images lie in the GPU's memory; probabilities are copied to the host.

The exported network and the live one are compared once more, in turns in one
process: in two processes, the placement of memory alone makes up to a quarter
of a difference.

For each network, writes
results/bench/MACHINE/bench-MACHINE-inference-NETWORK.json.
"""

import argparse
import functools
import json
from collections.abc import Callable, Mapping

import comparison
import harness
import inference_systems
import limits
import networks
import numpy as np

NETWORKS = ('h300', 'ideal_stem_2', 'ideal', 'baseline', 'teacher')
_ONE_PROCESS_S = 3.0  # Timed seconds of each function in `exported_over_live`.
_LIMITS = {
  'ours': limits.measure_with_jax,
  'torch': limits.measure_with_torch,
}


def exported_over_live(name: str) -> dict[str, dict[str, float]]:
  """Times the exported network and the live one in turns in this process.

  Returns:
    Quartiles of the exported network's seconds over the live one's, by batch.
  """
  import jax

  from kd_jax.benchmark import timing

  calls: dict[str, Callable] = {
    'live': jax.jit(inference_systems.deployed(name)),
    'exported': inference_systems.loaded(name),
  }
  ratios = {}
  for size in inference_systems.BATCHES:
    images = jax.device_put(inference_systems.make_images(name, size))
    seconds = timing.interleave(
      {key: functools.partial(call, images) for key, call in calls.items()},
      budget_s=_ONE_PROCESS_S,
    )
    ratios[str(size)] = timing.quartiles(
      np.divide(seconds['exported'], seconds['live'])
    )
  return ratios


# --- The limit. ---


def _costs(name: str) -> dict[str, int]:
  """Returns the costs of a forward pass.

  Returns:
    'macs': multiply-accumulates of an image. 'parameter_bytes': bytes of all
    parameters. 'image_bytes': bytes of an image and its probabilities.
  """
  from kd_jax.models import costs

  parameters = costs.count_parameters(networks.make_variables(name)['params'])
  return {
    'macs': networks.macs(name),
    'parameter_bytes': 4 * parameters,
    'image_bytes': int(np.prod(networks.image_shape(name))) + 4 * 10,
  }


def _work(costs: dict[str, int], batch: str) -> tuple[float, float]:
  """Returns operations and bytes of an image; a batch shares the parameters."""
  return 2 * costs['macs'], (
    costs['image_bytes'] + costs['parameter_bytes'] / int(batch)
  )


def _compare(
  network: str, systems: Mapping[str, str], args: argparse.Namespace
) -> None:
  """Compares the systems on a network, and writes the record."""
  on_gpu = harness.on_gpu()
  results = comparison.compare(
    {
      system: functools.partial(harness.Worker, __file__, f'{network}:{system}')
      for system in systems
    },
    list(map(str, inference_systems.BATCHES)),
    rounds=args.rounds,
    limit_systems=tuple(name for name in _LIMITS if name in systems),
    # A GPU multiplies with ten bits of mantissa.
    rtol=5e-2 if on_gpu else 1e-3,
    atol=1e-3 if on_gpu else 1e-5,
  )
  del results['checks']
  try:
    exported_over_live = harness.run_in_process(
      __file__, f'--worker={network}:exported-over-live'
    )
  except harness.SystemFailed as error:
    exported_over_live = {}
    results['failures']['exported over live'] = str(error)
  costs = _costs(network)
  limits.add_shares(results, lambda batch, system: _work(costs, batch))
  peers = () if on_gpu else ('onnxruntime', 'openvino', 'jax2onnx')
  harness.write_record(
    args.out_dir,
    f'inference-{network}',
    peers=('torch', *peers),
    network=network,
    costs=costs,
    about=systems,
    exported_over_live=exported_over_live,
    **results,
  )


def main() -> None:
  """Runs the benchmark, or one worker of the benchmark."""
  parser = harness.make_parser(
    __doc__,
    rounds=7,
    systems=[*(inference_systems.SYSTEMS | inference_systems.GPU_SYSTEMS)],
  )
  parser.add_argument('--networks', nargs='*', default=NETWORKS)
  args = parser.parse_args()
  if args.worker:
    network, system = args.worker.split(':')
    if system == 'exported-over-live':
      print(json.dumps(exported_over_live(network)))
      return
    make = functools.partial(inference_systems.MAKERS[system], network)
    harness.serve(
      make, list(map(str, inference_systems.BATCHES)), _LIMITS.get(system)
    )
    return
  systems = harness.select_systems(
    inference_systems.GPU_SYSTEMS
    if harness.on_gpu()
    else inference_systems.SYSTEMS,
    args.systems,
  )
  for network in args.networks:
    print(f'--- {network}', flush=True)
    _compare(network, systems, args)


if __name__ == '__main__':
  main()
