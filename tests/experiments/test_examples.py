"""The commands that README.md tells users to type."""

import re
import shlex
import sys

from tests import helpers

_EXAMPLE = re.compile(
  r'<!-- example: (\S+) -->\n```(?:python)?\n(.*?)```', re.DOTALL
)
EXAMPLES = dict(_EXAMPLE.findall((helpers.ROOT / 'README.md').read_text()))
# Overrides with which the examples take seconds.
_QUICK = (
  '--config.data.train_examples=320',
  '--config.data.test_examples=64',
  '--config.train.epochs=1',
  '--config.train.folds=0',
  '--config.teacher.train.epochs=1',
  '--config.teacher.model.filters=(2,)',
  '--config.teacher.model.hidden=(32,)',
  '--config.benchmark.enabled=false',
)


def test_the_networks_of_the_example_run(tmp_path, monkeypatch):
  (tmp_path / 'mine.py').write_text(EXAMPLES['mine.py'])
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, 'mine', raising=False)
  python, program, *args = shlex.split(EXAMPLES['networks'])
  assert (python, program) == ('python', 'launch.py')
  result = helpers.launch_here(*args, *_QUICK, f'--runs_dir={tmp_path}')
  assert result.returncode == 0, result.stderr
  assert '| h300 ' in result.stdout
