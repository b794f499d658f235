"""Exports a student of a run as a folder that needs only JAX to run.

  python -m kd_jax.export RUN_DIR --row=ROW
  python -m kd_jax.export RUN_DIR --row=h300 --seed=1 --output=FOLDER
  python -m kd_jax.export RUN_DIR --row=ROW --onnx

The folder holds the network as portable StableHLO (`jax.export`) for CPU, CUDA
and TPU, and a manifest. The network contains its weights, the scaling of its
inputs and the softmax: it maps stored images to probabilities, for any batch
size. With --onnx, the folder also holds the network as ONNX, for ONNX Runtime
and other ONNX runtimes; `make onnx` installs the packages that --onnx needs.
With --weights, it also holds the weights as .safetensors files, a ResNet's also
with torchvision's names: see kd_jax/export/weights.py.
The exporter loads the networks back from the folder. The accuracy and the
latency in the manifest are those of the loaded networks.

`kd_jax/export/artifact.py` loads the folder, and `python -m kd_jax.predict`
classifies image files with it.
"""

import argparse
import pathlib
import shlex
from typing import Any

from kd_jax.export import exporter
from kd_jax.runtime import command_basics, compilation_cache, local_paths


def _parse_args() -> dict[str, Any]:
  parser = argparse.ArgumentParser(
    prog='python -m kd_jax.export',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('run_dir', help='folder of a run')
  parser.add_argument(
    '--row', help='row of the student; needed if the run has several rows'
  )
  parser.add_argument(
    '--seed',
    type=int,
    help='seed of the student; by default the first seed of the row',
  )
  parser.add_argument(
    '--output',
    help='folder to write; by default RUN_DIR/export/ROW-seed-SEED',
  )
  parser.add_argument(
    '--data_dir',
    help='folder of prepared data; by default a cache folder of the user',
  )
  parser.add_argument(
    '--onnx',
    dest='with_onnx',
    action='store_true',
    help='also write the student as ONNX; needs `make onnx`',
  )
  parser.add_argument(
    '--weights',
    dest='with_weights',
    action='store_true',
    help='also write the weights as .safetensors; needs the package '
    'safetensors',
  )
  parser.add_argument(
    '--allow-code',
    action='store_true',
    help='import the module that a run of a user-defined network names; needed '
    'only for such runs, and safe only for runs that you trust',
  )
  return vars(command_basics.parse_arguments(parser))


def _format_network(
  folder: pathlib.Path, manifest: dict[str, Any], name: str
) -> str:
  """Returns a line with the size, accuracy and latency of a written network."""
  file_name = exporter.FILE_NAMES[name]
  measured = manifest['measured'][name]
  latency = ', '.join(
    f'{1e3 * networks[name]["call_s"]["median"]:.3f} ms for {size}'
    for size, networks in manifest['latency'].items()
  )
  accuracy = 'not measured'
  if 'test' in measured:
    accuracy = f'{100 * measured["test"]["accuracy"]:.2f} %'
  return (
    f'{folder / file_name}: {manifest["bytes"][file_name] / 1e6:.1f} MB, '
    f'loaded in {measured["load_s"]:.2f} s; test accuracy {accuracy}; '
    f'{latency}'
  )


def main() -> None:
  """Runs the command line; see the module's docstring."""
  with command_basics.one_line_errors('exports again'):
    args = _parse_args()
    compilation_cache.enable()
    for name in ('run_dir', 'output', 'data_dir'):
      if args[name] is not None:
        args[name] = local_paths.expand(args[name], name)
    folder, manifest = exporter.export(args.pop('run_dir'), **args)
    for name in manifest['measured']:
      print(_format_network(folder, manifest, name))
    for name in manifest['bytes']:
      if name.endswith('.safetensors'):
        print(f'{folder / name}: {manifest["bytes"][name] / 1e6:.1f} MB')
    predict = command_basics.task('predict')
    print(f'classify images: {predict} {shlex.quote(str(folder))} IMAGE...')


if __name__ == '__main__':
  main()
