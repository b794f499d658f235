"""The end of a command: with results, or with one line.

Also tests `kd_jax/runtime/errors.py`.
"""

import contextlib
import io
import signal
import sys

import pytest

from kd_jax import __main__ as kd_jax_main
from kd_jax.runtime import command_basics, errors
from tests import helpers

pytestmark = pytest.mark.faults


@pytest.fixture(name='restored', autouse=True)
def _restored(monkeypatch):
  """Restores what the end of a command changes."""
  before = signal.getsignal(signal.SIGINT)
  monkeypatch.setattr(sys, 'argv', ['launch.py'])
  yield
  signal.signal(signal.SIGINT, before)


def _end(error, goes_on=''):
  """Returns the exit code of a command that ends with an error."""
  with pytest.raises(SystemExit) as raised:
    with command_basics.one_line_errors(goes_on):
      raise error
  return raised.value.code


def test_an_error_of_the_user_is_one_line():
  """A mistake of the user: one line."""
  assert _end(errors.UserError('config.a=1')) == 'error: config.a=1'


def test_an_error_of_the_disk_names_its_file():
  """An error of the disk: one line names the file."""
  error = OSError(28, 'No space left on device', '/disk/a')
  expected = (
    "error: [Errno 28] No space left on device: '/disk/a': free some space, "
    'and start the same command again'
  )
  assert _end(error) == expected
  assert '--debug shows where' in _end(OSError(5, 'I/O error'))


def test_sequences_of_a_terminal_are_escaped():
  """A name that would move the terminal's cursor: it is escaped."""
  line = _end(errors.UserError('the class \x1b[2J\x07\nis empty'))
  assert line == 'error: the class \\x1b[2J\\x07\nis empty'


def test_ctrl_c_says_how_to_go_on(monkeypatch):
  """Ctrl-C: one line says how to go on."""
  monkeypatch.setattr(sys, 'argv', ['launch.py', '--workdir=my runs'])
  monkeypatch.setattr(command_basics.shutil, 'which', lambda _: sys.executable)
  monkeypatch.setattr(sys, 'stderr', io.StringIO())
  assert _end(KeyboardInterrupt(), 'resumes the run') == 130
  assert sys.stderr.getvalue() == (
    '\nstopped: the same command resumes the run: python launch.py '
    "'--workdir=my runs'\n"
  )


def test_other_errors_and_debugged_ones_keep_their_traceback(monkeypatch):
  """An error of the program, or --debug: the traceback is shown."""
  with pytest.raises(ZeroDivisionError), command_basics.one_line_errors():
    raise ZeroDivisionError
  monkeypatch.setattr(sys, 'argv', ['launch.py', '--list', '--debug'])
  for error in (errors.UserError, KeyboardInterrupt):
    with pytest.raises(error), command_basics.one_line_errors():
      raise error


def test_help_is_printed_and_is_no_error(monkeypatch, capsys):
  """--help: the flags of the command and the common flags; nothing is run."""
  monkeypatch.setattr(sys, 'argv', ['kd_jax', '--help'])
  command_basics.run_app(None, 'Does a thing.', 'kd_jax.cli.launch')
  text = capsys.readouterr().out
  assert text.startswith('Does a thing.\n\nFlags:')
  assert '--max_wait_h=H' in text and 'Traceback' not in text


MODULES = ('kd_jax', *(f'kd_jax.{task}' for task in kd_jax_main._MODULES))


@pytest.mark.slow
@pytest.mark.parametrize('module', MODULES)
def test_every_command_has_help_and_names_a_mistake(module):
  """Any command with a wrong flag: the flag is named, without a traceback."""
  ended = helpers.run_python('-m', module, '--help')
  assert ended.returncode == 0, ended.stderr
  assert 'kd' in ended.stdout and not ended.stderr
  ended = helpers.run_python('-m', module, '--nonsense=1')
  assert ended.returncode not in (0, None)
  assert 'nonsense' in ended.stderr or 'required' in ended.stderr
  assert 'Traceback' not in ended.stderr


def test_a_recipe_in_place_of_a_task_is_told_the_task(monkeypatch):
  """A recipe in place of a task: one line names the command."""
  monkeypatch.setattr(sys, 'argv', ['kd-jax', 'configs/mnist.py:h300'])
  expected = r'\(did you mean run --config=configs/mnist.py:h300\?\)'
  with pytest.raises(SystemExit, match=expected):
    kd_jax_main.main()


@pytest.mark.parametrize(
  ('executable', 'on_path', 'expected'),
  [
    ('.venv/bin/python', '/usr/bin/python', '.venv/bin/python'),
    ('.venv/bin/python', '.venv/bin/python', 'python'),
    ('.venv/bin/python', None, '.venv/bin/python'),
    ('/opt/a b/bin/python', None, "'/opt/a b/bin/python'"),
  ],
)
def test_commands_that_are_printed_start_this_python(
  tmp_path, monkeypatch, executable, on_path, expected
):
  """An environment that is not active: printed commands name its Python."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'executable', str(tmp_path / executable))
  monkeypatch.setattr(
    command_basics.shutil,
    'which',
    lambda _: on_path and str(tmp_path / on_path),
  )
  assert command_basics.task('export') == f'{expected} -m kd_jax.export'


@pytest.mark.parametrize(
  ('program', 'on_path', 'expected'),
  [
    ('/v/bin/kd-jax', '/v/bin/kd-jax', 'kd-jax export'),
    ('.venv/bin/kd-jax', None, '.venv/bin/kd-jax export'),
    ('/v/kd_jax/__main__.py', '/v/bin/python', 'python -m kd_jax export'),
  ],
)
def test_the_installed_command_names_itself(
  monkeypatch, program, on_path, expected
):
  """The command kd-jax: what it prints starts the same installation."""
  monkeypatch.setattr(sys, 'argv', [program])
  monkeypatch.setattr(sys, 'executable', '/v/bin/python')
  monkeypatch.setattr(command_basics.shutil, 'which', lambda _: on_path)
  assert command_basics.task('export') == expected


def test_ctrl_c_repeats_a_module_as_it_was_started(monkeypatch):
  """Ctrl-C in a task: the line is a command that works."""
  argv = ['/v/kd_jax/export/__main__.py', 'run', '--row=h300']
  monkeypatch.setattr(sys, 'argv', argv)
  monkeypatch.setattr(sys, 'stderr', io.StringIO())
  monkeypatch.setattr(command_basics.shutil, 'which', lambda _: sys.executable)
  assert _end(KeyboardInterrupt(), 'exports again') == 130
  assert sys.stderr.getvalue() == (
    '\nstopped: the same command exports again: python -m kd_jax.export run '
    '--row=h300\n'
  )


def test_ctrl_c_that_a_library_turned_into_an_import_error(monkeypatch):
  """Ctrl-C while a library is imported: one line, as at other times."""
  monkeypatch.setattr(sys, 'stderr', io.StringIO())
  signal.signal(signal.SIGINT, signal.default_int_handler)
  with pytest.raises(SystemExit) as raised, command_basics.one_line_errors():
    with contextlib.suppress(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
    raise ImportError('the extension was not initialized')
  assert raised.value.code == 130
  assert sys.stderr.getvalue() == '\nstopped\n'
  with pytest.raises(ImportError), command_basics.one_line_errors():
    raise ImportError('a package is missing')
