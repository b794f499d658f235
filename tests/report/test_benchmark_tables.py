"""Tables and plots of benchmarks beside other systems."""

import pytest
from matplotlib.figure import Figure

from kd_jax.report import benchmark_tables


def _system(rate, **fields):
  spread = lambda x: {'median': x, 'lower': 0.9 * x, 'upper': 1.1 * x, 'n': 7}
  return {
    'examples_per_s': spread(rate),
    'ours_over_it': spread(1000 / rate),
    **fields,
  }


ABOUT = {
  'ours': 'kd_jax', 'ours-exported': 'exported', 'torch': 'PyTorch',
  'torch-compiled': 'compiled', 'torch-bfloat16': 'of few bits',
  'onnxruntime': 'ours', 'onnxruntime-torch': "PyTorch's",
  'openvino': 'OpenVINO',
}  # fmt: skip


def _inference(network, macs):
  systems = {
    'ours': _system(1000, share_of_limit=0.5),
    'ours-exported': _system(950, share_of_limit=0.475),
    'torch': _system(400, share_of_limit=0.2),
    'torch-compiled': _system(800, share_of_limit=0.4),
    'torch-bfloat16': _system(3000, share_of_limit=1.5),
    'onnxruntime': _system(900, share_of_limit=0.45),
    'onnxruntime-torch': _system(1000, share_of_limit=0.5),
    'openvino': _system(1250, share_of_limit=0.625),
  }
  limits = {
    'product_gflops': _system(100)['examples_per_s'],
    'memory_gb_per_s': _system(10)['examples_per_s'],
  }
  return {
    'network': network,
    'about': ABOUT,
    'cases': {'1': systems, '100': systems},
    'costs': {'macs': macs, 'parameter_bytes': 4_000, 'image_bytes': 800},
    'limits': {'ours': limits},
  }


def _rows(table):
  lines = table.splitlines()[2:]
  return [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]


def test_every_system_stands_in_every_case():
  rows = _rows(benchmark_tables.rates_table(_inference('x', 10)))
  assert len(rows) == 2 * len(ABOUT)
  assert rows[3] == [
    'compiled', '1', '800', '720', '880', '7', '1.25 (1.12–1.38)', '40 %',
  ]  # fmt: skip
  # Without a limit of its own, bfloat16 has no share of float32's.
  assert rows[4][-1] == '–'


def test_a_live_teacher_is_held_against_ours_with_one():
  about = {'ours': 'stored', 'ours-live': 'live', 'torch-live': 'PyTorch live'}
  systems = {
    'ours': _system(1000),
    'ours-live': _system(100),
    'torch-live': _system(50),
  }
  record = {'about': about, 'cases': {'training': systems}}
  assert [row[-1] for row in _rows(benchmark_tables.rates_table(record))] == [
    '–', '1.00', '2.00',
  ]  # fmt: skip
  systems['torch-live']['live_over_it'] = _quartiles(2.5)
  last = _rows(benchmark_tables.rates_table(record))[-1]
  assert last[-1] == '2.50 (2.50–2.50)'


def test_a_benchmark_of_one_case_needs_no_column_for_it():
  systems = {'ours': _system(1000), 'torch': _system(500)}
  record = {'about': ABOUT, 'cases': {'training': systems}}
  assert _rows(benchmark_tables.rates_table(record))[1] == [
    'PyTorch', '500', '450', '550', '7', '2.00 (1.80–2.20)',
  ]  # fmt: skip


def test_ours_is_held_against_the_best_of_each_kind_in_the_same_arithmetic():
  results = {
    'bench-avx2-inference-large': _inference('large', 1000),
    'bench-avx2-inference-small': _inference('small', 10),
    'bench-gpu-inference-small': _inference('small', 10),
    'cifar-table2': {},
  }
  table = benchmark_tables.TABLES_OF_ALL['inference_avx2']
  rows = _rows(table(results))
  assert [row[:2] for row in rows] == [
    ['small', '1'], ['small', '100'], ['large', '1'], ['large', '100'],
  ]  # fmt: skip
  assert rows[1][2:] == [
    '100.00', '1.25 (1.12–1.38)', '0.80 (0.72–0.88)', '0.90',
    '1.05 (0.95–1.16)', '50 %', '62 %',
  ]  # fmt: skip
  results['bench-avx2-inference-small']['exported_over_live'] = {
    '100': _quartiles(1.01)
  }
  assert _rows(table(results))[1][-3] == '1.01 (1.01–1.01)'


def test_the_roofline_has_the_limit_and_a_point_for_each():
  axes = Figure().add_subplot()
  benchmark_tables.draw_roofline(
    axes,
    {'bench-avx2-inference-x': _inference('x', macs=1_000_000)},
    'avx2',
  )
  *points, limit = axes.get_lines()
  assert len(points) == 4
  # At a batch of 1, 2 M operations on 4,800 bytes: under the peak's limit.
  (ours,) = (p for p in points[:1])
  assert ours.get_xdata()[0] == pytest.approx(2e6 / 4800)
  assert ours.get_ydata()[0] == pytest.approx(2e6 * 1000 / 1e9)
  assert max(limit.get_ydata()) == pytest.approx(100)
  assert limit.get_ydata()[0] == pytest.approx(min(100, 10 * 10))


