"""How a command of this project ends: with its results, or with one line."""

import contextlib
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence

from kd_jax.runtime import console, errors

# The exit status of a command that Ctrl-C stopped, as a shell gives it.
_STOPPED = 128 + signal.SIGINT
# The environment variable that asks for tracebacks.
_DEBUG = 'KD_JAX_DEBUG'


@contextlib.contextmanager
def one_line_errors(goes_on: str = '') -> Iterator[None]:
  """Ends the program with one line for what a user or a disk can cause.

  With KD_JAX_DEBUG=1 in the environment, errors keep their tracebacks.

  Args:
    goes_on: what the same command does after Ctrl-C, such as 'resumes the run'.
  Raises:
    SystemExit: with the line; status 130 after Ctrl-C, 1 after an error.
  """
  console.make_robust()
  try:
    yield
  except KeyboardInterrupt:
    if is_debugged():
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


def is_debugged() -> bool:
  """Returns whether the user asks for tracebacks and for detailed log lines."""
  return os.environ.get(_DEBUG, '') not in ('', '0')


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


def python_arguments() -> list[str]:
  """Returns the arguments for Python that start this command again."""
  if is_installed_command(sys.argv):
    return ['-m', 'kd_jax', 'run', *sys.argv[1:]]
  return list(sys.argv)


def _command() -> str:
  """Returns the command line, to be pasted into a shell."""
  words = [*program(sys.argv).split(' '), *sys.argv[1:]]
  if not is_installed_command(sys.argv):
    words.insert(0, 'python')
  return shlex.join(words)


def _describe(error: Exception) -> str:
  if isinstance(error, OSError) and error.filename is None:
    return f'{error} (KD_JAX_DEBUG=1 shows where)'
  return str(error)
