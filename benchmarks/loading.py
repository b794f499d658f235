"""What it takes until an exported network answers, in a process of its own.

  make bench

A fresh process imports what it needs, loads the network and has its first
answers, of one image and of 100: `kd_jax/artifact.py` with jax alone, without
and with JAX's cache of compiled programs in a folder, and ONNX Runtime with the
ONNX that was exported beside it. They take turns.

Writes results/bench-MACHINE-loading.json.
"""

import hashlib
import json
import os
import pathlib
import random
import tempfile
import time

import harness
import inference
import networks
import numpy as np

NETWORKS = ('h300', 'ideal_stem_2', 'ideal', 'baseline', 'teacher')
SYSTEMS = {
  'ours': 'kd_jax, exported',
  'ours-cached': 'kd_jax, exported, compiled before',
  'onnxruntime': 'ONNX Runtime, of our ONNX',
}
# As in kd_jax/onnx.py, which would have JAX imported, too.
FILES = {'onnxruntime': 'network.onnx'}


def write(name: str, folder: pathlib.Path) -> None:
  """Writes a network as `kd_jax.export` does, without what it measures."""
  from kd_jax.export import artifact, forward

  content = forward.serialize(
    inference.deployed(name), networks.image_shape(name)
  )
  (folder / artifact.NETWORK).write_bytes(content)
  manifest = {
    'sha256': {artifact.NETWORK: hashlib.sha256(content).hexdigest()},
    'image_shape': networks.image_shape(name),
    'classes': list('0123456789'),
  }
  (folder / artifact.MANIFEST).write_text(json.dumps(manifest))
  inference.write_our_onnx(name, folder)


def measure(name: str, system: str, folder: pathlib.Path) -> dict[str, float]:
  """Returns the seconds of each stage, in this process."""
  images = {str(size): inference.make_images(name, size) for size in (1, 100)}
  stages, clock = {}, time.perf_counter()

  def end(stage):
    nonlocal clock
    now = time.perf_counter()
    stages[stage], clock = now - clock, now

  if system == 'onnxruntime':
    import onnxruntime

    end('import_s')
    session = onnxruntime.InferenceSession(folder / FILES[system])
    field = session.get_inputs()[0].name
    predict = lambda images: session.run(None, {field: images})[0]
  else:
    import jax  # noqa: F401

    end('import_s')
    from kd_jax.export import artifact

    predict = artifact.load(folder).predict
  end('load_s')
  for size, own in images.items():
    np.asarray(predict(own))
    end(f'first_{size}_s')
  return stages


def _run(name: str, system: str, folder: pathlib.Path) -> dict[str, float]:
  cache = {
    'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  return harness.in_process(
    __file__,
    f'--worker={name}:{system}',
    f'--folder={folder}',
    environment=cache if system == 'ours-cached' else None,
  )


def main() -> None:
  parser = harness.parser(__doc__, rounds=7)
  parser.add_argument('--networks', nargs='*', default=NETWORKS)
  parser.add_argument('--folder', type=pathlib.Path, help='of a worker')
  args = parser.parse_args()
  if args.worker:
    name, system = args.worker.split(':')
    print(json.dumps(measure(name, system, args.folder)))
    return
  from kd_jax.benchmark import timing
  from kd_jax.export import artifact

  loading = {}
  for name in args.networks:
    with tempfile.TemporaryDirectory() as folder:
      folder = pathlib.Path(folder)
      write(name, folder)
      _run(name, 'ours-cached', folder)  # Compiles.
      runs = {system: [] for system in SYSTEMS}
      for done in range(args.rounds):
        for system in random.Random(done).sample(list(runs), len(runs)):
          runs[system].append(_run(name, system, folder))
      loading[name] = {
        system: {
          'bytes': os.path.getsize(folder / FILES.get(system, artifact.NETWORK))
        }
        | {
          stage: timing.quartiles([run[stage] for run in own])
          for stage in own[0]
        }
        for system, own in runs.items()
      }
    print(name, loading[name], flush=True)
  harness.write(
    args.out_dir,
    'loading',
    peers=('onnxruntime', 'jax2onnx'),
    about=SYSTEMS,
    loading=loading,
  )


if __name__ == '__main__':
  main()
