"""Trains the ResNet-50 teacher and Table 2 on a GPU that is lent for minutes.

  # On the machine that has the data:
  python benchmarks/gpu_session.py pack --to=.gpu
  # On the GPU's machine:
  python benchmarks/gpu_session.py part --from=.gpu --work_dir=WORK
  python benchmarks/gpu_session.py run --work_dir=WORK --out_dir=OUT STEP ...

The lent machine has JAX and PyTorch, and neither network nor git history. The
data travels packed, in two parts. WORK keeps the data and the runs between
calls. After each step, OUT/session.tar.gz holds all results so far, so that a
session that is cut off loses only the step in progress. If a step was cut off,
the same command resumes the step.

gpu_steps.py describes the steps.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence

import harness
import packed_cifar
from gpu_steps import STEPS, Session, Step

from kd_jax.runtime import environment, files


def run(session: Session, names: Sequence[str], budget_s: float) -> bool:
  """Runs steps one after the other.

  Args:
    session: the folders, and whether this is a rehearsal.
    names: names in STEPS.
    budget_s: seconds for all steps; a step that runs longer is stopped.
  Returns:
    Whether every step succeeded.
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
    files.write_json(session.out_dir / 'status.json', done)
    _collect(session)
  return not any(entry['problem'] for entry in done)


def _run_step(session: Session, step: Step, limit_s: float) -> str:
  """Runs a step's commands side by side; returns what went wrong, or ''."""
  if limit_s <= 0:
    raise TimeoutError('no time was left')
  deadline = time.monotonic() + limit_s
  running = []
  step.prepare(session)
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
      if code is None and command.may_stop is not None and command.may_stop():
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
    for path in session.work_dir.rglob('*')
    if path.is_file() and _is_result(path.relative_to(session.work_dir))
  ]
  packed = session.out_dir / 'session.tar.gz.part'
  with tarfile.open(packed, 'w:gz') as archive:
    for path in kept:
      archive.add(path, path.relative_to(session.work_dir))
  os.replace(packed, session.out_dir / 'session.tar.gz')


def _is_result(path: pathlib.Path) -> bool:
  """Returns whether a file of the work folder is part of the results."""
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
  part = commands.add_parser('part', help='stores a part of the data')
  part.add_argument('--from', dest='source', type=pathlib.Path, required=True)
  part.add_argument('--work_dir', type=pathlib.Path, required=True)
  steps = commands.add_parser('run', help='runs steps')
  steps.add_argument('--work_dir', type=pathlib.Path, required=True)
  steps.add_argument('--out_dir', type=pathlib.Path, required=True)
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
    packed_cifar.take_in(args.source, args.work_dir)
  else:
    session = Session(
      args.work_dir.resolve(), args.out_dir.resolve(), args.smoke
    )
    for folder in (session.runs, session.out_dir):
      folder.mkdir(parents=True, exist_ok=True)
    sys.exit(not run(session, args.steps, args.budget_s))


if __name__ == '__main__':
  main()
