"""Runs the fault suite three times, and writes results/faults.json.

make faults
"""

import pathlib
import subprocess
import sys
import tempfile
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
TIMES = 3


def once(path: pathlib.Path) -> dict[str, dict[str, float | str]]:
  """Returns what became of each test, and the seconds that it took."""
  subprocess.run(
    [
      sys.executable,
      '-m',
      'pytest',
      '-m',
      'faults',
      '-q',
      '--hypothesis-profile=explore',
      f'--junitxml={path}',
    ],
    cwd=ROOT,
  )
  results: dict[str, dict[str, float | str]] = {}
  for case in ElementTree.parse(path).iter('testcase'):
    name = f'{case.get("classname")}.{case.get("name").partition("[")[0]}'
    problems = {child.tag for child in case} & {'failure', 'error', 'skipped'}
    own = results.setdefault(name, {'passed': 0, 'cases': 0, 'seconds': 0.0})
    own['cases'] += 1
    own['passed'] += not problems
    own['seconds'] += float(case.get('time'))
  return results


def main() -> None:
  from kd_jax.runtime import environment, files

  with tempfile.TemporaryDirectory() as folder:
    runs = [once(pathlib.Path(folder) / f'{i}.xml') for i in range(TIMES)]
  faults = {
    name: {what: [run[name][what] for run in runs] for what in own}
    for name, own in runs[0].items()
  }
  files.write_json(
    ROOT / 'results/faults.json',
    {
      'name': 'faults',
      'command': 'tests/run_faults.py',
      'environment': environment.describe(),
      'faults': faults,
    },
  )
  failed = [
    name for name, own in faults.items() if own['passed'] != own['cases']
  ]
  sys.exit(f'failed: {", ".join(failed)}' if failed else 0)


if __name__ == '__main__':
  main()
