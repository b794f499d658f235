"""The pages of docs/ that are made from the code.

Also tests `kd_jax/config_fields.py`.
"""

import importlib.util

import pytest
from ml_collections import ConfigDict

from kd_jax import config_fields, methods
from kd_jax.sections import NetworkSections
from tests import helpers

_PATH = helpers.ROOT / 'docs/generate.py'
_SPEC = importlib.util.spec_from_file_location('docs_generate', _PATH)
generate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(generate)


@pytest.mark.parametrize('name', generate.PAGES)
def test_pages_are_up_to_date(name):
  """If it fails, run `python docs/generate.py`."""
  written = (helpers.ROOT / name).read_text(encoding='utf-8')
  assert written == generate.PAGES[name]()


def test_every_method_has_a_formula_its_options_and_a_reference():
  page = generate.methods_page()
  for name, method in methods.METHODS.items():
    section = page.partition(f'\n## {name}\n')[2].partition('\n## ')[0]
    assert '```' in section, name
    assert '**Reference:**' in section, name
    for option in method.options:
      assert f'`{option}=' in section, (name, option)


def _fields(config, prefix=''):
  """Returns the dotted names of the fields of a config."""
  for name, value in config.items():
    if isinstance(value, ConfigDict) and name not in methods.METHODS:
      yield from _fields(value, f'{prefix}{name}.')
    elif not isinstance(value, ConfigDict):
      yield f'{prefix}{name}'


@pytest.mark.parametrize(
  'network',
  [
    config_fields.mlp((1,)),
    config_fields.conv_net((1,), (1,), dropout_rate=0.0),
    config_fields.resnet((1,)),
  ],
  ids=lambda network: network.kind,
)
def test_every_field_of_a_config_has_a_default_and_a_meaning(network):
  sections = NetworkSections(
    network,
    config_fields.training(1, 1),
    config_fields.optimizer('adam', 1e-3),
    config_fields.hard_labels(),
  )
  config = config_fields.make_config(
    name='', dataset='mnist', teacher=sections, student=sections
  )
  lines = generate.config_page().splitlines()
  rows = [line.split(' | ') for line in lines if line.startswith('| `')]
  meanings = {row[0].strip('| `'): row[2].strip(' |') for row in rows}
  for field in _fields(config):
    for section in ('model', 'train', 'distill', 'optim'):
      student = 'student' if section == 'model' else section
      field = field.replace(f'teacher.{section}.', f'{student}.')
    assert meanings.get(field), field
