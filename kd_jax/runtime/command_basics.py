"""The parts that all commands share: flags, help, and errors in one line.

Every command has the flags --debug and --max_wait_h.
"""

import argparse
import contextlib
import errno
import os
import pathlib
import re
import shlex
import shutil
import signal
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from absl import app, flags

from kd_jax.runtime import console, errors, locks, suggestions

# The exit status of a command that Ctrl-C stopped, as a shell gives it.
_STOPPED = 128 + signal.SIGINT
# What absl calls the types of flags, and what a value of the type is.
_TYPES = {
  'int': 'a whole number',
  'float': 'a number',
  'bool': 'true or false',
}
_OTHER_TYPE = r'could not convert|invalid literal|\W*Non-boolean'
# The flags that ask for help, and the columns of the answer.
_HELP = ('--help', '-help', '-h', '-?', '--helpshort')
_WIDTH = 80
_DEBUG_HELP = (
  'Shows the traceback of an error instead of one line, and the time, process '
  'and place of each log line.'
)
_MAX_WAIT_HELP = (
  'The longest wait, in hours, for another process that trains or prepares '
  'what this command needs; 0 for no wait.'
)


def define_flags() -> None:
  """Defines the common flags of a command that absl parses."""
  flags.DEFINE_bool('debug', False, _DEBUG_HELP)
  flags.DEFINE_float('max_wait_h', locks.MAX_WAIT_H, _MAX_WAIT_HELP)


def apply_flags() -> None:
  """Applies the common flags, once absl has parsed them."""
  locks.limit_waits(flags.FLAGS.max_wait_h)


def parse_flags(
  argv: Sequence[str], values: flags.FlagValues = flags.FLAGS
) -> list[str]:
  """Parses a command line by absl; a mistake ends the program with one line.

  Args:
    argv: the command line, with the program's name.
    values: the flags that are set.
  Returns:
    The arguments that are not flags, with the program's name.
  Raises:
    SystemExit: if a flag is unknown, or a value is of another type.
  """
  try:
    return values(argv)
  except flags.UnrecognizedFlagError as error:
    name = error.flagname
    near = suggestions.nearest(name, values).replace('mean ', 'mean --')
    sys.exit(f'error: unknown flag --{name}{near}; --help lists the flags')
  except flags.Error as error:
    sys.exit(f'error: {_explain(str(error), values)}')


def _explain(problem: str, values: flags.FlagValues) -> str:
  """Returns what absl says of a flag, with the type that was expected."""
  found = re.fullmatch(r'flag --(\S+?)=(.*?): (.*)', problem, re.DOTALL)
  if found is None or found[1] not in values:
    return problem
  name, value, reason = found.groups()
  kind = values[name].flag_type()
  # Otherwise the value has the type, and is out of its range.
  if kind in _TYPES and re.match(_OTHER_TYPE, reason):
    reason = f'expected {_TYPES[kind]}'
  return f'--{name}={value}: {reason}'


def run_app(
  main: Callable[[list[str]], None],
  about: str,
  module: str,
  flags_parser: Callable[[list[str]], list[str]] = parse_flags,
) -> None:
  """Runs a command that absl parses, or prints its help.

  absl would end with an error after its help, and would list absl's flags
  before those of the command.

  Args:
    main: runs the command, with the arguments that are no flags.
    about: a description of the command, and examples of its use.
    module: the name of the module that defines the command's flags, as absl
      knows it: that of the program is `sys.argv[0]`.
    flags_parser: parses the flags.
  """
  if any(arg in _HELP for arg in sys.argv[1:]):
    print(_help_text(about, module))
    return
  app.run(main, flags_parser=flags_parser)


def _help_text(about: str, module: str) -> str:
  """Returns the help of a command, see `run_app`."""
  parts = [about.strip(), 'Flags:']
  for flag in (
    *flags.FLAGS.get_flags_for_module(module),
    *flags.FLAGS.get_flags_for_module(__name__),
  ):
    name = f'--{flag.name}'
    if flag.flag_type() != 'bool':
      name += f'={flag.name.rpartition("_")[2].upper()}'
    indent = ' ' * 4
    # absl adds half a sentence to a flag that may be repeated.
    about_flag = flag.help.partition(';\n')[0]
    text = textwrap.fill(
      about_flag, _WIDTH, initial_indent=indent, subsequent_indent=indent
    )
    parts.append(f'  {name}\n{text}')
  return '\n\n'.join(parts)


def parse_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
  """Parses and applies the common flags of a command that argparse parses.

  Args:
    parser: the parser of the command's own arguments.
  Returns:
    The command's own arguments.
  """
  parser.add_argument('--debug', action='store_true', help=_DEBUG_HELP)
  parser.add_argument(
    '--max_wait_h', type=float, default=locks.MAX_WAIT_H, help=_MAX_WAIT_HELP
  )
  args = parser.parse_args()
  locks.limit_waits(args.max_wait_h)
  del args.debug, args.max_wait_h
  return args


