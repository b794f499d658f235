"""Training a student on stored teacher outputs: ours beside what else is used.

  make bench

Network 784-300-10, batch 32, Adam, MNIST, float32. Every system runs in a
process of its own and they take turns, so that what else the machine does
falls on all of them alike; medians and quartiles are over rounds, ratios are
taken round by round. Before any timing, all that compute in float32 train the
same ten steps from the same weights, those on stored outputs and those of a
live teacher, and their losses are compared; but for Keras' Distiller, whose
loss is its own.

Writes results/bench-MACHINE-training-h300.json.
"""

import functools
import time

import harness
import networks
import numpy as np

HIDDEN, BATCH, TEMPERATURE, RATE = 300, 32, 3.5, 1e-3
TEACHER_TEMPERATURE = 3.5
# System: (what it is, Keras backend, examples of a timed turn).
SYSTEMS = {
  'ours': ('kd_jax, stored outputs', None, 60_000),
  'ours-live': ('kd_jax, live teacher', None, 4_800),
  'keras-jax': ('Keras fit on JAX, stored outputs', 'jax', 60_000),
  'keras-torch': ('Keras fit on torch, stored outputs', 'torch', 30_016),
  'torch': ('PyTorch, stored outputs', None, 60_000),
  'torch-compiled': ('PyTorch compiled, stored outputs', None, 60_000),
  'torch-bfloat16': ('PyTorch bfloat16, stored outputs', None, 30_016),
  'torch-compiled-bfloat16': (
    'PyTorch compiled bfloat16, stored outputs',
    None,
    30_016,
  ),
  'torch-live': ('PyTorch, live teacher', None, 4_800),
  'torch-live-compiled': ('PyTorch compiled, live teacher', None, 4_800),
  'torch-live-bfloat16': ('PyTorch bfloat16, live teacher', None, 1_600),
  'torch-live-compiled-bfloat16': (
    'PyTorch compiled bfloat16, live teacher',
    None,
    1_600,
  ),
  'distiller-jax': ('Keras Distiller on JAX, live teacher', 'jax', 4_800),
  'distiller-torch': ('Keras Distiller on torch, live teacher', 'torch', 4_800),
  'torchdistill-live': ('torchdistill, live teacher', None, 4_800),
}
CHECKED_STEPS = 10


def make_weights() -> list[np.ndarray]:
  """Returns Glorot-uniform kernels and zero biases, the same everywhere."""
  rng = np.random.default_rng(0)
  weights = []
  for inputs, outputs in ((784, HIDDEN), (HIDDEN, 10)):
    limit = np.sqrt(6 / (inputs + outputs))
    weights.append(rng.uniform(-limit, limit, (inputs, outputs)))
    weights.append(np.zeros(outputs))
  return [array.astype(np.float32) for array in weights]


def make_teacher_weights() -> list[np.ndarray]:
  """Returns kernels and biases of the teacher, the same everywhere.

  A convolution's kernel [H, W, C, F] and three products', of images in rows,
  columns and channels.
  """
  rng = np.random.default_rng(2)
  weights = []
  for shape in ((3, 3, 1, 32), (26 * 26 * 32, 1200), (1200, 1200), (1200, 10)):
    # By its inputs: sure enough to differ between images.
    weights.append(rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1])))
    weights.append(np.zeros(shape[-1]))
  return [array.astype(np.float32) for array in weights]


