"""The steps of gpu_session.py: what each trains, by which commands.

In order of importance:
  warm: compiles the trainings below on generated images. Needs no data.
  choose: trains a ResNet-18 by each recipe of TRAININGS in
    configs/cifar_teachers.py, on 45,000 images. The recipe with the highest
    accuracy on the other 5,000 training images is chosen; if two are equal,
    the first.
  teacher: trains the ResNet-50 by the chosen recipe on all training images.
  table2: five seeds of Table 2, as coded.
  own_scaling: three seeds of the students whose teacher gets inputs in the
    teacher's scaling.
  labels: three seeds of the baseline without a KD loss.
  contrast: trains the ideal student (five seeds, full and reduced set) on three
    teachers: 10 epochs with either scaling, and 100 epochs with the scaling
    `cifar10`.
  as_written: three seeds of Table 2 by the paper's text.
  strong: looks for a strong teacher that two CPU cores can train: trains
    networks without a max pool on 45,000 images, and tests them on the other
    5,000 training images.
  inference: times the teacher and the ideal student.
  training: times training steps beside PyTorch's.
  weights: writes the teacher's weights to the results, in parts.
"""

import functools
import pathlib
import shutil
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import generated_cifar
import harness

from configs import cifar_teachers
from kd_jax.runtime import files

# Epochs of the ResNet-18 in `choose`.
CHOICE_EPOCHS = 30
SEEDS = {
  'table2': 5,
  'own_scaling': 3,
  'labels': 3,
  'contrast': 5,
  'as_written': 3,
}
WORKERS = {'table2': 8, 'own_scaling': 8, 'labels': 3, 'as_written': 8}
# Teachers of `contrast`: the folder, and the scaling of their inputs.
_CONTRAST = {
  '10_epochs-symmetric': (f'{cifar_teachers.TEACHER}-10_epochs', 'symmetric'),
  '10_epochs-cifar10': (f'{cifar_teachers.TEACHER}-10_epochs', 'cifar10'),
  '100_epochs-cifar10': (cifar_teachers.TEACHER, 'cifar10'),
}
# Candidates of `strong`: fields of the teacher's section.
_WIDE = {
  'model.blocks': (1, 1, 1),
  'model.widths': (128, 256, 512),
  'model.strides': (2, 2, 2),
}
_CUTOUT = {'train.augmentation': 'crop_flip_cutout'}
_STRONG: dict[str, dict[str, Any]] = {
  'wide': _WIDE,
  'wide_cutout': _WIDE | _CUTOUT,
  'wide_cutout_smoothed': _WIDE | _CUTOUT | {'distill.label_smoothing': 0.1},
  'wide_decay_doubled': _WIDE | {'optim.weight_decay': 1e-3},
  'four_stages': {
    'model.blocks': (1, 1, 1, 1),
    'model.widths': (64, 128, 256, 512),
    'train.epochs': 20,
  },
  'half_18_cutout': _CUTOUT,
  'resnet9_cutout': cifar_teachers.BEST_TEACHERS['resnet9'].fields | _CUTOUT,
}
# Students of Table 2 whose networks or losses are compiled separately.
_COMPILED_STUDENTS = ('baseline', 'blocks_2200', 'ideal', 'ideal_no_kd')
_WHOLE = {'train': 50_000, 'test': 10_000}  # Examples of CIFAR-10.
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
  """The folders of a session, and whether it is a rehearsal.

  Attributes:
    work_dir: folder of the data and the runs, kept between calls.
    out_dir: folder of the results, which are copied off the lent machine.
    smoke: whether every training is shrunk to seconds, for a rehearsal.
  """

  work_dir: pathlib.Path
  out_dir: pathlib.Path
  smoke: bool

  @property
  def runs(self) -> pathlib.Path:
    """The folder of all runs."""
    return self.work_dir / 'runs'

  def launch(
    self, run: str, recipe: str, *overrides: str, workers: int = 1
  ) -> list[str]:
    """Returns the command of a run.

    Args:
      run: name of the run's folder.
      recipe: name and arguments of a recipe of configs/cifar.py.
      *overrides: overrides of the config, FIELD=VALUE.
      workers: processes that train students side by side.
    """
    smoke = ',smoke' if self.smoke else ''
    return [
      sys.executable,
      'launch.py',
      f'--config=configs/cifar.py:{recipe}{smoke}',
      f'--workdir={self.runs / run}',
      f'--runs_dir={self.runs}',
      f'--data_dir={self.work_dir / "data"}',
      *([f'--workers={workers}'] if workers > 1 else []),
      *(f'--config.{override}' for override in overrides),
    ]


class Command(NamedTuple):
  """A command of a step.

  Attributes:
    name: name of the command's log.
    argv: the program and its arguments.
    may_stop: () -> whether the command may be stopped; None if the command must
      finish.
  """

  name: str
  argv: list[str]
  may_stop: Callable[[], bool] | None = None


class Step(NamedTuple):
  """A step of the session.

  Attributes:
    limit_s: seconds after which the step is stopped.
    commands: session -> commands, which run side by side.
    finish: a function that is called after the commands.
    prepare: a function that is called before the commands.
  """

  limit_s: float
  commands: Callable[[Session], list[Command]]
  finish: Callable[[Session], None] = lambda session: None
  prepare: Callable[[Session], None] = lambda session: None


# --- What the steps do. ---


