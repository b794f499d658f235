"""The pretrained outputs of Table 1's teachers."""

import types

import numpy as np
import pytest

from configs import mnist
from kd_jax import config as config_lib
from kd_jax.runtime import json_records
from kd_jax.teachers import pretrained

# The protocols whose teacher's outputs are pretrained.
_PROTOCOLS = ('as_coded', 'as_written')


def _folder(protocol):
  return pretrained.teacher_folder(f'teachers/mnist-conv_net-{protocol}')


def _manifest(protocol):
  return json_records.find(
    _folder(protocol) / 'manifest.json', json_records.PRETRAINED
  )[0]


@pytest.mark.parametrize('protocol', _PROTOCOLS)
@pytest.mark.parametrize('recipe', ['table1', 'h50', 'h600_hard'])
def test_table_1_finds_the_outputs_of_its_teacher(recipe, protocol):
  config = mnist.get_config(f'{recipe},protocol={protocol}')
  dataset = types.SimpleNamespace(digest=_manifest(protocol)['data_digest'])
  find = lambda: pretrained.find_outputs(
    config_lib.teacher_identity(config, dataset), 'unit'
  )
  assert find() == f'teachers/mnist-conv_net-{protocol}'
  config.teacher.seed = 1
  assert find() is None


@pytest.mark.parametrize('protocol', _PROTOCOLS)
def test_the_outputs_are_those_of_the_manifest(protocol):
  manifest = _manifest(protocol)
  logits = pretrained.read_logits(_folder(protocol), manifest, 'unit')
  assert logits['train'].shape == (60_000, 10)
  assert logits['test'].shape == (10_000, 10)
  assert np.isfinite(logits['train']).all()
  assert manifest['accuracy']['unit']['test']['accuracy'] > 0.97