def load_arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns MNIST's images and labels, and outputs of a made-up teacher.

  Times do not depend on what the outputs say: these are right, and unsure.
  """
  from kd_jax import data

  train = data.load('mnist').train
  noise = np.random.default_rng(1).normal(size=(len(train.labels), 10))
  logits = (4 * np.eye(10)[train.labels] + noise).astype(np.float32)
  return train.images, train.labels, logits


def softmax(logits: np.ndarray) -> np.ndarray:
  exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exp / exp.sum(axis=-1, keepdims=True)


# --- Systems. Each maker returns the losses of the first steps, or None, and a
# function of examples that trains on so many and returns the seconds. ---


def ours(*, live: bool = False):
  """An epoch is one program: shuffled, gathered and stepped on the device."""
  import jax
  import jax.numpy as jnp

  from configs import mnist
  from kd_jax.training import build, train

  config = build.close_row(mnist.get_config('h300'), 'h300')
  images, labels, logits = load_arrays()
  used = np.arange(len(labels)) < SYSTEMS['ours-live' if live else 'ours'][2]
  phases = train.make_phases(used, epochs=1, folds=0)
  programs = build.make_programs(
    build.row_key(
      config,
      num_classes=10,
      image_shape=images.shape[1:],
      total_steps=train.num_steps(phases, BATCH, drop_remainder=False),
      num_seeds=None,
      live_teacher=live,
    )
  )
  arrays = {'images': jnp.asarray(images), 'labels': jnp.asarray(labels)}
  if live:
    own = list(map(jnp.asarray, make_teacher_weights()))
    convolution, *products = (
      {'kernel': kernel, 'bias': bias}
      for kernel, bias in zip(own[::2], own[1::2], strict=True)
    )
    names = ('hidden0', 'hidden1', 'logits')
    head = dict(zip(names, products, strict=True))
    params = {'conv0': convolution, 'head': head}
    arrays['teacher'] = {'params': params, 'batch_stats': {}}
  else:
    arrays['teacher_logits'] = jnp.asarray(logits)
  settings = lambda epoch: build.settings(config.optim, config.distill, epoch)
  key = jax.random.key(0)

  def initial_state():
    w1, b1, w2, b2 = make_weights()
    state = programs.init(key)
    params = {
      'hidden0': {'kernel': jnp.asarray(w1), 'bias': jnp.asarray(b1)},
      'logits': {'kernel': jnp.asarray(w2), 'bias': jnp.asarray(b2)},
    }
    return state._replace(params=params)

  state, losses = initial_state(), []
  order = jnp.arange(len(labels), dtype=jnp.int32)
  for step in range(CHECKED_STEPS):
    state, sums = programs.epochs.run(
      state, programs.epochs.zero_sums(), order, arrays, {}, len(labels),
      step, step + 1, key, settings(0),
    )  # fmt: skip
    losses.append(float(sums['loss'] / sums['count']))
  held = {'state': initial_state(), 'epoch': 0}

  def run(examples):
    assert examples == used.sum()
    epoch = jax.random.fold_in(key, held['epoch'])
    (result,) = train.fit(
      programs.epochs, held['state'], arrays, phases, key=epoch,
      settings=settings,
    )  # fmt: skip
    held.update(state=result.state, epoch=held['epoch'] + 1)
    # The clock of `fit` leaves out nothing but the check that it is compiled.
    return result.train_s

  return losses, run


def _keras_student(keras):
  student = keras.Sequential(
    [
      keras.Input((28, 28)),
      keras.layers.Flatten(),
      keras.layers.Dense(HIDDEN, activation='relu'),
      keras.layers.Dense(10),
      keras.layers.Rescaling(1 / TEMPERATURE),
    ]
  )
  student.set_weights(make_weights())
  return student


def keras_fit():
  """`fit` on arrays, as the paper's code did."""
  import keras

  images, _, logits = load_arrays()
  x = images[..., 0].astype(np.float32) / 255
  probs = softmax(logits)

  def compiled():
    student = _keras_student(keras)
    student.compile(
      optimizer=keras.optimizers.Adam(RATE),
      loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    return student

  student, losses = compiled(), []
  for step in range(CHECKED_STEPS):
    part = slice(step * BATCH, (step + 1) * BATCH)
    losses.append(float(student.train_on_batch(x[part], probs[part])))
  student = compiled()

  def run(examples):
    began = time.perf_counter()
    student.fit(x[:examples], probs[:examples], batch_size=BATCH, verbose=0)
    return time.perf_counter() - began

  return losses, run


def keras_distiller():
  """Keras' own distillation: the teacher is called in every step."""
  import keras
  from keras.distillation import Distiller, LogitsDistillation

  images, labels, _ = load_arrays()
  x = images[..., 0].astype(np.float32) / 255
  teacher = keras.Sequential(
    [
      keras.Input((28, 28)),
      keras.layers.Reshape((28, 28, 1)),
      keras.layers.Conv2D(32, 3, activation='relu'),
      keras.layers.Flatten(),
      keras.layers.Dense(1200, activation='relu'),
      keras.layers.Dropout(0.5),
      keras.layers.Dense(1200, activation='relu'),
      keras.layers.Dropout(0.5),
      keras.layers.Dense(10),
      keras.layers.Rescaling(1 / TEACHER_TEMPERATURE),
    ]
  )
  distiller = Distiller(
    teacher=teacher,
    student=_keras_student(keras),
    distillation_losses=LogitsDistillation(temperature=1.0),
    student_loss_weight=0.0,
  )
  distiller.compile(
    optimizer=keras.optimizers.Adam(RATE),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
  )

  def run(examples):
    began = time.perf_counter()
    distiller.fit(x[:examples], labels[:examples], batch_size=BATCH, verbose=0)
    return time.perf_counter() - began

  return None, run


def torchdistill():
  """A step of its box a batch, of a random permutation."""
  import toolkits
  import torch

  images, labels, _ = load_arrays()
  x = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / 255)
  y = torch.from_numpy(labels.astype(np.int64))
  assert TEACHER_TEMPERATURE == TEMPERATURE  # Its loss has one for both.
  teacher = torch.nn.Sequential(
    torch.nn.Unflatten(1, (1, 28, 28)), _torch_teacher()
  )

  def make_step():
    return toolkits.torchdistill_step(
      _torch_student(),
      teacher,
      optimizer=('Adam', dict(lr=RATE, eps=1e-7)),
      temperature=TEMPERATURE,
      ce_weight=0.0,
      kd_weight=TEMPERATURE**-2,
    )

  step, losses = make_step(), []
  for i in range(CHECKED_STEPS):
    part = slice(i * BATCH, (i + 1) * BATCH)
    # The others' loss is the cross-entropy with the teacher, this one's the
    # divergence from it, which is less by the teacher's own entropy.
    with torch.no_grad():
      told = torch.log_softmax(teacher(x[part]) / TEMPERATURE, dim=1)
    entropy = -(told.exp() * told).sum(1).mean()
    losses.append(float(step(x[part], y[part]) + entropy))
  step = make_step()

  def run(examples):
    began = time.perf_counter()
    for index in torch.randperm(len(x))[:examples].split(BATCH):
      step(x[index], y[index])
    return time.perf_counter() - began

  return losses, run


