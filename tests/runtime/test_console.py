"""Prints on consoles that cannot show every character."""

import io
import sys

from kd_jax.runtime import console


def test_unknown_characters_are_escaped(monkeypatch):
  content = io.BytesIO()
  stream = io.TextIOWrapper(content, encoding='latin-1')
  monkeypatch.setattr(sys, 'stdout', stream)
  console.escape_unknown_characters()
  print('é 猫 –')
  stream.flush()
  assert content.getvalue() == b'\xe9 \\u732b \\u2013\n'


def test_streams_of_other_kinds_are_left_alone(monkeypatch):
  monkeypatch.setattr(sys, 'stdout', io.StringIO())
  console.escape_unknown_characters()
  print('猫')
  assert sys.stdout.getvalue() == '猫\n'


def test_names_are_printed_on_one_line():
  assert console.printable('a\nb\x1b[2Jc 猫') == 'a\\nb\\x1b[2Jc 猫'