def _warm_commands(session: Session) -> list[Command]:
  commands = []
  for training in cifar_teachers.TRAININGS:
    for make in (_teacher_command, _choice_command):
      name = f'warm-{make(session, training).name}-{training}'
      warm = session._replace(work_dir=session.work_dir / 'warm' / name)
      argv = [*make(warm, training).argv, *_on_generated(session)]
      may_stop = functools.partial(_has_two_epochs, warm.runs)
      commands.append(Command(name, argv, may_stop))
  for row in _COMPILED_STUDENTS:
    name = f'warm-{row}'
    warm = session._replace(work_dir=session.work_dir / 'warm' / name)
    overrides = (
      'train.epochs=1',
      'benchmark.enabled=false',
      f'teacher.logits={generated_cifar.logits_file(session.work_dir)}',
    )
    argv = [*warm.launch(row, row, *overrides), *_on_generated(session)]
    commands.append(Command(name, argv))
  return commands


def _on_generated(session: Session) -> list[str]:
  file = generated_cifar.images_file(session.work_dir)
  return [f'--config.data.name={file}']


def _generate(session: Session) -> None:
  generated_cifar.write(session.work_dir, _SMOKE if session.smoke else _WHOLE)


def _has_two_epochs(runs: pathlib.Path) -> bool:
  """Returns whether a teacher that trains below a folder has two epochs."""
  return any(
    path.read_text().count('\n') >= 2 for path in runs.rglob('metrics.jsonl')
  )


def _holds_out(session: Session) -> tuple[str, str]:
  """Returns overrides that compare teachers on held-out training images."""
  count = 256 if session.smoke else cifar_teachers.HOLDOUT
  return f'data.holdout_examples={count}', 'teacher.train.holdout_fraction=0.0'


def _choice_command(session: Session, training: str) -> Command:
  name = f'choice-{training}'
  argv = session.launch(
    name,
    f'resnet18,teacher=pool,training={training},epochs={CHOICE_EPOCHS}',
    *_holds_out(session),
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
    raise RuntimeError('no recipe has finished training')
  chosen = max(accuracies, key=lambda training: accuracies[training])
  files.write_json(
    session.work_dir / 'choice.json',
    {'chosen': chosen, 'held_out_accuracy': accuracies},
  )


def _teacher_command(
  session: Session, training: str, *overrides: str, run: str = 'teacher'
) -> Command:
  recipe = f'teacher,training={training}'
  return Command(run, session.launch(run, recipe, *overrides))


def _chosen(session: Session) -> str:
  choice = files.read_json(session.work_dir / 'choice.json')
  if choice is None:
    raise RuntimeError('no recipe was chosen: the step `choose` comes first')
  return choice['chosen']


def _teacher_commands(session: Session) -> list[Command]:
  return [_teacher_command(session, _chosen(session))]


def _install_teacher(session: Session) -> None:
  """Installs the new teacher's outputs for the recipes of Table 2."""
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


def _contrast_commands(session: Session) -> list[Command]:
  commands = []
  for name, (folder, scaling) in _CONTRAST.items():
    for recipe in ('ideal', 'ideal_reduced'):
      argv = session.launch(
        f'{recipe}-{name}',
        f'{recipe},seeds={SEEDS["contrast"]}',
        'seeds_per_program=1',
        'benchmark.enabled=false',
        f'teacher.pretrained={folder}',
        f'teacher.outputs_scaling={scaling}',
        workers=2,
      )
      commands.append(Command(f'{recipe}-{name}', argv))
  return commands


def _strong_commands(session: Session) -> list[Command]:
  commands = []
  for name, candidate in _STRONG.items():
    fields = {'model.dtype': 'auto', **candidate}
    if session.smoke:
      fields.pop('train.epochs', None)
    argv = session.launch(
      f'strong-{name}',
      'resnet18,teacher=no_pool,epochs=30',
      *_holds_out(session),
      *(f'teacher.{field}={value}' for field, value in fields.items()),
    )
    commands.append(Command(f'strong-{name}', argv))
  return commands


def _batch_sizes(session: Session) -> tuple[int, ...]:
  return (1,) if session.smoke else (1, 32, 100, 1000)


def _inference_commands(session: Session) -> list[Command]:
  argv = [
    *(sys.executable, '-m', 'kd_jax.benchmark'),
    '--config=configs/cifar.py:ideal',
    f'--data_dir={session.work_dir / "data"}',
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
  # The training is complete: the command only writes the weights.
  field = 'teacher.publish_weights=true'
  return [_teacher_command(session, _chosen(session), field, run='weights')]


def _split_weights(session: Session) -> None:
  content = (session.runs / 'weights/outputs/weights.npz').read_bytes()
  for number in range(-(-len(content) // _WEIGHT_PART_BYTES)):
    first = number * _WEIGHT_PART_BYTES
    files.write_bytes(
      session.out_dir / f'weights-{number}.bin',
      content[first : first + _WEIGHT_PART_BYTES],
    )


STEPS = {
  'warm': Step(150, _warm_commands, prepare=_generate),
  'choose': Step(150, _choose_commands, _write_choice),
  'teacher': Step(420, _teacher_commands, _install_teacher),
  'table2': Step(420, _students('table2', 'table2')),
  'own_scaling': Step(
    240,
    _students('own_scaling', 'table2', 'teacher.outputs_scaling=cifar10'),
  ),
  'labels': Step(120, _students('labels', 'baseline', 'distill.kd_weight=0.0')),
  'contrast': Step(240, _contrast_commands),
  'as_written': Step(
    240, _students('as_written', 'table2,protocol=as_written')
  ),
  'strong': Step(240, _strong_commands),
  'inference': Step(180, _inference_commands),
  'training': Step(240, _training_commands),
  'weights': Step(60, _weights_commands, _split_weights),
}