def torch_loop(
  *, live: bool = False, compiled: bool = False, bfloat16: bool = False
):
  """Tensors, a random permutation, and a step a batch."""
  import torch

  images, _, logits = load_arrays()
  x = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / 255)
  probs = torch.from_numpy(softmax(logits))
  teacher = _torch_teacher() if live else None
  if live and compiled:
    teacher = torch.compile(teacher, dynamic=False)
  autocast = functools.partial(
    torch.autocast, 'cpu', dtype=torch.bfloat16, enabled=bfloat16
  )

  def make():
    student = _torch_student()
    called = torch.compile(student, dynamic=False) if compiled else student
    return called, torch.optim.Adam(student.parameters(), lr=RATE, eps=1e-7)

  def step(student, optimizer, index):
    optimizer.zero_grad()
    batch = x[index]
    if live:
      with torch.no_grad(), autocast():
        told = teacher(batch.view(-1, 1, 28, 28)) / TEACHER_TEMPERATURE
        told = torch.softmax(told.float(), dim=1)
    else:
      told = probs[index]
    with autocast():
      z = student(batch)
    loss = torch.nn.functional.cross_entropy(z.float() / TEMPERATURE, told)
    loss.backward()
    optimizer.step()
    return loss.detach()

  student, optimizer = make()
  losses = [
    float(step(student, optimizer, slice(i * BATCH, (i + 1) * BATCH)))
    for i in range(CHECKED_STEPS)
  ]
  student, optimizer = make()
  if bfloat16:  # Other arithmetic.
    losses = None

  def run(examples):
    began = time.perf_counter()
    total = torch.zeros(())
    for index in torch.randperm(len(x))[:examples].split(BATCH):
      total += step(student, optimizer, index)
    float(total)
    return time.perf_counter() - began

  return losses, run


