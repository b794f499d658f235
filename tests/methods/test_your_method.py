"""The example method of the documents, added and trained as a user would."""

import pytest

from kd_jax import methods
from tests import documents, helpers


@pytest.fixture(name='get_config')
def _get_config():
  """Runs the example, which adds the method; removes the method after."""
  namespace = {}
  exec(documents.EXAMPLES['method'], namespace)
  yield namespace['get_config']
  del methods.METHODS['top_margin']


def test_a_user_defined_method_is_trained_with_its_options(
  get_config, tmp_path
):
  config = get_config('h300,method=kl+top_margin,protocol=as_written,smoke')
  assert config.distill.top_margin.to_dict() == {'weight': 2.0, 'margin': 1.0}
  config.data.name = 'generated'
  config.data.test_examples = 400
  config.teacher.model.update(filters=(2,), hidden=(32,))
  config.distill.top_margin.margin = 3.0
  config.benchmark.enabled = False
  config.lock()
  record = helpers.run(config, tmp_path)
  assert record['config']['distill']['top_margin']['margin'] == 3.0
  (line,) = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
  assert '"train/top_margin"' in line and '"train/kl"' in line