def _quartiles(median):
  return {'median': median, 'lower': median, 'upper': median, 'n': 3}


def test_start_up_is_cold_over_warm():
  stages = lambda first: {
    'first_epoch_s': _quartiles(first),
    'run_s': _quartiles(first + 1),
  }
  record = {'start_up': {'h300': {'cold': stages(9.0), 'warm': stages(4.5)}}}
  assert _rows(benchmark_tables.start_up_table(record)) == [
    ['h300', '9.0 (9.0–9.0)', '4.5 (4.5–4.5)', '5.5 (5.5–5.5)', '2.0']
  ]


def test_side_by_side_is_told_with_its_gain():
  record = {
    'seeds': 4,
    'side_by_side': {
      'h300': {
        'one_by_one': _quartiles(8.0),
        'side_by_side': _quartiles(5.0),
        'gain': _quartiles(1.6),
      }
    },
  }
  assert _rows(benchmark_tables.side_by_side_table(record)) == [
    ['h300', '4', '8.0 (8.0–8.0)', '5.0 (5.0–5.0)', '1.60 (1.60–1.60)']
  ]


def test_growth_is_told_over_the_usual():
  cost = lambda s: {'epoch_s': _quartiles(s), 'memory_mib': _quartiles(1500.0)}
  record = {
    'usual': {'h300': {'batch': 32}},
    'growth': {'h300': {'batch': {'8': cost(6.0), '32': cost(2.0)}}},
  }
  assert _rows(benchmark_tables.growth_table(record)) == [
    ['h300', 'batch', '8', '0.25', '6.00 (6.00–6.00)', '3.00', '1,500'],
    ['h300', 'batch', '32', '1', '2.00 (2.00–2.00)', '1.00', '1,500'],
  ]
  axes = Figure().add_subplot()
  benchmark_tables.draw_growth(axes, record)
  line = axes.get_lines()[0]
  assert list(line.get_xdata()) == [0.25, 1]
  assert list(line.get_ydata()) == [3, 1]


def test_images_on_disk_are_held_against_those_in_memory():
  own = lambda rate, ratio, mib: {
    'examples_per_s': _quartiles(rate),
    'over_memory': _quartiles(ratio),
    'memory_mib': _quartiles(mib),
  }
  record = {
    'places': {
      'memory': {'1000': own(200.0, 1.0, 900.0)},
      'disk': {'2000': own(160.0, 0.75, 850.0)},
    }
  }
  three = lambda number: f'{number} ({number}–{number})'
  assert _rows(benchmark_tables.large_data_table(record)) == [
    ['in memory', '1,000', three('200'), three('1.00'), three('900')],
    ['on disk', '2,000', three('160'), three('0.75'), three('850')],
  ]


def test_each_fault_says_how_often_it_was_taken_as_it_should():
  record = {
    'faults': {
      'tests.test_x.test_a_bomb_is_refused': {
        'passed': [2, 1],
        'cases': [2, 2],
        'seconds': [1.0, 2.0],
      }
    }
  }
  assert _rows(benchmark_tables.faults_table(record)) == [
    ['a bomb is refused', '2 of 2, 1 of 2', '1.5']
  ]


def test_ways_to_serve_are_told_in_microseconds_the_fastest_first():
  own = lambda rate, over: {
    'examples_per_s': _quartiles(rate),
    'ours_over_it': _quartiles(over),
  }
  record = {
    'about': {'jit': 'jit', 'fast': 'a faster way'},
    'latency': {'jit': own(10_000.0, 1.0), 'fast': own(20_000.0, 0.5)},
  }
  rows = _rows(benchmark_tables.serving_table(record))
  assert [row[:2] for row in rows] == [
    ['a faster way', '50.0'],
    ['jit', '100.0'],
  ]


def test_loading_is_told_stage_by_stage():
  stages = ('import_s', 'load_s', 'first_1_s', 'first_100_s')
  own = {'bytes': 2_500_000} | {
    stage: _quartiles(float(i)) for i, stage in enumerate(stages, 1)
  }
  record = {'about': {'ours': 'kd_jax'}, 'loading': {'h300': {'ours': own}}}
  ((network, system, size, *seconds),) = _rows(
    benchmark_tables.loading_table(record)
  )
  assert (network, system, size) == ('h300', 'kd_jax', '2.5')
  assert [text.split()[0] for text in seconds] == [
    '1.00',
    '2.00',
    '3.00',
    '4.00',
  ]


def test_a_training_says_how_long_its_row_would_take():
  record = {
    'about': ABOUT,
    'row_examples': 90_000,
    'cases': {'training': {'ours': _system(1000), 'torch': _system(10)}},
  }
  rows = _rows(benchmark_tables.rates_table(record))
  assert [row[-1] for row in rows] == ['1.5 min', '2.5 h']