def _torch_student():
  import torch

  student = torch.nn.Sequential(
    torch.nn.Linear(784, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 10)
  )
  with torch.no_grad():
    for parameter, value in zip(
      student.parameters(), make_weights(), strict=True
    ):
      parameter.copy_(torch.from_numpy(value.T.copy()))
  return student


def _torch_teacher():
  import torch
  from torch import nn

  teacher = nn.Sequential(
    *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Flatten()),
    *(nn.Linear(32 * 26 * 26, 1200), nn.ReLU(), nn.Dropout(0.5)),
    *(nn.Linear(1200, 1200), nn.ReLU(), nn.Dropout(0.5)),
    nn.Linear(1200, 10),
  )
  kernels, biases = make_teacher_weights()[::2], make_teacher_weights()[1::2]
  kernels[0] = kernels[0].transpose(3, 2, 0, 1)
  # Its features are flattened by channel first, and ours last.
  first = kernels[1].reshape(26, 26, 32, 1200).transpose(3, 2, 0, 1)
  kernels[1] = first.reshape(1200, -1)
  kernels[2:] = [kernel.T for kernel in kernels[2:]]
  layers = [own for own in teacher if isinstance(own, nn.Conv2d | nn.Linear)]
  with torch.no_grad():
    for layer, kernel, bias in zip(layers, kernels, biases, strict=True):
      layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
      layer.bias.copy_(torch.from_numpy(bias))
  return teacher.eval()


MAKERS = {
  'ours': ours,
  'ours-live': functools.partial(ours, live=True),
  'keras-jax': keras_fit,
  'keras-torch': keras_fit,
  'torch': torch_loop,
  'torch-compiled': functools.partial(torch_loop, compiled=True),
  'torch-bfloat16': functools.partial(torch_loop, bfloat16=True),
  'torch-compiled-bfloat16': functools.partial(
    torch_loop, compiled=True, bfloat16=True
  ),
  'torch-live': functools.partial(torch_loop, live=True),
  'torch-live-compiled': functools.partial(
    torch_loop, live=True, compiled=True
  ),
  'torch-live-bfloat16': functools.partial(
    torch_loop, live=True, bfloat16=True
  ),
  'torch-live-compiled-bfloat16': functools.partial(
    torch_loop, live=True, compiled=True, bfloat16=True
  ),
  'distiller-jax': keras_distiller,
  'distiller-torch': keras_distiller,
  'torchdistill-live': torchdistill,
}


def make(system: str) -> harness.System:
  """Returns a system of the table."""
  losses, train = MAKERS[system]()
  examples = SYSTEMS[system][2]
  group = 'live' if 'live' in system else 'stored'
  turn = lambda case: (examples, train(examples))
  return harness.System(turn, losses, group)


def main() -> None:
  args = harness.parser(__doc__, rounds=9).parse_args()
  if args.worker:
    harness.worker(
      functools.partial(make, args.worker),
      ('training',),
      harness.jax_limits if args.worker == 'ours' else None,
    )
    return
  results = harness.compare(
    {
      system: functools.partial(
        harness.Worker,
        __file__,
        system,
        {'KERAS_BACKEND': backend} if backend else None,
      )
      for system, (_, backend, _) in SYSTEMS.items()
    },
    ('training',),
    rounds=args.rounds,
    limits_of=('ours',),
    rtol=2e-3,
  )
  harness.add_shares(results, networks.training_work('h300'))
  harness.write(
    args.out_dir,
    'training-h300',
    peers=('keras', 'torch', 'torchdistill'),
    network='h300',
    batch=BATCH,
    row_examples=networks.row_examples('h300'),
    about={name: about for name, (about, *_) in SYSTEMS.items()},
    **results,
  )


if __name__ == '__main__':
  main()
