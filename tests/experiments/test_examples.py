"""What the README tells users to type, typed."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
_EXAMPLE = re.compile(
  r'<!-- example: (\S+) -->\n```(?:python)?\n(.*?)```', re.DOTALL
)
EXAMPLES = dict(_EXAMPLE.findall((ROOT / 'README.md').read_text()))
# To be done in seconds.
_LESS = (
  '--config.data.train_examples=320',
  '--config.data.test_examples=64',
  '--config.train.epochs=1',
  '--config.train.folds=0',
  '--config.teacher.train.epochs=1',
  '--config.benchmark.enabled=false',
)


@pytest.mark.parametrize('name', ['data', 'networks'])
def test_examples_run(tmp_path, name):
  (tmp_path / 'mine.py').write_text(EXAMPLES['mine.py'])
  _, program, *args = shlex.split(EXAMPLES[name])
  result = subprocess.run(
    [sys.executable, program, *args, *_LESS, f'--runs_dir={tmp_path}'],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(tmp_path)},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  assert '| h300 ' in result.stdout
