"""Tables of benchmarks beside other systems.

Also tests `kd_jax/report/failures.py` and `kd_jax/report/inference_tables.py`.
"""

from kd_jax.report import benchmark_tables, cross_run_tables
from tests.report import example_records
from tests.report.example_records import quartiles, rows, system_rate


def test_rates_have_a_line_for_every_system_in_every_case():
  record = example_records.inference_record('x', 10)
  table = rows(benchmark_tables.rates_table(record))
  assert len(table) == 2 * len(example_records.SYSTEMS)
  assert table[3] == [
    'compiled', '1', '800', '720', '880', '7', '1.25 (1.12–1.38)', '40 %',
  ]  # fmt: skip
  # The record has no limit for bfloat16, and the limit for float32 is another.
  assert table[4][-1] == '–'


def test_systems_with_a_live_teacher_are_compared_with_ours_with_one():
  about = {'ours': 'stored', 'ours-live': 'live', 'torch-live': 'PyTorch live'}
  systems = {
    'ours': system_rate(1000),
    'ours-live': system_rate(100),
    'torch-live': system_rate(50),
  }
  record = {'about': about, 'cases': {'training': systems}}
  assert [row[-1] for row in rows(benchmark_tables.rates_table(record))] == [
    '–', '1.00', '2.00',
  ]  # fmt: skip
  systems['torch-live']['live_over_it'] = quartiles(2.5)
  last = rows(benchmark_tables.rates_table(record))[-1]
  assert last[-1] == '2.50 (2.50–2.50)'


def test_a_benchmark_of_one_case_has_no_column_for_the_case():
  systems = {'ours': system_rate(1000), 'torch': system_rate(500)}
  record = {'about': example_records.SYSTEMS, 'cases': {'training': systems}}
  assert rows(benchmark_tables.rates_table(record))[1] == [
    'PyTorch', '500', '450', '550', '7', '2.00 (1.80–2.20)',
  ]  # fmt: skip


def test_a_system_that_has_failed_has_a_line_with_the_reason():
  systems = {'ours': system_rate(1000), 'torch': system_rate(500)}
  del systems['torch']['ours_over_it']
  record = {
    'about': {'ours': 'kd_jax', 'torch': 'PyTorch', 'keras': 'Keras'},
    'cases': {'training': systems},
    'failures': {'keras': 'cannot start: X', 'torch': 'ended in round 2: Y'},
  }
  assert rows(benchmark_tables.rates_table(record))[1:] == [
    ['PyTorch (ended in round 2: Y)', '500', '450', '550', '7', '–'],
    ['Keras (cannot start: X)', '–', '–', '–', '–', '–'],
  ]


def test_rates_of_a_training_give_the_duration_of_a_whole_row():
  systems = {'ours': system_rate(1000), 'torch': system_rate(10)}
  record = {
    'about': example_records.SYSTEMS,
    'row_examples': 90_000,
    'cases': {'training': systems},
  }
  table = rows(benchmark_tables.rates_table(record))
  assert [row[-1] for row in table] == ['1.5 min', '2.5 h']


def test_ours_is_compared_with_the_best_float32_system_of_each_group():
  record = example_records.inference_record
  results = {
    'bench-avx2-inference-large': record('large', 1000),
    'bench-avx2-inference-small': record('small', 10),
    'bench-gpu-inference-small': record('small', 10),
    'cifar-table2': {},
  }
  make_table = cross_run_tables.TABLES['inference_avx2']
  table = rows(make_table(results))
  assert [row[:2] for row in table] == [
    ['small', '1'], ['small', '100'], ['large', '1'], ['large', '100'],
  ]  # fmt: skip
  assert table[1][2:] == [
    '100.00', '1.25 (1.12–1.38)', '0.80 (0.72–0.88)', '0.90',
    '1.05 (0.95–1.16)', '50 %', '62 %',
  ]  # fmt: skip
  results['bench-avx2-inference-small']['exported_over_live'] = {
    '100': quartiles(1.01)
  }
  assert rows(make_table(results))[1][-3] == '1.01 (1.01–1.01)'


