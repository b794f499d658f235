"""Small records of runs, and a reader of Markdown tables, for these tests."""

import numpy as np

from kd_jax.runtime import environment


def student(row, seed, accuracy):
  """Returns a student's part of a run.json; its test split has 1,000 images."""
  return {
    'row': row,
    'seed': seed,
    'test': {
      'accuracy': accuracy, 'errors': round(1000 * (1 - accuracy)),
      'nll': 0.1, 'ece': 0.01, 'brier': 0.05, 'teacher_agreement': 0.98,
      'teacher_kl': 0.02,
    },
    'reliability': {
      'count': [0, 10], 'accuracy': [0, 0.9], 'confidence': [0, 0.8],
    },
    'parameters': 1000,
    'test_accuracy_after': {'fold0': accuracy - 0.1, 'fit': accuracy},
    'time': {'train_s': 2.0 + seed, 'fold_loop_s': 1.0, 'fit_s': 1.0 + seed},
  }  # fmt: skip


def batch_timing(median):
  """Returns the timing of a network at one batch size."""
  spread = {'median': median, 'lower': median / 2, 'upper': median * 2, 'n': 9}
  return {'call_s': spread, 'ratio': spread, 'compile_s': 0.5}


def quartiles(median):
  """Returns quartiles without a spread."""
  return {'median': median, 'lower': median, 'upper': median, 'n': 3}


def run_record():
  """Returns a run with two seeds of row h50, one of h50_hard, and timings."""
  return {
    'name': 'mnist-table1-as_coded',
    'status': 'complete',
    'command': 'launch.py --config=configs/mnist.py:table1',
    'config': {
      'data': {'name': 'mnist', 'train_examples': 0, 'test_examples': 0},
      'paper': {
        'h50': {'accuracy': 95.97, 'train_s': 30.998, 'inference_ratio': 315.3},
        'teacher': {'accuracy': 97.41},
      }
    },
    'environment': environment.describe(),
    'teacher': student('teacher', 0, 0.978),
    'students': [
      student('h50', 0, 0.96), student('h50', 1, 0.97),
      student('h50_hard', 0, 0.95),
    ],
    'benchmark': {
      'reference': 'teacher',
      'network_of': {'h50': 'h50', 'h50_hard': 'h50'},
      'networks': {
        name: {
          'parameters': 39_760,
          'macs': 39_700,
          'batches': {'1': batch_timing(median)},
        }
        for name, median in (('teacher', 1.0), ('h50', 40.0))
      },
      'cold_calls': {
        'h50': {
          'first_call_ratio': batch_timing(7.0)['ratio'],
          'second_call_ratio': batch_timing(9.0)['ratio'],
        }
      },
    },
  }  # fmt: skip


def as_cifar_run(record):
  """Changes a run into a run on CIFAR-10 with the paper's teacher."""
  record['name'] = 'cifar-table2-as_coded'
  record['config'] |= {
    'data': {'name': 'cifar10', 'train_examples': 0, 'test_examples': 0},
    'teacher': {'model': {'block': 'bottleneck'}},
    'student': {'kind': 'resnet', 'blocks': None, 'min_blocks': 1},
    'rows': {
      'h50': {'student': {'blocks': [1, 0]}},
      'h50_hard': {'student': {'blocks': [1, 1]}},
    },
  }
  for i, result in enumerate(record['students']):
    result['test_accuracy_by_epoch'] = [0.1] + [0.8 + 0.01 * i] * 5
  return record


def rows(table):
  """Returns the cells of each row of a Markdown table, without the headers."""
  lines = table.splitlines()[2:]
  return [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]


def cells(table, name):
  """Returns the cells of the only row whose first cell is `name`."""
  (row,) = [row for row in rows(table) if row[0] == name]
  return row


def with_training_sets(record, count):
  """Changes a run into one student on `count` training sets of rising size.

  Each training set has a row with distillation and a row without.
  """
  sizes = [10 * 2**i for i in range(count)]
  overrides = {
    f'n{size}{suffix}': {'distill': {'kd_weight': kd_weight}}
    for size in sizes
    for suffix, kd_weight in (('', 1.0), ('_no_kd', 0.0))
  }
  record['config'] |= {
    'train': {'batch_size': 10},
    'distill': {'kd_weight': None},
    'rows': overrides,
  }
  record['students'] = [
    student(f'n{size}{suffix}', seed, accuracy + seed / 100)
    | {'steps': 4 * size // 10, 'epochs': 4}
    for size in sizes
    for suffix, accuracy in (('', 0.9), ('_no_kd', 0.8))
    for seed in range(2)
  ]
  return record


SYSTEMS = {
  'ours': 'kd_jax', 'ours-exported': 'exported', 'torch': 'PyTorch',
  'torch-compiled': 'compiled', 'torch-bfloat16': 'bfloat16',
  'onnxruntime': 'ours', 'onnxruntime-torch': "PyTorch's",
  'openvino': 'OpenVINO',
}  # fmt: skip


def system_rate(rate, **fields):
  """Returns a system's part of a record of rates; ours has a rate of 1,000."""
  spread = lambda x: {'median': x, 'lower': 0.9 * x, 'upper': 1.1 * x, 'n': 7}
  return {
    'examples_per_s': spread(rate),
    'ours_over_it': spread(1000 / rate),
    **fields,
  }


def inference_record(network, macs):
  """Returns a record of inference, at batches of 1 and 100, of all systems."""
  systems = {
    'ours': system_rate(1000, share_of_limit=0.5),
    'ours-exported': system_rate(950, share_of_limit=0.475),
    'torch': system_rate(400, share_of_limit=0.2),
    'torch-compiled': system_rate(800, share_of_limit=0.4),
    'torch-bfloat16': system_rate(3000, share_of_limit=1.5),
    'onnxruntime': system_rate(900, share_of_limit=0.45),
    'onnxruntime-torch': system_rate(1000, share_of_limit=0.5),
    'openvino': system_rate(1250, share_of_limit=0.625),
  }
  limits = {
    'product_gflops': system_rate(100)['examples_per_s'],
    'memory_gb_per_s': system_rate(10)['examples_per_s'],
  }
  return {
    'network': network,
    'about': SYSTEMS,
    'cases': {'1': systems, '100': systems},
    'costs': {'macs': macs, 'parameter_bytes': 4_000, 'image_bytes': 800},
    'limits': {'ours': limits},
  }


def growth_record():
  """Returns a record of growth in which the batch grows from 8 to 32."""
  cost = lambda seconds: {
    'epoch_s': quartiles(seconds),
    'memory_mib': quartiles(1500.0),
  }
  return {
    'usual': {'h300': {'batch': 32}},
    'growth': {'h300': {'batch': {'8': cost(6.0), '32': cost(2.0)}}},
  }


def mistakes(num_classes=3, student=4, teacher=0, channels=1):
  """Returns the arrays of `error_plots.FILE`."""
  confusion = 10 * np.eye(num_classes, dtype=int)
  confusion[1, 2] = 3
  arrays = {
    'name': 'h50 seed 0',
    'classes': ['c_$at', *map(str, range(1, num_classes))],
    'confusion': confusion,
    'both': 5,
  }
  for kind, count in (('student', student), ('teacher', teacher)):
    arrays |= {
      f'{kind}_count': count,
      f'{kind}_images': np.zeros((count, 4, 4, channels), np.uint8),
      f'{kind}_labels': np.zeros(count, int),
      f'{kind}_said': np.ones(count, int),
    }
  return arrays
