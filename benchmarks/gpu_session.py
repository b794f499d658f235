"""Trains the ResNet-50 teacher and Table 2 on a GPU that is lent for minutes.

  python benchmarks/gpu_session.py pack --to=.gpu      (where the data is)
  python benchmarks/gpu_session.py part --from=.gpu --home=HOME   (on the GPU)
  python benchmarks/gpu_session.py run --home=HOME --out=OUT STEP ...

The lent machine has JAX and PyTorch, and neither network nor git history. The
data travels packed, in two parts. HOME keeps the data and the runs between
calls. After each step, OUT/session.tar.gz holds all results so far, so that a
session that is cut off loses the step in progress alone. A step that was cut
off goes on where it was, if it is named again.

Steps, in order of worth:
  warm: compiles the trainings below on generated images. Needs no data.
  choose: trains a ResNet-18 by each recipe of TRAININGS in
    configs/cifar_teachers.py, on 45,000 images. The recipe with the highest
    accuracy on the other 5,000 training images is chosen; of equal ones, the
    first.
  teacher: trains the ResNet-50 by the chosen recipe on all training images.
  table2: five seeds of Table 2, as coded.
  own_scaling: three seeds of the students whose teacher gets inputs in the
    teacher's scaling.
  labels: three seeds of the baseline without a KD loss.
  inference: times the teacher and the ideal student.
  training: times training steps beside PyTorch's.
  weights: writes the teacher's weights to OUT in parts.
"""

import argparse
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import harness
import numpy as np
import packed_cifar

from configs import cifar_teachers
from kd_jax.runtime import environment, files

# Epochs of the ResNet-18 in `choose`.
CHOICE_EPOCHS = 30
SEEDS = {'table2': 5, 'own_scaling': 3, 'labels': 3}
WORKERS = {'table2': 8, 'own_scaling': 3, 'labels': 3}
# Students of Table 2 with networks or losses that compile apart.
_COMPILED_STUDENTS = ('baseline', 'blocks_2200', 'ideal', 'ideal_no_kd')
_GENERATED = {'train': 50_000, 'test': 10_000}
_SMOKE = {'train': 1024, 'test': 256}  # As in the recipes' `smoke`.
_TIMED = ('ideal', 'teacher')
_TIMED_SYSTEMS = (
  'ours',
  'ours-bfloat16',
  'torch-float32',
  'torch-bfloat16',
  'torch-compiled-bfloat16',
)
_WEIGHT_PART_BYTES = 15_000_000
_TEACHER = harness.ROOT / cifar_teachers.TEACHER


class Session(NamedTuple):
  """Where a session works, and how large it is.

  Attributes:
    home: Folder of the data and the runs, kept between calls.
    out: Folder for what goes home.
    smoke: Whether every training is shrunk to seconds, for a rehearsal.
  """

  home: pathlib.Path
  out: pathlib.Path
  smoke: bool

  @property
  def runs(self) -> pathlib.Path:
    """The folder of all runs."""
    return self.home / 'runs'

  def launch(
    self, run: str, recipe: str, *overrides: str, workers: int = 1
  ) -> list[str]:
    """Returns the command of a run.

    Args:
      run: Name of the run's folder.
      recipe: What follows `configs/cifar.py:`.
      *overrides: Fields and their values, FIELD=VALUE.
      workers: Processes that train students side by side.
    """
    smoke = ',smoke' if self.smoke else ''
    return [
      sys.executable,
      'launch.py',
      f'--config=configs/cifar.py:{recipe}{smoke}',
      f'--workdir={self.runs / run}',
      f'--runs_dir={self.runs}',
      f'--data_dir={self.home / "data"}',
      *([f'--workers={workers}'] if workers > 1 else []),
      *(f'--config.{override}' for override in overrides),
    ]


class Command(NamedTuple):
  """A command of a step.

  Attributes:
    name: Names its log.
    argv: The command.
    enough: Says whether the command may be stopped before its end; None: never.
  """

  name: str
  argv: list[str]
  enough: Callable[[], bool] | None = None


