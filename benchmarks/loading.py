"""Times a fresh process until an exported network has answered.

  make bench

A fresh process imports what it needs, loads the network, and answers first for
one image and then for 100. Three systems take turns:
`kd_jax/export/artifact.py`, which needs JAX alone, without JAX's cache of
compiled programs; the same with that cache; and ONNX Runtime with the ONNX file
exported beside the artifact.

Writes results/bench/MACHINE/bench-MACHINE-loading.json.
"""

import hashlib
import json
import os
import pathlib
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import harness
import inference_systems
import networks
import numpy as np

NETWORKS = ('h300', 'ideal_stem_2', 'ideal', 'baseline', 'teacher')
SYSTEMS = {
  'ours': 'kd_jax, exported',
  'ours-cached': 'kd_jax, exported, compiled before',
  'onnxruntime': 'ONNX Runtime, our ONNX',
}
# The name of kd_jax/export/onnx.py, copied because the import would load JAX.
_ONNX_FILE = 'network.onnx'


def write(name: str, folder: pathlib.Path) -> None:
  """Writes a network as `kd_jax.export` does, without its measurements."""
  from kd_jax.export import artifact, forward

  content = forward.serialize(
    inference_systems.deployed(name), networks.image_shape(name)
  )
  (folder / artifact.NETWORK).write_bytes(content)
  manifest = {
    'sha256': {artifact.NETWORK: hashlib.sha256(content).hexdigest()},
    'image_shape': networks.image_shape(name),
    'classes': list('0123456789'),
  }
  (folder / artifact.MANIFEST).write_text(json.dumps(manifest))
  inference_systems.write_our_onnx(name, folder)


def measure(name: str, system: str, folder: pathlib.Path) -> dict[str, float]:
  """Imports, loads and answers in this process.

  Args:
    name: the network.
    system: a system of SYSTEMS.
    folder: the folder that `write` wrote.
  Returns:
    Seconds of each stage: 'import_s', 'load_s', 'first_1_s', 'first_100_s'.
  """
  images = {
    size: inference_systems.make_images(name, size) for size in (1, 100)
  }
  stages, clock = {}, time.perf_counter()

  def end(stage):
    nonlocal clock
    now = time.perf_counter()
    stages[stage], clock = now - clock, now

  if system == 'onnxruntime':
    predict = _load_onnxruntime(folder, end)
  else:
    predict = _load_ours(folder, end)
  end('load_s')
  for size, batch in images.items():
    np.asarray(predict(batch))
    end(f'first_{size}_s')
  return stages


def _load_onnxruntime(
  folder: pathlib.Path, end: Callable[[str], None]
) -> Callable:
  """Returns a function from images to probabilities in ONNX Runtime."""
  import onnxruntime

  end('import_s')
  session = onnxruntime.InferenceSession(folder / _ONNX_FILE)
  field = session.get_inputs()[0].name
  return lambda images: session.run(None, {field: images})[0]


def _load_ours(folder: pathlib.Path, end: Callable[[str], None]) -> Callable:
  """Returns a function from images to probabilities in JAX."""
  import jax  # noqa: F401

  end('import_s')
  from kd_jax.export import artifact

  return artifact.load(folder).predict


def _run(name: str, system: str, folder: pathlib.Path) -> dict[str, float]:
  """Runs `measure` in a fresh process."""
  cache = {
    'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  return harness.run_in_process(
    __file__,
    f'--worker={name}:{system}',
    f'--folder={folder}',
    environment=cache if system == 'ours-cached' else None,
  )


def _compare(
  name: str, systems: Sequence[str], rounds: int, failures: dict[str, str]
) -> dict[str, dict]:
  """Returns file sizes, and quartiles of each stage's seconds, by system.

  Args:
    name: the network.
    systems: the systems to compare.
    rounds: number of rounds.
    failures: gets the reason of each system that fails, which is left out from
      then on.
  """
  from kd_jax.export import artifact

  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    write(name, folder)
    _run(name, 'ours-cached', folder)  # Fills the cache of compiled programs.
    runs: dict[str, list[Any]] = {system: [] for system in systems}
    for done in range(rounds):
      for system in random.Random(done).sample(list(runs), len(runs)):
        if system in failures:
          continue
        try:
          runs[system].append(_run(name, system, folder))
        except harness.SystemFailed as error:
          failures[system] = f'ended in round {done + 1}, {name}: {error}'
          print(f'{system}: {failures[system]}', flush=True)
    files = dict.fromkeys(SYSTEMS, artifact.NETWORK)
    files['onnxruntime'] = _ONNX_FILE
    return {
      system: {'bytes': os.path.getsize(folder / files[system])}
      | harness.quartiles_by_key(measured)
      for system, measured in runs.items()
      if measured
    }


def main() -> None:
  """Runs the benchmark, or one worker of the benchmark."""
  parser = harness.make_parser(__doc__, rounds=7, systems=[*SYSTEMS])
  parser.add_argument('--networks', nargs='*', default=NETWORKS)
  parser.add_argument('--folder', type=pathlib.Path, help='for a worker')
  args = parser.parse_args()
  if args.worker:
    name, system = args.worker.split(':')
    print(json.dumps(measure(name, system, args.folder)))
    return
  systems = harness.select_systems(SYSTEMS, args.systems)
  loading: dict[str, dict] = {}
  failures: dict[str, str] = {}
  for name in args.networks:
    loading[name] = _compare(name, [*systems], args.rounds, failures)
    print(name, loading[name], flush=True)
  harness.write_record(
    args.out_dir,
    'loading',
    peers=('onnxruntime', 'jax2onnx'),
    about=systems,
    loading=loading,
    failures=failures,
  )


if __name__ == '__main__':
  main()
