"""Prints on consoles that cannot show every character."""

import io
import os
import shlex
import subprocess
import sys

import pytest

from kd_jax.runtime import console, errors
from tests import helpers


def test_unknown_characters_are_escaped(monkeypatch):
  content = io.BytesIO()
  stream = io.TextIOWrapper(content, encoding='latin-1')
  monkeypatch.setattr(sys, 'stdout', stream)
  console.make_robust()
  print('é 猫 –')
  stream.flush()
  assert content.getvalue() == b'\xe9 \\u732b \\u2013\n'


def test_streams_of_other_kinds_are_left_alone(monkeypatch):
  monkeypatch.setattr(sys, 'stdout', io.StringIO())
  console.make_robust()
  print('猫')
  assert sys.stdout.getvalue() == '猫\n'


def test_names_are_printed_on_one_line():
  assert console.printable('a\nb\x1b[2Jc 猫') == 'a\\nb\\x1b[2Jc 猫'


@pytest.mark.faults
@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full')
def test_a_full_disk_does_not_end_the_program(monkeypatch):
  """A full disk behind the output: the program goes on."""
  full = io.TextIOWrapper(open('/dev/full', 'wb'))
  monkeypatch.setattr(sys, 'stdout', full)
  monkeypatch.setattr(sys, 'stderr', io.StringIO())
  console.make_robust()
  print('a result', flush=True)
  print('another one', flush=True)
  sys.stdout.flush()
  line = sys.stderr.getvalue()
  assert line.count('stdout takes no more output ([Errno 28]') == 1
  with pytest.raises(errors.UserError, match='the output is lost.*Errno 28'):
    console.check_printed()
  full.close()  # As at the end of the program; an error would be raised.


@pytest.mark.faults
def test_a_reader_that_has_ended_does_not_end_the_program(monkeypatch):
  """A reader of the output that has ended: the program goes on."""
  reader, writer = os.pipe()
  os.close(reader)
  stream = io.TextIOWrapper(os.fdopen(writer, 'wb'))
  monkeypatch.setattr(sys, 'stdout', stream)
  monkeypatch.setattr(sys, 'stderr', io.StringIO())
  console.make_robust()
  print('a result', flush=True)
  print('another one', flush=True)
  assert not sys.stderr.getvalue()
  console.check_printed()
  stream.close()


def test_lines_keep_their_breaks():
  assert console.printable_lines('a\nb\x1b[2Jc') == 'a\nb\\x1b[2Jc'


_WITHOUT_STREAMS = """
import os, sys
from kd_jax.runtime import console, errors
console.make_robust()
with open(sys.argv[1], 'w') as file:
  print('to nobody')
  print('to nobody', file=sys.stderr)
  os.write(1, b'to nobody')
  os.write(2, b'to nobody')
  assert not sys.stdin.read()
  file.write(f'result {file.fileno() > 2}')
"""


@pytest.mark.faults
def test_a_program_without_streams_writes_its_files(tmp_path):
  """No stdin, stdout and stderr at all: the files hold the results alone."""
  command = shlex.join(
    [sys.executable, '-c', _WITHOUT_STREAMS, str(tmp_path / 'file')]
  )
  closed = subprocess.run(
    ['sh', '-c', f'{command} <&- >&- 2>&-'], cwd=helpers.ROOT, timeout=60
  )
  assert closed.returncode == 0
  assert (tmp_path / 'file').read_text() == 'result True'
