"""Epochs over arrays on the device or examples on disk, and how they resume.

An epoch is one compiled program: it shuffles, gathers by index and steps in a
loop whose bounds are arguments. Compiled once, it serves every epoch, every
subset of the examples and every chunk of an epoch, so that a short epoch is
one call and a long one shows its progress. Results do not depend on the
chunks. Where a loop in a program is slow (convolutions on a CPU), the program
is one step and the loop is Python's. So it is where examples are read from
disk: in the same order, to the same end.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from kd_jax.data import augmentation as augment
from kd_jax.runtime import errors, mesh, processes
from kd_jax.training.steps import Batch, PyTree, Settings, Sums, TrainState

# How long a call into the program should take: long enough to hide the cost
# of calling, short enough for a progress bar and a prompt Ctrl-C.
_CALL_S = 1.0
_NEVER = np.iinfo(np.int32).max
# Of arrays and batches, what is no example's: a live teacher's variables.
_WHOLE = 'teacher'


class NonFiniteLoss(errors.UserError):
  """The loss became NaN or infinite."""


class Phase(NamedTuple):
  """A fit: so many epochs over the examples that `subset` [N] bool marks."""

  name: str
  epochs: int
  subset: np.ndarray


def make_phases(used: np.ndarray, *, epochs: int, folds: int) -> list[Phase]:
  """Returns the fits of a training, in order.

  Args:
    used: [N] bool, the examples that are in any fit.
    epochs: of each fit.
    folds: k > 1 puts a fit on each k-fold training part (all but a contiguous
      k-th) before the fit on everything; 0 for that fit alone.
  """
  phases = []
  for fold in range(folds):
    held_out = np.array_split(np.flatnonzero(used), folds)[fold]
    subset = used.copy()
    subset[held_out] = False
    phases.append(Phase(f'fold{fold}', epochs, subset))
  return phases + [Phase('fit', epochs, used)]


def epoch_size(
  phase: Phase, batch_size: int, drop_remainder: bool
) -> tuple[int, int]:
  """Returns how many examples and steps an epoch of a phase takes.

  Args:
    phase: of it.
    batch_size: examples a step.
    drop_remainder: whether examples that do not fill a batch are left out, of
      each epoch other ones. If not, the last batch is padded and masked.
  """
  size = int(phase.subset.sum())
  if drop_remainder:
    size -= size % batch_size
  return size, -(-size // batch_size)


def num_steps(
  phases: list[Phase], batch_size: int, *, drop_remainder: bool
) -> int:
  """Returns the optimizer steps of a training."""
  return sum(
    phase.epochs * epoch_size(phase, batch_size, drop_remainder)[1]
    for phase in phases
  )


class Program(NamedTuple):
  """The compiled parts of an epoch.

  Attributes:
    order: (subset [N], key) -> int32 [M], the subset's examples in random
      order, then the others; M is N rounded up to whole batches.
    views: (key, N) -> int32 [N], the view of each example in an epoch; None
      without augmentation.
    run: (state, sums, order, arrays, own, count, start, stop, key, settings)
      -> (state, sums): steps start..stop of an epoch over the first `count`.
      `own` are the epoch's own arrays, and of vmapped programs each seed's:
      'views' [N], perhaps 'teacher_logits' [N, K] for them.
    update: (state, sums, batch, count, step, key, settings) -> (state, sums):
      one step on examples [B, ...] that were read.
    zero_sums: totals before the first step.
    batch_size: examples a step.
    drop_remainder: see `epoch_size`.
  """

  order: Callable[..., jax.Array]
  views: Callable[[jax.Array, int], jax.Array] | None
  run: Callable[..., tuple[TrainState, Sums]]
  update: Callable[..., tuple[TrainState, Sums]]
  zero_sums: Callable[[], Sums]
  batch_size: int
  drop_remainder: bool


def make_program(
  train_step: Callable[..., tuple[TrainState, Sums]],
  preprocess: Callable[[jax.Array], jax.Array],
  *,
  batch_size: int,
  names: tuple[str, ...],
  augmentation: augment.Augmentation | None = None,
  mixup_alpha: float = 0.0,
  teacher: Callable[[PyTree, jax.Array], Batch] | None = None,
  drop_remainder: bool = False,
  loop: str = 'device',
  num_seeds: int | None = None,
) -> Program:
  """Compiles (on first use) the epochs of a train step.

  Args:
    train_step: see steps.py.
    preprocess: from stored images to the network's input, a batch at a time.
    batch_size: examples a step.
    names: of the sums that `train_step` returns.
    augmentation: of the images, a view for each seed, epoch and example; None
      to take them as they are.
    mixup_alpha: of `augment.mixup` on what that gives; 0 for none. Batches then
      hold the 'share' of an example and its 'partner', targets by name.
    teacher: (variables, images as stored, augmented or mixed) -> what a batch
      has of a teacher's, 'teacher_logits' and perhaps 'teacher_features';
      called in each step with the arrays' 'teacher'. None to take stored ones.
    drop_remainder: see `epoch_size`.
    loop: where the loop over steps is: 'device', in the program; or 'host', in
      Python, around a program of one step.
    num_seeds: if given, states and keys have a leading axis of that length,
      and that many networks train in one program.
  """

  def order(subset: jax.Array, key: jax.Array) -> jax.Array:
    num_examples = subset.shape[0]
    # Sorting random keys shuffles; the examples that are not in the subset
    # sort behind all that are, so one shape serves every subset.
    bits = jax.random.bits(key, (num_examples,), jnp.uint32) >> 1
    bits = jnp.where(subset, bits, jnp.uint32(2**31))
    shuffled = jnp.argsort(bits).astype(jnp.int32)
    return jnp.pad(shuffled, (0, -num_examples % batch_size))

  def step(
    state: TrainState,
    sums: Sums,
    order: jax.Array,
    arrays: Batch,
    own: Batch,
    count: jax.Array,
    i: jax.Array,
    key: jax.Array,
    settings: Settings,
  ) -> tuple[TrainState, Sums]:
    index = jax.lax.dynamic_slice(order, (i * batch_size,), (batch_size,))
    batch = jax.tree.map(
      lambda array: jnp.take(array, index, axis=0, mode='clip'),
      {k: v for k, v in (arrays | own).items() if k != _WHOLE},
    )
    batch |= {k: v for k, v in arrays.items() if k == _WHOLE}
    return update(state, sums, batch, count, i, key, settings)

  def update(
    state: TrainState,
    sums: Sums,
    batch: Batch,
    count: jax.Array,
    i: jax.Array,
    key: jax.Array,
    settings: Settings,
  ) -> tuple[TrainState, Sums]:
    network = batch.get(_WHOLE)
    batch = mesh.shard({k: v for k, v in batch.items() if k != _WHOLE})
    if augmentation is not None:
      batch['images'] = augmentation.apply(batch['images'], batch.pop('views'))
    step_key = jax.random.fold_in(key, i)
    if mixup_alpha > 0:
      batch['partner'] = {
        name: augment.partners(batch[name])
        for name in batch.keys() & {'labels', 'teacher_logits'}
      }
      mixup_key = jax.random.fold_in(step_key, _NEVER)
      batch['images'], batch['share'] = augment.mixup(
        batch['images'], mixup_key, alpha=mixup_alpha
      )
    if teacher is not None:
      batch |= teacher(network, batch['images'])
    batch['images'] = preprocess(batch['images'])
    position = i * batch_size + jnp.arange(batch_size)
    batch['mask'] = (position < count).astype(jnp.float32)
    state, step_sums = train_step(state, batch, step_key, settings)
    finite = jnp.isfinite(step_sums['loss'])
    nonfinite_step = jnp.where(finite, _NEVER, jnp.int32(i))
    new_sums = {name: sums[name] + step_sums[name] for name in names}
    new_sums['nonfinite_step'] = jnp.minimum(
      sums['nonfinite_step'], nonfinite_step
    )
    return mesh.replicate((state, new_sums))

  def views(key: jax.Array, num_examples: int) -> jax.Array:
    augment_key = jax.random.fold_in(key, _NEVER)  # no step's own
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
      augment_key, jnp.arange(num_examples)
    )
    return augmentation.choose(keys)

  def zero_sums() -> Sums:
    shape = () if num_seeds is None else (num_seeds,)
    sums = {name: jnp.zeros(shape, jnp.float32) for name in names}
    return sums | {'nonfinite_step': jnp.full(shape, _NEVER, jnp.int32)}

  if num_seeds is not None:
    order = jax.vmap(order, in_axes=(None, 0))
    views = jax.vmap(views, in_axes=(0, None))
    step = jax.vmap(step, in_axes=(0, 0, 0, None, 0, None, None, 0, None))
  return Program(
    order=jax.jit(order),
    views=augmentation and jax.jit(views, static_argnums=1),
    run=_LOOPS[loop](step),
    update=jax.jit(update, donate_argnums=(0, 1)),
    zero_sums=zero_sums,
    batch_size=batch_size,
    drop_remainder=drop_remainder,
  )


def _loop_on_device(step: Callable) -> Callable:
  """Returns a `Program.run` that is one program."""

  def run(state, sums, order, arrays, own, count, start, stop, key, settings):
    def body(i, carry):
      return step(*carry, order, arrays, own, count, i, key, settings)

    return jax.lax.fori_loop(start, stop, body, (state, sums))

  return jax.jit(run, donate_argnums=(0, 1))


def _loop_on_host(step: Callable) -> Callable:
  """Returns a `Program.run` that calls a program of one step."""
  step = jax.jit(step, donate_argnums=(0, 1))

  def run(state, sums, order, arrays, own, count, start, stop, key, settings):
    if start == stop:  # To compile: a step that comes to nothing.
      copies = jax.tree.map(jnp.copy, (state, sums))
      jax.block_until_ready(
        step(*copies, order, arrays, own, count, start, key, settings)
      )
    for i in range(start, stop):
      state, sums = step(
        state, sums, order, arrays, own, count, i, key, settings
      )
    return state, sums

  return run


_LOOPS = {'device': _loop_on_device, 'host': _loop_on_host}


def fold_in(keys: jax.Array, data: int) -> jax.Array:
  """`jax.random.fold_in` for a key or an array of keys."""
  if keys.ndim:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, data)
  return jax.random.fold_in(keys, data)


class Stream(NamedTuple):
  """Examples that are read while a training needs them.

  Attributes:
    batches: indices [M] -> batches of them, in that order, on the host; of
      several processes, each one's share of a batch.
    whole: what is no example's, see `fit`.
  """

  batches: Callable[[np.ndarray], Iterator[Batch]]
  whole: Batch


def _stepper(
  program: Program,
  arrays: Batch | Stream,
  order: jax.Array,
  own: Batch,
  first: int,
  *args,
) -> Callable[..., tuple[TrainState, Sums]]:
  """Returns (state, sums, start, stop) -> (state, sums), steps of an epoch.

  Calls go through its steps in order, from `first` on.
  """
  count, key, settings = args
  if not isinstance(arrays, Stream):
    return lambda state, sums, start, stop: program.run(
      state, sums, order, arrays, own, count, start, stop, key, settings
    )
  order = np.asarray(order)[first * program.batch_size :]
  batches = _with_own(arrays.batches(order), order, own)

  def steps(state, sums, start, stop):
    if start == stop:  # To compile, of any batch.
      copies = jax.tree.map(jnp.copy, (state, sums))
      batch = mesh.put_batch(next(batches)) | arrays.whole
      jax.block_until_ready(
        program.update(*copies, batch, count, start, key, settings)
      )
    for i in range(start, stop):
      batch = mesh.put_batch(next(batches))
      state, sums = program.update(
        state, sums, batch | arrays.whole, count, i, key, settings
      )
    return state, sums

  return steps


def _with_own(
  batches: Iterator[Batch], order: np.ndarray, own: Batch
) -> Iterator[Batch]:
  """Yields batches with their examples' part of an epoch's own arrays."""
  own, start = jax.device_get(own), 0
  for batch in batches:
    size = len(batch['labels'])
    index = mesh.process_share(order, start, size)
    start += size
    yield batch | {name: array[index] for name, array in own.items()}


class Partial(NamedTuple):
  """An epoch that is under way, as it can be gone on with.

  Attributes:
    epoch: counted from 0 over all phases.
    step: how many of its steps are done.
    state: after them; donated to the next one.
    sums: totals over their examples; likewise.
    train_s: as of an `EpochResult`.
  """

  epoch: int
  step: int
  state: TrainState
  sums: Sums
  train_s: float


class EpochResult(NamedTuple):
  """What an epoch leaves behind.

  Attributes:
    epoch: counted from 0 over all phases.
    phase: its name.
    state: after it.
    sums: totals over its examples, on the host.
    train_s: wall seconds in the compiled program, compilation excluded.
    compile_s: wall seconds of compilation, in the first epoch; about 0 where
      the program was compiled before.
    teacher_s: wall seconds that it took to have the teacher's outputs for the
      epoch's views.
  """

  epoch: int
  phase: str
  state: TrainState
  sums: dict[str, np.ndarray]
  train_s: float
  compile_s: float
  teacher_s: float


def fit(
  program: Program,
  state: TrainState,
  arrays: Batch | Stream,
  phases: list[Phase],
  *,
  key: jax.Array,
  settings: Callable[[int], Settings],
  done_epochs: int = 0,
  partial: Partial | None = None,
  partial_every_s: float = np.inf,
  reset_optimizer: Callable[[TrainState], TrainState] | None = None,
  teacher_of_views: Callable[[np.ndarray], np.ndarray] | None = None,
  progress: str | None = None,
) -> Iterator[EpochResult | Partial]:
  """Trains, an epoch an item; the caller saves and evaluates between them.

  The data order and every random number are functions of (key, epoch, step):
  a training that starts again after `done_epochs` ends where an uninterrupted
  one ends.

  Args:
    program: from `make_program`.
    state: after `done_epochs` epochs; donated.
    arrays: images uint8 [N, ...], labels [N], perhaps teacher_logits [N, K] and
      teacher_features by name, perhaps the variables of a live teacher; or
      what reads them.
    phases: from `make_phases`.
    key: of the whole training; [S] keys if the program is vmapped.
    settings: of an epoch, counted from 0 over all phases.
    done_epochs: how many epochs the state has behind it.
    partial: of the epoch after these, to be gone on with in the place of the
      state.
    partial_every_s: after so long within an epoch there is a `Partial` of it.
    reset_optimizer: applied to the state where a phase starts, if given.
    teacher_of_views: from the views of an epoch, int32 [N], to the teacher's
      logits for them, [N, K], in the place of the arrays' teacher_logits.
    progress: a label for a progress bar, or None for no bar.
  Yields:
    An EpochResult after each epoch, and perhaps a Partial within. Its state is
    donated to the next one: use it before the next item is asked for.
  Raises:
    NonFiniteLoss: names the step and the settings.
  """
  schedule = [
    (
      phase,
      *epoch_size(phase, program.batch_size, program.drop_remainder),
      in_phase == 0,
    )
    for phase in phases
    for in_phase in range(phase.epochs)
  ]
  bar = tqdm.tqdm(
    total=sum(size for _, size, *_ in schedule),
    initial=sum(size for _, size, *_ in schedule[:done_epochs]),
    desc=progress,
    disable=progress is None,
    unit='ex',
    unit_scale=True,
    smoothing=0.1,
    dynamic_ncols=True,
    leave=False,
  )
  compile_s, steps_per_call = None, 1
  with bar:
    for epoch, (phase, size, steps, is_first) in enumerate(schedule):
      if epoch < done_epochs:
        continue
      resumed = partial if epoch == done_epochs else None
      if resumed is not None:
        state = resumed.state
      elif is_first and epoch > 0 and reset_optimizer is not None:
        state = reset_optimizer(state)
      epoch_key, epoch_settings = fold_in(key, epoch), settings(epoch)
      began = time.perf_counter()
      own = own_arrays(program, epoch_key, len(phase.subset), teacher_of_views)
      teacher_s = time.perf_counter() - began
      if compile_s is None:
        # A run of no steps compiles and changes nothing, outside the clock.
        began = time.perf_counter()
        order = program.order(jnp.asarray(phase.subset), epoch_key)
        run_steps = _stepper(
          program, arrays, order, own, 0, 0, epoch_key, epoch_settings
        )
        state, sums = run_steps(state, program.zero_sums(), 0, 0)
        jax.block_until_ready((order, state, sums))
        compile_s = time.perf_counter() - began
      began = time.perf_counter()
      order = program.order(jnp.asarray(phase.subset), epoch_key)
      sums, start, before_s = program.zero_sums(), 0, 0.0
      if resumed is not None:
        sums, start, before_s = resumed.sums, resumed.step, resumed.train_s
        bar.update(start * program.batch_size)
      run_steps = _stepper(
        program, arrays, order, own, start, size, epoch_key, epoch_settings
      )
      yielded = began
      while start < steps:
        stop = min(steps, start + steps_per_call)
        call_began = time.perf_counter()
        state, sums = run_steps(state, sums, start, stop)
        totals = jax.device_get(sums)
        # Clocks differ, and what all do must not.
        call_s, since_s = processes.from_first(
          lambda began=call_began, last=yielded: [
            time.perf_counter() - began,
            time.perf_counter() - last,
          ]
        )
        _check_loss(totals, phase.name, epoch, epoch_settings)
        done = min(stop * program.batch_size, size)
        bar.set_postfix_str(_postfix(totals), refresh=False)
        bar.update(done - start * program.batch_size)
        # Grow slowly: the first calls of a program are its slowest.
        steps_per_call = min(
          4 * steps_per_call,
          max(1, int((stop - start) * _CALL_S / call_s)),
        )
        start = stop
        if start < steps and since_s > partial_every_s:
          train_s = before_s + time.perf_counter() - began
          saving = time.perf_counter()
          _check_state(state, phase.name, epoch, epoch_settings)
          yield Partial(epoch, start, state, sums, train_s)
          yielded = time.perf_counter()
          began += yielded - saving  # Not of the training.
      train_s = before_s + time.perf_counter() - began
      _check_state(state, phase.name, epoch, epoch_settings)
      yield EpochResult(
        epoch, phase.name, state, totals, train_s, compile_s, teacher_s
      )
      compile_s = 0.0


def own_arrays(
  program: Program,
  key: jax.Array,
  num_examples: int,
  teacher_of_views: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Batch:
  """Returns an epoch's own arrays, see `Program.run`; {} without augmentation.

  Args:
    program: from `make_program`.
    key: of the epoch; [S] keys if the program is vmapped.
    num_examples: N.
    teacher_of_views: see `fit`.
  """
  if program.views is None:
    return {}
  own = {'views': program.views(key, num_examples)}
  if teacher_of_views is not None:
    views = np.asarray(own['views'])
    own['teacher_logits'] = jnp.asarray(
      np.stack([teacher_of_views(v) for v in views])
      if views.ndim == 2  # A program of several seeds.
      else teacher_of_views(views)
    )
  return own


def _postfix(totals: dict[str, np.ndarray]) -> str:
  count = np.sum(totals['count'])
  loss = np.sum(totals['loss']) / count
  accuracy = np.sum(totals['correct']) / count
  return f'loss {loss:.4f}, accuracy {accuracy:.2%}'


def _check_loss(
  totals: dict[str, np.ndarray], phase: str, epoch: int, settings: Settings
) -> None:
  step = int(np.min(totals['nonfinite_step']))
  if step != _NEVER:
    what = f'the loss is not finite at step {step}'
    raise _non_finite(what, phase, epoch, settings)


def _check_state(
  state: TrainState, phase: str, epoch: int, settings: Settings
) -> None:
  """Checks what is kept: a step's own loss does not say what became of it."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.all(
      np.isfinite(jax.device_get(leaf))
    ):
      what = f'{jax.tree_util.keystr(path)[1:]} is not finite after a step'
      raise _non_finite(what, phase, epoch, settings)


def _non_finite(
  what: str, phase: str, epoch: int, settings: Settings
) -> NonFiniteLoss:
  weights = settings.weights._asdict()
  for name, options in weights.pop('methods').items():
    weights |= {f'{name}.{option}': value for option, value in options.items()}
  return NonFiniteLoss(
    f'{what} of epoch {epoch} ({phase}), with '
    f'learning_rate={float(settings.learning_rate):g}, '
    + ', '.join(f'{name}={float(value):g}' for name, value in weights.items())
    + '; the last good checkpoint is kept. Lower the learning rate, or look '
    'for bad values in the data and the teacher outputs'
  )
