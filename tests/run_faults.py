"""Runs the fault suite three times, and writes results/faults.json.

make faults

Each time takes more than half an hour. Finished times are kept in build/faults:
the same command for the same code goes on with the next.
"""

import ast
import pathlib
import subprocess
import sys
import tempfile
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
TIMES = 3


def describe_faults() -> dict[str, str]:
  """Returns a sentence about each fault, by the name of its test.

  The sentence is the first line of the test's docstring. If a test has no
  docstring, the sentence is the test's name.
  """
  sentences = {}
  for path in sorted((ROOT / 'tests').rglob('test_*.py')):
    body = ast.parse(path.read_text(encoding='utf-8')).body
    module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    in_suite = any(
      isinstance(node, ast.Assign) and _is_marked(node) for node in body
    )
    for node in body:
      if not isinstance(node, ast.FunctionDef):
        continue
      is_fault = in_suite or any(map(_is_marked, node.decorator_list))
      if not node.name.startswith('test_') or not is_fault:
        continue
      name = node.name.removeprefix('test_').replace('_', ' ').capitalize()
      sentence = (ast.get_docstring(node) or name).splitlines()[0]
      sentences[f'{module}.{node.name}'] = sentence.rstrip('.')
  return sentences


def _is_marked(node: ast.AST) -> bool:
  """Returns whether an expression or assignment has the mark of faults."""
  return 'pytest.mark.faults' in ast.unparse(node)


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
  return read_results(path)


def read_results(path: pathlib.Path) -> dict[str, dict[str, float | str]]:
  """Returns the results that pytest wrote; `run_suite` says which."""
  results: dict[str, dict[str, float | str]] = {}
  for case in ElementTree.parse(path).iter('testcase'):
    if not case.get('classname') and case.find('skipped') is not None:
      continue  # A file of tests that need more, such as PyTorch.
    name = f'{case.get("classname")}.{case.get("name").partition("[")[0]}'
    problems = {child.tag for child in case} & {'failure', 'error', 'skipped'}
    result = results.setdefault(name, {'passed': 0, 'cases': 0, 'seconds': 0.0})
    result['cases'] += 1
    result['passed'] += not problems
    result['seconds'] += float(case.get('time'))
  return results


def run_or_read(code: str, number: int) -> dict[str, dict[str, float | str]]:
  """Returns the results of one time; reads them if they are kept.

  Args:
    code: the commit. Results of uncommitted changes are not kept, as they may
      be of other changes the next time.
    number: which of the times.
  """
  from kd_jax.runtime import files

  path = ROOT / 'build' / 'faults' / f'{code}-{number}.json'
  results = files.read_json(path)
  if results is None:
    with tempfile.TemporaryDirectory() as folder:
      results = run_suite(pathlib.Path(folder) / 'suite.xml')
    if not code.endswith('-dirty'):
      path.parent.mkdir(parents=True, exist_ok=True)
      files.write_json(path, results)
  return results


def main() -> None:
  """Runs the fault suite; exits with an error if a test has failed."""
  from kd_jax.runtime import environment, files

  described = environment.describe()
  sentences = describe_faults()
  runs = [run_or_read(described['code'], i) for i in range(TIMES)]
  faults = {
    name: {'fault': sentences.get(name, name)}
    | {field: [run[name][field] for run in runs] for field in result}
    for name, result in runs[0].items()
  }
  files.write_json(
    ROOT / 'results/faults.json',
    {
      'name': 'faults',
      'command': 'tests/run_faults.py',
      'environment': described,
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