def test_start_up_divides_the_cold_by_the_warm_start():
  stages = lambda first: {
    'first_epoch_s': quartiles(first),
    'run_s': quartiles(first + 1),
  }
  record = {'start_up': {'h300': {'cold': stages(9.0), 'warm': stages(4.5)}}}
  assert rows(benchmark_tables.start_up_table(record)) == [
    ['h300', '9.0 (9.0–9.0)', '4.5 (4.5–4.5)', '5.5 (5.5–5.5)', '2.0']
  ]


def test_loading_has_the_seconds_of_each_stage():
  stages = ('import_s', 'load_s', 'first_1_s', 'first_100_s')
  measured = {'bytes': 2_500_000} | {
    stage: quartiles(float(i)) for i, stage in enumerate(stages, 1)
  }
  record = {
    'about': {'ours': 'kd_jax'},
    'loading': {'h300': {'ours': measured}},
  }
  ((network, system, size, *seconds),) = rows(
    benchmark_tables.loading_table(record)
  )
  assert (network, system, size) == ('h300', 'kd_jax', '2.5')
  assert [text.split()[0] for text in seconds] == [
    '1.00',
    '2.00',
    '3.00',
    '4.00',
  ]


def test_growth_is_relative_to_the_usual_value():
  record = example_records.growth_record()
  assert rows(benchmark_tables.growth_table(record)) == [
    ['h300', 'batch', '8', '0.25', '6.00 (6.00–6.00)', '3.00', '1,500'],
    ['h300', 'batch', '32', '1', '2.00 (2.00–2.00)', '1.00', '1,500'],
  ]


def test_side_by_side_has_the_gain():
  record = {
    'seeds': 4,
    'side_by_side': {
      'h300': {
        'one_by_one': quartiles(8.0),
        'side_by_side': quartiles(5.0),
        'gain': quartiles(1.6),
      }
    },
  }
  assert rows(benchmark_tables.side_by_side_table(record)) == [
    ['h300', '4', '8.0 (8.0–8.0)', '5.0 (5.0–5.0)', '1.60 (1.60–1.60)']
  ]


def test_serving_is_in_microseconds_with_the_fastest_first():
  system = lambda rate, over: {
    'examples_per_s': quartiles(rate),
    'ours_over_it': quartiles(over),
  }
  record = {
    'about': {'jit': 'jit', 'fast': 'a faster way'},
    'latency': {'jit': system(10_000.0, 1.0), 'fast': system(20_000.0, 0.5)},
  }
  table = rows(benchmark_tables.serving_table(record))
  assert [row[:2] for row in table] == [
    ['a faster way', '50.0'],
    ['jit', '100.0'],
  ]


def test_images_on_disk_are_compared_with_images_in_memory():
  measured = lambda rate, ratio, mib: {
    'examples_per_s': quartiles(rate),
    'over_memory': quartiles(ratio),
    'memory_mib': quartiles(mib),
  }
  record = {
    'places': {
      'memory': {'1000': measured(200.0, 1.0, 900.0)},
      'disk': {'2000': measured(160.0, 0.75, 850.0)},
    }
  }
  three = lambda number: f'{number} ({number}–{number})'
  assert rows(benchmark_tables.large_data_table(record)) == [
    ['in memory', '1,000', three('200'), three('1.00'), three('900')],
    ['on disk', '2,000', three('160'), three('0.75'), three('850')],
  ]


def test_faults_have_the_number_of_passed_cases_in_each_round():
  record = {
    'faults': {
      'tests.test_x.test_a_bomb_is_refused': {
        'fault': 'A decompression bomb: it is refused',
        'passed': [2, 1],
        'cases': [2, 2],
        'seconds': [1.0, 2.0],
      }
    }
  }
  assert rows(benchmark_tables.faults_table(record)) == [
    ['A decompression bomb: it is refused', '2 of 2, 1 of 2', '1.5']
  ]


def test_convolutions_mark_the_chosen_form_and_list_the_fastest_first():
  shape = {
    'gflop': 4.0,
    'chosen': {'forward': 'patches'},
    'seconds': {
      'forward': {'direct': quartiles(0.02), 'patches': quartiles(0.01)}
    },
  }
  table = rows(benchmark_tables.convolutions_table({'shapes': {'stem': shape}}))
  assert table == [['stem', 'forward', '**patches 10.0**, direct 20.0', '400']]
