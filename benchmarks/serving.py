"""One image at a time: what a call of a tiny student costs, and of what.

  make bench

Table 1's 784-300-10, from one uint8 image in NumPy to probabilities in NumPy,
as a server has them. JAX's ways to call a program take turns with each other,
with programs that compute nothing, and with ONNX Runtime: what a program that
returns its first ten pixels takes is what a call costs whatever it computes.

Writes results/bench-MACHINE-serving.json.
"""

import functools
import pathlib
from collections.abc import Callable

import harness
import inference
import numpy as np

_NETWORK = 'h300'
SYSTEMS = {
  'jit': 'jit, of a NumPy image',
  'on_device': 'jit, of an image on the device',
  'compiled': 'ahead of time (lower, compile), of a NumPy image',
  'compiled_on_device': 'ahead of time, of an image on the device',
  'synchronous': 'jit, without asynchronous dispatch',
  'synchronous_compiled': 'ahead of time, without asynchronous dispatch',
  'one_thread': 'jit, without asynchronous dispatch and a pool of threads',
  'kept': 'jit, the result left on the device',
  'nothing': 'jit, of nothing: a program without operations',
  'nothing_synchronous': 'jit, of nothing, without asynchronous dispatch',
  'numpy': 'no program: the same in NumPy',
  'onnxruntime': 'ONNX Runtime, of our ONNX',
  'onnxruntime-torch': "ONNX Runtime, of PyTorch's ONNX",
}
# Of a process, before JAX starts.
_ENVIRONMENTS = {
  'synchronous': {'JAX_CPU_ENABLE_ASYNC_DISPATCH': 'false'},
  'synchronous_compiled': {'JAX_CPU_ENABLE_ASYNC_DISPATCH': 'false'},
  'nothing_synchronous': {'JAX_CPU_ENABLE_ASYNC_DISPATCH': 'false'},
  'one_thread': {
    'JAX_CPU_ENABLE_ASYNC_DISPATCH': 'false',
    'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=false',
  },
}


def _system(predict: Callable, prepare=lambda image: image, check=True):
  """Returns a system of `predict`, of what `prepare` makes of an image."""
  image = prepare(inference.make_images(_NETWORK, 1))
  turn = lambda case: harness.repeat(lambda: predict(image), 1)
  output = np.asarray(predict(image), np.float64).reshape(-1)
  return harness.System(turn, output.tolist() if check else None)


def _jax(
  *,
  forward: Callable | None = None,
  ahead: bool = False,
  on_device: bool = False,
  keep: bool = False,
  check: bool = True,
) -> harness.System:
  import jax

  # There is no donating the image: no output is of its size and type.
  jitted = jax.jit(forward or inference.deployed(_NETWORK))
  image = inference.make_images(_NETWORK, 1)
  call = jitted.lower(image).compile() if ahead else jitted
  fetch = jax.block_until_ready if keep else np.asarray
  return _system(
    lambda images: fetch(call(images)),
    jax.device_put if on_device else lambda own: own,
    check,
  )


def _nothing() -> harness.System:
  import jax.numpy as jnp

  forward = lambda images: images.reshape(1, -1)[:, :10].astype(jnp.float32)
  return _jax(forward=forward, check=False)


def _numpy() -> harness.System:
  """What two products and a softmax take by themselves."""
  import jax
  import networks

  params = jax.device_get(networks.make_variables(_NETWORK)['params'])
  layers = [
    (np.asarray(own['kernel']), np.asarray(own['bias']))
    for own in (params['hidden0'], params['logits'])
  ]
  (w1, b1), (w2, b2) = layers

  def predict(images):
    x = images.reshape(1, -1).astype(np.float32) / np.float32(255)
    x = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    x = np.exp(x - x.max())
    return x / x.sum()

  return _system(predict)


def _onnxruntime(write: Callable) -> harness.System:
  import tempfile

  from kd_jax.export import onnx

  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    write(_NETWORK, folder)
    return _system(onnx.make_predict((folder / onnx.NETWORK).read_bytes()))


MAKERS: dict[str, Callable[[], harness.System]] = {
  'jit': _jax,
  'on_device': functools.partial(_jax, on_device=True),
  'compiled': functools.partial(_jax, ahead=True),
  'compiled_on_device': functools.partial(_jax, ahead=True, on_device=True),
  'synchronous': _jax,
  'synchronous_compiled': functools.partial(_jax, ahead=True),
  'one_thread': _jax,
  'kept': functools.partial(_jax, keep=True),
  'nothing': _nothing,
  'nothing_synchronous': _nothing,
  'numpy': _numpy,
  'onnxruntime': functools.partial(_onnxruntime, inference.write_our_onnx),
  'onnxruntime-torch': functools.partial(
    _onnxruntime, inference.write_torch_onnx
  ),
}


def main() -> None:
  args = harness.parser(__doc__, rounds=7).parse_args()
  if args.worker:
    harness.worker(MAKERS[args.worker], ['1'])
    return
  results = harness.compare(
    {
      system: functools.partial(
        harness.Worker, __file__, system, _ENVIRONMENTS.get(system)
      )
      for system in SYSTEMS
    },
    ['1'],
    rounds=args.rounds,
    limits_of=(),
    rtol=1e-3,
    atol=1e-5,
  )
  del results['checks'], results['limits']
  harness.write(
    args.out_dir,
    'serving',
    peers=('torch', 'onnxruntime', 'jax2onnx'),
    about=SYSTEMS,
    latency=results['cases']['1'],
  )


if __name__ == '__main__':
  main()