class Step(NamedTuple):
  """A step of the session.

  Attributes:
    limit_s: Seconds after which the step is stopped.
    commands: Returns the commands, which run side by side.
    finish: Called after the commands.
  """

  limit_s: float
  commands: Callable[[Session], list[Command]]
  finish: Callable[[Session], None] = lambda session: None


# --- What the steps do. ---


def _warm_commands(session: Session) -> list[Command]:
  images = session.home / 'generated.npz'
  logits = session.home / 'generated-logits.npz'
  if not images.exists():
    _generate(images, logits, smoke=session.smoke)
  commands = []
  for training in cifar_teachers.TRAININGS:
    for make in (_teacher_command, _choice_command):
      name = f'warm-{make(session, training).name}-{training}'
      warm = session._replace(home=session.home / 'warm' / name)
      argv = [*make(warm, training).argv, *_on_generated(session)]
      enough = functools.partial(_has_epochs, warm.runs)
      commands.append(Command(name, argv, enough))
  for row in _COMPILED_STUDENTS:
    name = f'warm-{row}'
    warm = session._replace(home=session.home / 'warm' / name)
    overrides = (
      'train.epochs=1',
      'benchmark.enabled=false',
      f'teacher.logits={logits}',
    )
    argv = [*warm.launch(row, row, *overrides), *_on_generated(session)]
    commands.append(Command(name, argv))
  return commands


def _on_generated(session: Session) -> list[str]:
  return [f'--config.data.name={session.home / "generated.npz"}']


def _generate(
  images: pathlib.Path, logits: pathlib.Path, *, smoke: bool
) -> None:
  """Writes random images, labels and logits in the shapes of CIFAR-10."""
  rng = np.random.default_rng(0)
  arrays, outputs = {}, {}
  for split, count in _GENERATED.items():
    if smoke:
      count = _SMOKE[split]
    arrays[f'{split}_images'] = rng.integers(
      0, 256, (count, 32, 32, 3), np.uint8
    )
    arrays[f'{split}_labels'] = np.arange(count) % 10
    outputs[split] = rng.normal(size=(count, 10)).astype(np.float32)
  np.savez(images, **arrays)
  np.savez(logits, **outputs)


def _has_epochs(runs: pathlib.Path) -> bool:
  """Returns whether a teacher that trains below a folder has two epochs."""
  return any(
    path.read_text().count('\n') >= 2 for path in runs.rglob('metrics.jsonl')
  )


def _choice_command(session: Session, training: str) -> Command:
  holdout = 256 if session.smoke else cifar_teachers.HOLDOUT
  name = f'choice-{training}'
  argv = session.launch(
    name,
    f'resnet18,teacher=pool,training={training},epochs={CHOICE_EPOCHS}',
    f'data.holdout_examples={holdout}',
    'teacher.train.holdout_fraction=0.0',
  )
  return Command(name, argv)


def _choose_commands(session: Session) -> list[Command]:
  return [
    _choice_command(session, training) for training in cifar_teachers.TRAININGS
  ]


def _write_choice(session: Session) -> None:
  accuracies = {}
  for training in cifar_teachers.TRAININGS:
    record = files.read_json(session.runs / f'choice-{training}' / 'run.json')
    if record and record.get('status') == 'complete':
      accuracies[training] = record['teacher']['test']['accuracy']
  if not accuracies:
    raise RuntimeError('no recipe was tried to its end')
  chosen = max(accuracies, key=lambda training: accuracies[training])
  files.write_json(
    session.home / 'choice.json',
    {'chosen': chosen, 'held_out_accuracy': accuracies},
  )


def _teacher_command(
  session: Session, training: str, *overrides: str, run: str = 'teacher'
) -> Command:
  recipe = f'teacher,training={training}'
  return Command(run, session.launch(run, recipe, *overrides))


def _chosen(session: Session) -> str:
  choice = files.read_json(session.home / 'choice.json')
  if choice is None:
    raise RuntimeError('no recipe was chosen: the step `choose` comes first')
  return choice['chosen']


