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


def run_suite(path: pathlib.Path) -> dict[str, dict[str, float | str]]:
  """Runs the fault suite once.

  Args:
    path: where pytest writes its results.
  Returns:
    For each test, the numbers of its cases and of passed cases, and seconds.
  """
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
    result = results.setdefault(name, {'passed': 0, 'cases': 0, 'seconds': 0.0})
    result['cases'] += 1
    result['passed'] += not problems
    result['seconds'] += float(case.get('time'))
  return results


def main() -> None:
  """Runs the fault suite; exits with an error if a test has failed."""
  from kd_jax.runtime import environment, files

  with tempfile.TemporaryDirectory() as folder:
    runs = [run_suite(pathlib.Path(folder) / f'{i}.xml') for i in range(TIMES)]
  faults = {
    name: {field: [run[name][field] for run in runs] for field in result}
    for name, result in runs[0].items()
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
    name
    for name, result in faults.items()
    if result['passed'] != result['cases']
  ]
  sys.exit(f'failed: {", ".join(failed)}' if failed else 0)


if __name__ == '__main__':
  main()
