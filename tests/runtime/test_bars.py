"""Progress where there is no terminal."""

import itertools
import sys
import time

import pytest
import tqdm

from kd_jax.runtime import bars


def test_without_a_terminal_progress_is_a_line_now_and_then(
  monkeypatch, capsys
):
  monkeypatch.delitem(sys.modules, 'ipykernel', raising=False)
  monkeypatch.setattr(bars, 'LINE_EVERY_S', 0.2)
  with bars.make(total=300, initial=99, desc='toy seed 0') as bar:
    started = time.monotonic()
    while time.monotonic() < started + 0.7:
      bar.set_postfix_str('loss 1.0', refresh=False)
      bar.update(1)
      time.sleep(0.01)
  lines = capsys.readouterr().err.splitlines()
  assert 1 <= len(lines) <= 3
  assert all('toy seed 0: ' in line and 'loss 1.0' in line for line in lines)


def test_a_long_wait_says_what_it_waits_for(monkeypatch, capsys):
  monkeypatch.delitem(sys.modules, 'ipykernel', raising=False)
  monkeypatch.setattr(bars, 'SLOW_S', 0.05)
  with bars.make(total=3, desc='toy seed 0') as bar:
    with bars.say_if_slow(bar, 'compiling'):
      pass
    assert not capsys.readouterr().err
    with bars.say_if_slow(bar, 'compiling'):
      time.sleep(0.3)
    (line,) = capsys.readouterr().err.splitlines()
  assert line == 'toy seed 0: 0 %, 00:00 spent, ? left, compiling'


@pytest.mark.faults
def test_a_clock_that_is_set_back_does_not_stop_the_lines(monkeypatch, capsys):
  """The clock is set back in a training: progress is shown as before."""
  monkeypatch.delitem(sys.modules, 'ipykernel', raising=False)
  monkeypatch.setattr(bars, 'LINE_EVERY_S', 0.05)
  clocks = itertools.cycle((0.0, 1e9, -1e9))
  monkeypatch.setattr(tqdm.std, 'time', lambda: next(clocks))
  for _ in bars.make(range(30), desc='toy seed 0'):
    time.sleep(0.01)
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) > 1
  assert all(', 00:00 spent, 00:00 left' in line for line in lines), lines


def test_bars_below_each_other_leave_no_sequences_in_a_log(monkeypatch, capsys):
  monkeypatch.delitem(sys.modules, 'ipykernel', raising=False)
  monkeypatch.setattr(bars, 'LINE_EVERY_S', 0.0)
  with bars.make(total=2, desc='outer') as outer:
    with bars.make(total=9, desc='inner', position=1) as inner:
      inner.update(3)
      outer.update(1)
      inner.refresh()
  log = capsys.readouterr().err
  assert 'inner: 33 %' in log and 'outer: 50 %' in log
  assert '\r' not in log and '\x1b' not in log
  assert all(line == line.strip() and line for line in log.splitlines())


def test_what_is_quick_shows_no_line(capsys):
  assert list(bars.make(range(9), desc='quick')) == [*range(9)]
  assert capsys.readouterr().err == ''