def _teacher_commands(session: Session) -> list[Command]:
  return [_teacher_command(session, _chosen(session))]


def _install_teacher(session: Session) -> None:
  """Makes the new teacher's outputs those that recipes of Table 2 use."""
  outputs = session.runs / 'teacher' / 'outputs'
  if (outputs / 'manifest.json').exists() and not session.smoke:
    shutil.rmtree(_TEACHER, ignore_errors=True)
    shutil.copytree(outputs, _TEACHER)


def _students(
  step: str, recipe: str, *overrides: str
) -> Callable[[Session], list[Command]]:
  """Returns a step's command, which trains several seeds of students."""

  def commands(session: Session) -> list[Command]:
    argv = session.launch(
      step,
      f'{recipe},seeds={SEEDS[step]}',
      # In one process, seeds would train as one program.
      'seeds_per_program=1',
      'benchmark.enabled=false',
      *overrides,
      workers=2 if session.smoke else WORKERS[step],
    )
    return [Command(step, argv)]

  return commands


def _batch_sizes(session: Session) -> tuple[int, ...]:
  return (1,) if session.smoke else (1, 32, 100, 1000)


def _inference_commands(session: Session) -> list[Command]:
  argv = [
    *(sys.executable, '-m', 'kd_jax.benchmark'),
    '--config=configs/cifar.py:ideal',
    f'--data_dir={session.home / "data"}',
    f'--config.benchmark.batch_sizes={_batch_sizes(session)}',
    f'--config.benchmark.cold_calls={0 if session.smoke else 1}',
    f'--out={session.runs / "inference.json"}',
  ]
  return [Command('inference', argv)]


def _training_commands(session: Session) -> list[Command]:
  argv = [
    *(sys.executable, 'benchmarks/resnet_training.py'),
    f'--rounds={1 if session.smoke else 5}',
    f'--out_dir={session.runs}',
    *('--networks', *(('ideal_stem_2',) if session.smoke else _TIMED)),
    *('--systems', *(('ours',) if session.smoke else _TIMED_SYSTEMS)),
  ]
  return [Command('training', argv)]


def _weights_commands(session: Session) -> list[Command]:
  # The finished training is found, and its weights are written.
  field = 'teacher.publish_weights=true'
  return [_teacher_command(session, _chosen(session), field, run='weights')]


