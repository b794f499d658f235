"""Times calls of a tiny student on one image, and what a call costs by itself.

  make bench

Table 1's 784-300-10, from one uint8 image in NumPy to probabilities in NumPy,
as in a server. JAX's ways to call a program take turns with each other, with
programs that compute nothing, and with ONNX Runtime. A program that returns its
first ten pixels shows what a call costs whatever it computes.

Writes results/bench/MACHINE/bench-MACHINE-serving.json.
"""

import functools
import pathlib
import tempfile
from collections.abc import Callable

import comparison
import harness
import inference_systems
import numpy as np

_NETWORK = 'h300'
SYSTEMS = {
  'jit': 'jit, a NumPy image',
  'on_device': 'jit, an image on the device',
  'compiled': 'ahead of time (lower, compile), a NumPy image',
  'compiled_on_device': 'ahead of time, an image on the device',
  'synchronous': 'jit, without asynchronous dispatch',
  'synchronous_compiled': 'ahead of time, without asynchronous dispatch',
  'one_thread': 'jit, without asynchronous dispatch and a pool of threads',
  'kept': 'jit, the result left on the device',
  'nothing': 'jit, a program without operations',
  'nothing_synchronous': (
    'jit, a program without operations, without asynchronous dispatch'
  ),
  'numpy': 'no program: the same in NumPy',
  'onnxruntime': 'ONNX Runtime, our ONNX',
  'onnxruntime-torch': "ONNX Runtime, PyTorch's ONNX",
}
# Environment variables of a worker, which JAX reads at its start.
_ENVIRONMENTS = {
  'synchronous': {'JAX_CPU_ENABLE_ASYNC_DISPATCH': 'false'},
  'synchronous_compiled': {'JAX_CPU_ENABLE_ASYNC_DISPATCH': 'false'},
  'nothing_synchronous': {'JAX_CPU_ENABLE_ASYNC_DISPATCH': 'false'},
  'one_thread': {
    'JAX_CPU_ENABLE_ASYNC_DISPATCH': 'false',
    'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=false',
  },
}


def _make_system(
  predict: Callable, prepare=lambda image: image, check=True
) -> harness.System:
  """Returns a system that repeats predictions of one image in each turn.

  Args:
    predict: a prepared image -> probabilities as a NumPy array.
    prepare: NumPy image -> the image in the form in which a caller holds it.
    check: whether the probabilities must equal those of the other systems.
  """
  image = prepare(inference_systems.make_images(_NETWORK, 1))
  turn = lambda case: harness.repeat(lambda: predict(image), 1)
  output = np.asarray(predict(image), np.float64).reshape(-1)
  return harness.System(turn, output.tolist() if check else None)


def _make_jax(
  *,
  forward: Callable | None = None,
  ahead: bool = False,
  on_device: bool = False,
  keep: bool = False,
  check: bool = True,
) -> harness.System:
  """Returns one of JAX's ways to call a program.

  Args:
    forward: the function to compile; our network by default.
    ahead: whether the program is compiled ahead of time.
    on_device: whether the image is already on the device.
    keep: whether the result stays on the device.
    check: whether the result must equal that of the other systems.
  """
  import jax

  # The image cannot be donated: no output has its size and type.
  jitted = jax.jit(forward or inference_systems.deployed(_NETWORK))
  image = inference_systems.make_images(_NETWORK, 1)
  call = jitted.lower(image).compile() if ahead else jitted
  fetch = jax.block_until_ready if keep else np.asarray
  return _make_system(
    lambda images: fetch(call(images)),
    jax.device_put if on_device else lambda image: image,
    check,
  )


def _make_nothing() -> harness.System:
  """Returns a program that only converts its first ten pixels."""
  import jax.numpy as jnp

  forward = lambda images: images.reshape(1, -1)[:, :10].astype(jnp.float32)
  return _make_jax(forward=forward, check=False)


def _make_numpy() -> harness.System:
  """Returns the network in NumPy: two products and a softmax."""
  import jax
  import networks

  params = jax.device_get(networks.make_variables(_NETWORK)['params'])
  layers = [
    (np.asarray(params[name]['kernel']), np.asarray(params[name]['bias']))
    for name in ('hidden0', 'logits')
  ]
  (w1, b1), (w2, b2) = layers

  def predict(images):
    x = images.reshape(1, -1).astype(np.float32) / np.float32(255)
    x = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    x = np.exp(x - x.max())
    return x / x.sum()

  return _make_system(predict)


def _make_onnxruntime(write: Callable) -> harness.System:
  """Returns ONNX Runtime on the file that `write` writes into a folder."""
  from kd_jax.export import onnx

  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    write(_NETWORK, folder)
    return _make_system(
      onnx.make_onnx_predict((folder / onnx.NETWORK).read_bytes())
    )


MAKERS: dict[str, Callable[[], harness.System]] = {
  'jit': _make_jax,
  'on_device': functools.partial(_make_jax, on_device=True),
  'compiled': functools.partial(_make_jax, ahead=True),
  'compiled_on_device': functools.partial(
    _make_jax, ahead=True, on_device=True
  ),
  'synchronous': _make_jax,
  'synchronous_compiled': functools.partial(_make_jax, ahead=True),
  'one_thread': _make_jax,
  'kept': functools.partial(_make_jax, keep=True),
  'nothing': _make_nothing,
  'nothing_synchronous': _make_nothing,
  'numpy': _make_numpy,
  'onnxruntime': functools.partial(
    _make_onnxruntime, inference_systems.write_our_onnx
  ),
  'onnxruntime-torch': functools.partial(
    _make_onnxruntime, inference_systems.write_torch_onnx
  ),
}


def main() -> None:
  """Runs the benchmark, or one worker of the benchmark."""
  parser = harness.make_parser(__doc__, rounds=7, systems=[*SYSTEMS])
  args = parser.parse_args()
  if args.worker:
    harness.serve(MAKERS[args.worker], ['1'])
    return
  systems = harness.select_systems(SYSTEMS, args.systems)
  results = comparison.compare(
    {
      system: functools.partial(
        harness.Worker, __file__, system, _ENVIRONMENTS.get(system)
      )
      for system in systems
    },
    ['1'],
    rounds=args.rounds,
    limit_systems=(),
    rtol=1e-3,
    atol=1e-5,
  )
  harness.write_record(
    args.out_dir,
    'serving',
    peers=('torch', 'onnxruntime', 'jax2onnx'),
    about=systems,
    latency=results['cases']['1'],
    failures=results['failures'],
  )


if __name__ == '__main__':
  main()
