"""How a command of this project ends: with its results, or with one line.

Every command has two flags in common: --debug and --max_wait_h.
"""

import argparse
import contextlib
import errno
import re
import shlex
import signal
import sys
from collections.abc import Iterator

from absl import flags

from kd_jax.runtime import console, errors, locks

# The exit status of a command that Ctrl-C stopped, as a shell gives it.
_STOPPED = 128 + signal.SIGINT
_DEBUG_HELP = 'Shows the traceback of an error instead of one line.'
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
  try:
    yield
  except KeyboardInterrupt:
    if _is_debugged():
      raise
    # A second Ctrl-C ends the program at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    line = 'stopped'
    if goes_on:
      line += f': the same command {goes_on}: {_command()}'
    print(f'\n{line}', file=sys.stderr)
    sys.exit(_STOPPED)
  except (errors.UserError, OSError) as error:
    if _is_debugged():
      raise
    sys.exit(f'error: {console.printable_lines(_describe(error))}')


def _is_debugged() -> bool:
  """Returns whether the command has the flag --debug.

  The command itself is searched, because an error of its other flags comes
  before they are parsed.
  """
  return any(re.fullmatch('--?debug(=true)?', arg) for arg in sys.argv[1:])


def _command() -> str:
  """Returns the command line, to be pasted into a shell."""
  return shlex.join(['python', *sys.argv])


def _describe(error: Exception) -> str:
  if isinstance(error, OSError) and error.filename is None:
    return f'{error} (--debug shows where)'
  if isinstance(error, OSError) and error.errno == errno.ENOSPC:
    return f'{error}: free some space, and start the same command again'
  return str(error)
