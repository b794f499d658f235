"""A script of benchmarks/ whose systems fail in every way, for the tests."""

import argparse
import functools
import importlib
import os
import pathlib
import signal
import sys

# As for a script of benchmarks/.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'benchmarks'))
import harness  # noqa: E402


def _make(system: str) -> harness.System:
  if system == 'imports':
    importlib.import_module('no_such_toolkit')
  turns = iter(range(100))

  def turn(case):
    done = next(turns)  # The first turn warms up.
    if system == 'raises' and done == 2:
      raise ValueError('/a/folder/of/mine/lib.so is out of memory')
    if system in ('killed', 'ours-killed') and done == 3:
      os.kill(os.getpid(), signal.SIGKILL)
    return 10, {'ours': 1.0, 'ours-killed': 1.0}.get(system, 2.0)

  check = {'wrong': [1.0, 3.0], 'unchecked': None}.get(system, [1.0, 2.0])
  return harness.System(turn, check)


if __name__ == '__main__':
  parser = argparse.ArgumentParser()
  parser.add_argument('--worker')
  name = parser.parse_args().worker
  harness.serve(functools.partial(_make, name), ('case',))