def _split_weights(session: Session) -> None:
  content = (session.runs / 'weights/outputs/weights.npz').read_bytes()
  for number in range(-(-len(content) // _WEIGHT_PART_BYTES)):
    first = number * _WEIGHT_PART_BYTES
    files.write_bytes(
      session.out / f'weights-{number}.bin',
      content[first : first + _WEIGHT_PART_BYTES],
    )


STEPS = {
  'warm': Step(150, _warm_commands),
  'choose': Step(150, _choose_commands, _write_choice),
  'teacher': Step(420, _teacher_commands, _install_teacher),
  'table2': Step(420, _students('table2', 'table2')),
  'own_scaling': Step(
    240,
    _students('own_scaling', 'table2', 'teacher.outputs_scaling=cifar10'),
  ),
  'labels': Step(120, _students('labels', 'baseline', 'distill.kd_weight=0.0')),
  'inference': Step(180, _inference_commands),
  'training': Step(240, _training_commands),
  'weights': Step(60, _weights_commands, _split_weights),
}


# --- Running the steps. ---


def run(session: Session, names: Sequence[str], budget_s: float) -> bool:
  """Runs steps one after the other.

  Args:
    session: Where, and how large.
    names: Names in STEPS.
    budget_s: Seconds for all steps. A step is stopped when they are over.
  Returns:
    Whether every step came to its end.
  """
  deadline = time.monotonic() + budget_s
  done = []
  for name in names:
    began, step = time.monotonic(), STEPS[name]
    limit_s = deadline - began
    if not session.smoke:
      limit_s = min(limit_s, step.limit_s)
    try:
      problem = _run_step(session, step, limit_s)
      step.finish(session)
    except Exception as error:  # The steps that follow may still work.
      problem = repr(error)
    done.append(
      {
        'step': name,
        'seconds': time.monotonic() - began,
        'problem': problem,
      }
    )
    print(done[-1], flush=True)
    files.write_json(session.out / 'status.json', done)
    _collect(session)
  return not any(entry['problem'] for entry in done)


def _run_step(session: Session, step: Step, limit_s: float) -> str:
  """Runs a step's commands side by side; returns what went wrong, or ''."""
  if limit_s <= 0:
    raise TimeoutError('no time was left')
  deadline = time.monotonic() + limit_s
  running = []
  for command in step.commands(session):
    with open(session.runs / f'{command.name}.log', 'ab') as log:
      process = subprocess.Popen(
        command.argv,
        cwd=harness.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ | {'TQDM_DISABLE': '1'},
        start_new_session=True,
      )
    running.append((command, process))
  problems = []
  while running:
    for command, process in tuple(running):
      code = process.poll()
      if code is None and command.enough is not None and command.enough():
        _stop(process)
        code = 0
      if code is not None:
        running.remove((command, process))
        if code:
          problems.append(f'{command.name} ended with {code}')
    if time.monotonic() > deadline:
      problems += [f'{command.name} was stopped' for command, _ in running]
      for _, process in running:
        _stop(process)
      break
    time.sleep(0.2)
  return '; '.join(problems)


def _stop(process: subprocess.Popen) -> None:
  """Ends a command and the processes that it started."""
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()


def _collect(session: Session) -> None:
  """Packs the records, logs and teacher outputs of all runs into one file."""
  kept = [
    path
    for path in session.home.rglob('*')
    if path.is_file() and _goes_home(path.relative_to(session.home))
  ]
  packed = session.out / 'session.tar.gz.part'
  with tarfile.open(packed, 'w:gz') as archive:
    for path in kept:
      archive.add(path, path.relative_to(session.home))
  os.replace(packed, session.out / 'session.tar.gz')


def _goes_home(path: pathlib.Path) -> bool:
  """Returns whether a file of the home folder is part of the results."""
  if 'data' in path.parts or any(
    part.startswith('warm') for part in path.parts[1:-1]
  ):
    return False
  if path.suffix in ('.json', '.jsonl', '.log', '.md'):
    return 'checkpoints' not in path.parts
  # The outputs that the teacher's run publishes.
  return path.suffix == '.npy' and path.parts[-3:-1] == ('teacher', 'outputs')


def _read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  commands = parser.add_subparsers(dest='command', required=True)
  pack = commands.add_parser('pack', help='packs the data')
  pack.add_argument('--to', type=pathlib.Path, required=True)
  pack.add_argument('--data_dir', help='as in launch.py')
  part = commands.add_parser('part', help='takes a part of the data in')
  part.add_argument('--from', dest='source', type=pathlib.Path, required=True)
  part.add_argument('--home', type=pathlib.Path, required=True)
  steps = commands.add_parser('run', help='runs steps')
  steps.add_argument('--home', type=pathlib.Path, required=True)
  steps.add_argument('--out', type=pathlib.Path, required=True)
  steps.add_argument('--budget_s', type=float, default=560)
  steps.add_argument('--smoke', action='store_true')
  steps.add_argument('steps', nargs='+', choices=STEPS)
  return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
  """Runs one of the three commands of the module's docstring."""
  args = _read_arguments(argv)
  if args.command == 'pack':
    packed_cifar.pack_prepared(args.to, args.data_dir)
    version = environment.describe()['code']
    if version.endswith('-dirty'):
      sys.exit(f'error: the tree differs from its commit ({version}): commit')
    (args.to / 'code_version').write_text(version)
  elif args.command == 'part':
    packed_cifar.take_in(args.source, args.home)
  else:
    session = Session(args.home.resolve(), args.out.resolve(), args.smoke)
    for folder in (session.runs, session.out):
      folder.mkdir(parents=True, exist_ok=True)
    sys.exit(not run(session, args.steps, args.budget_s))


if __name__ == '__main__':
  main()