@contextlib.contextmanager
def one_line_errors(goes_on: str = '') -> Iterator[None]:
  """Ends the program with one line for what a user or a disk can cause.

  With --debug, errors keep their tracebacks.

  Args:
    goes_on: what the same command does after Ctrl-C, such as 'resumes the run'.
  Raises:
    SystemExit: with the line; status 130 after Ctrl-C, 1 after an error.
  """
  console.make_robust()
  _interrupts.clear()
  # A command in the background of a script ignores Ctrl-C.
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _note_interrupt)
  try:
    yield
  except (KeyboardInterrupt, ImportError) as error:
    if is_debugged() or not is_interrupt(error):
      raise
    # A second Ctrl-C ends the program at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    line = 'stopped'
    if goes_on:
      line += f': the same command {goes_on}: {_command()}'
    print(f'\n{line}', file=sys.stderr)
    sys.exit(_STOPPED)
  except (errors.UserError, OSError) as error:
    if is_debugged():
      raise
    sys.exit(f'error: {console.printable_lines(_describe(error))}')


# Whether Ctrl-C was pressed while `one_line_errors` was active.
_interrupts: list[int] = []


def _note_interrupt(number: int, frame: types.FrameType | None) -> NoReturn:
  """Handles SIGINT as Python does, and notes it."""
  del frame
  _interrupts.append(number)
  raise KeyboardInterrupt


def is_interrupt(error: BaseException) -> bool:
  """Returns whether Ctrl-C caused an error.

  A library that is being imported may turn it into an ImportError.
  """
  return isinstance(error, KeyboardInterrupt) or (
    isinstance(error, ImportError) and bool(_interrupts)
  )


def is_debugged() -> bool:
  """Returns whether the command has the flag --debug.

  The command itself is searched, because an error of its other flags comes
  before they are parsed.
  """
  return any(re.fullmatch('--?debug(=true)?', arg) for arg in sys.argv[1:])


def program(argv: Sequence[str]) -> str:
  """Returns how a user calls the program of a command line, without Python.

  Args:
    argv: the program and its arguments.
  """
  if is_installed_command(argv):
    return 'kd-jax run'
  return argv[0]


def is_installed_command(argv: Sequence[str]) -> bool:
  """Returns whether a command line is one of kd-jax, and none of launch.py."""
  path = pathlib.PurePath(argv[0])
  return path.stem == 'kd-jax' or path.parts[-2:] == ('kd_jax', '__main__.py')


def python() -> str:
  """Returns how a user starts the Python that runs this program.

  `python` in an activated environment; otherwise the path of the interpreter,
  from the current folder if that holds the environment.
  """
  running = os.path.abspath(sys.executable)
  found = shutil.which('python')
  if found is not None and os.path.abspath(found) == running:
    return 'python'
  below = os.path.relpath(running)
  return running if below.startswith(os.pardir) else below


def task(name: str) -> str:
  """Returns how a user starts a task of kd_jax with this Python.

  Args:
    name: the task, such as 'export'.
  """
  if is_installed_command(sys.argv):
    return f'{_kd_jax()} {name}'
  return f'{shlex.quote(python())} -m kd_jax.{name}'


def _kd_jax() -> str:
  """Returns how a user starts the command kd-jax that is running."""
  started = pathlib.PurePath(sys.argv[0])
  if started.stem != 'kd-jax':
    return f'{shlex.quote(python())} -m kd_jax'
  found = shutil.which('kd-jax')
  if found is not None and os.path.abspath(found) == os.path.abspath(started):
    return 'kd-jax'
  return shlex.quote(str(started))


def python_arguments() -> list[str]:
  """Returns the arguments for Python that start this command again."""
  if is_installed_command(sys.argv):
    return ['-m', 'kd_jax', 'run', *sys.argv[1:]]
  return list(sys.argv)


def _command() -> str:
  """Returns the command line, to be pasted into a shell."""
  start = f'{shlex.quote(python())} {shlex.quote(sys.argv[0])}'
  path = pathlib.PurePath(sys.argv[0])
  module = re.search(r'kd_jax/(\w+?)(?:/__main__)?\.py$', path.as_posix())
  if is_installed_command(sys.argv):
    start = f'{_kd_jax()} run'
  elif module is not None:  # `python -m kd_jax.export`.
    start = task(module[1])
  return shlex.join([*shlex.split(start), *sys.argv[1:]])


def _describe(error: Exception) -> str:
  if isinstance(error, OSError) and error.filename is None:
    return f'{error} (--debug shows where)'
  if isinstance(error, OSError) and error.errno == errno.ENOSPC:
    return f'{error}: free some space, and start the same command again'
  return str(error)
