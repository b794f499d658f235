"""Numbers of benchmarks."""

import pytest

from kd_jax.report import inline_numbers
from tests.report import example_records
from tests.report.example_records import quartiles, system_rate


@pytest.fixture(name='results')
def _results():
  rates = {
    'row_examples': 120_000,
    'cases': {
      'training': {
        'ours': system_rate(1000, share_of_limit=0.5),
        'ours-live': system_rate(100),
        'torch-live': system_rate(50, live_over_it=quartiles(2.5)),
      }
    },
  }
  inference = example_records.inference_record
  networks = {
    'h300': inference('h300', 1),
    'small': inference('small', 10),
    'large': inference('large', 100),
  }
  large = networks['large']['cases']['100']
  large['torch-bfloat16'] = system_rate(2000, share_of_limit=1.0)
  large['ours'] = system_rate(1000, share_of_limit=0.7)
  teacher = inference('teacher', 1000)
  teacher['cases']['100']['ours'] = system_rate(250, share_of_limit=0.6)
  networks['teacher'] = teacher | {
    'exported_over_live': {'100': quartiles(1.0)}
  }
  for network, ratio in (('h300', 1.03), ('small', 0.98), ('large', 1.0)):
    networks[network]['exported_over_live'] = {'100': quartiles(ratio)}
  loading = lambda seconds: {'ours': {'load_s': quartiles(seconds)}}
  return {
    'rates': rates,
    'loading': {'loading': {'a': loading(0.2), 'b': loading(1.5)}},
    'serving': {
      'latency': {'jit': system_rate(1000), 'kept': system_rate(1250)}
    },
    'growth': example_records.growth_record(),
    **{f'bench-avx2-inference-{name}': r for name, r in networks.items()},
  }


@pytest.mark.parametrize(
  'source, text',
  [
    ("faster('rates', 'ours-live')", '10.00 (9.00–11.00)'),
    ("faster('rates', 'torch-live', live=True)", '2.50 (2.50–2.50)'),
    ("faster_median('rates', 'torch-live') | .0f", '20'),
    ("faster_median('rates', 'torch-live', live=True) | .1f", '2.5'),
    ("faster_median('bench-avx2-inference-h300', 'torch', 100) | .1f", '2.5'),
    ("rate('rates', 'torch-live') | .0f", '50'),
    ("share_of_limit('rates', 'ours') | .0f", '50'),
    ("row_minutes('rates', 'ours') | .0f", '2'),
    # 1,000 images take 10 s with a live teacher, and 1 s without.
    ("storing_seconds('rates', 1000) | .0f", '9'),
    # The faster of 400 and 800.
    ("inference_ratios('avx2', 'PyTorch', 100)", '1.25 to 1.25'),
    ("inference_ratios('avx2', 'torch-bfloat16', 100)", '0.33 to 0.50'),
    ("inference_limits('avx2', 100)", '50 to 70'),
    ("teacher_over_student('avx2', 'small', 100) | .1f", '4.0'),
    ("onnx_ratios('avx2')", '0.90 to 0.90'),
    ("exported_ratios('avx2', 100)", '0.98 to 1.03'),
    ("call_us('serving', 'kept') | .0f", '800'),
    ("call_times('serving', 'jit', 'kept')", '0.80 to 1.00'),
    ("loading_s('loading', 'ours', 'load_s')", '0.20 to 1.50'),
    ("growth('growth', 'h300', 'batch', to=8) | .1f", '3.0'),
  ],
)
def test_an_expression_gives_its_text(results, source, text):
  assert inline_numbers.evaluate(source, results) == text
