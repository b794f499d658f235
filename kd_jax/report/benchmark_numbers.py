"""Numbers of benchmarks; see inline_numbers.py.

A machine is 'avx2', 'avx512' or 'gpu', as in the names of the records. Ratios
are ours / another system: above 1 where ours is faster.
"""

from collections.abc import Callable, Sequence
from typing import Any

from kd_jax.report import inference_tables, markdown
from kd_jax.report.fields import Record
from kd_jax.report.number_functions import Results, value

# The fully connected network; all others are ResNets.
_MLP = 'h300'


def faster(
  results: Results,
  name: str,
  system: str,
  case: str = 'training',
  *,
  live: bool = False,
) -> str:
  """Returns how many times as fast ours is as another system.

  Args:
    results: the records by name.
    name: a record of rates.
    system: the key of the other system.
    case: 'training', or a batch size.
    live: whether ours calls the teacher in every step, too.
  Returns:
    'median (lower quartile–upper quartile)' over rounds.
  """
  ratios = _system(results, name, case, system)[_ratio_key(live)]
  return markdown.quartiles(ratios, 2)


def faster_median(
  results: Results,
  name: str,
  system: str,
  case: str = 'training',
  *,
  live: bool = False,
) -> float:
  """Returns the median of `faster`."""
  return _system(results, name, case, system)[_ratio_key(live)]['median']


def rate(
  results: Results, name: str, system: str, case: str = 'training'
) -> float:
  """Returns a system's median examples per second."""
  return _system(results, name, case, system)['examples_per_s']['median']


def share_of_limit(
  results: Results, name: str, system: str, case: str = 'training'
) -> float:
  """Returns a system's rate in percent of the machine's limit."""
  return 100 * _system(results, name, case, system)['share_of_limit']


def row_minutes(results: Results, name: str, system: str) -> float:
  """Returns the minutes of a row's epochs at a system's rate."""
  return value(results, name, 'row_examples') / rate(results, name, system) / 60


def storing_seconds(results: Results, name: str, images: int) -> float:
  """Returns the seconds that it takes to store a teacher's outputs for images.

  They are the difference between an epoch on these images with a live teacher
  and an epoch with stored outputs.
  """
  live_s = images / rate(results, name, 'ours-live')
  stored_s = images / rate(results, name, 'ours')
  return live_s - stored_s


def inference_ratios(
  results: Results, machine: str, group: str, *batches: int
) -> str:
  """Returns the range of ours / the fastest of a group, over the ResNets.

  Args:
    results: the records by name.
    machine: the machine.
    group: 'PyTorch', 'ONNX Runtime, OpenVINO', or the key of one system.
    *batches: the batch sizes.
  Returns:
    'LEAST to LARGEST' of the medians.
  """
  ratios = [
    found['median']
    for systems in _resnet_cases(results, machine, batches)
    if (found := inference_tables.ours_over_group(systems, group)) is not None
  ]
  return _range(ratios, 2)


def teacher_over_student(
  results: Results, machine: str, network: str, batch: int
) -> float:
  """Returns the teacher's median time of a batch / a student's, both ours."""
  teacher, student = (
    rate(results, f'bench-{machine}-inference-{name}', 'ours', str(batch))
    for name in ('teacher', network)
  )
  return student / teacher


def inference_limits(results: Results, machine: str, *batches: int) -> str:
  """Returns the range of our shares (%) of the limit, over the ResNets."""
  shares = [
    100 * systems['ours']['share_of_limit']
    for systems in _resnet_cases(results, machine, batches)
  ]
  return _range(shares, 0)


def onnx_ratios(results: Results, machine: str) -> str:
  """Returns the range of the rates of our ONNX / PyTorch's, in ONNX Runtime."""
  ratios = [
    systems['onnxruntime']['examples_per_s']['median']
    / systems['onnxruntime-torch']['examples_per_s']['median']
    for record in inference_tables.inference_records(results, machine)
    for systems in record['cases'].values()
  ]
  return _range(ratios, 2)


def exported_ratios(results: Results, machine: str, batch: int) -> str:
  """Returns the range of live / exported, in one process, over all networks."""
  ratios = [
    record['exported_over_live'][str(batch)]['median']
    for record in inference_tables.inference_records(results, machine)
  ]
  return _range(ratios, 2)


def call_us(results: Results, name: str, system: str) -> float:
  """Returns the microseconds of a system's call with one image."""
  rates = value(results, name, 'latency', system, 'examples_per_s')
  return 1e6 / rates['median']


def loading_s(results: Results, name: str, system: str, stage: str) -> str:
  """Returns the range of a stage's seconds, over the networks of a record."""
  networks = value(results, name, 'loading').values()
  return _range([network[system][stage]['median'] for network in networks], 2)


def growth(
  results: Results, name: str, network: str, quantity: str, *, to: int
) -> float:
  """Returns an epoch's time as a quantity grows from its usual value.

  Args:
    results: the records by name.
    name: a record of growth.
    network: a network.
    quantity: 'examples', 'size', 'batch' or 'seeds'.
    to: the value to which the quantity grows.
  """
  usual = value(results, name, 'usual', network, quantity)
  at_usual, at_value = (
    value(results, name, 'growth', network, quantity, str(size), 'epoch_s')
    for size in (usual, to)
  )
  return at_value['median'] / at_usual['median']


def call_times(results: Results, name: str, *systems: str) -> str:
  """Returns the range of systems' time of a call / that of plain jit."""
  latency = value(results, name, 'latency')
  # The ratio of rates, ours / the system's, is the system's time / ours.
  return _range(
    [latency[system]['ours_over_it']['median'] for system in systems], 2
  )


def _ratio_key(live: bool) -> str:
  return 'live_over_it' if live else 'ours_over_it'


def _system(results: Results, name: str, case: str, system: str) -> Record:
  return value(results, name, 'cases', str(case), system)


def _resnet_cases(
  results: Results, machine: str, batches: Sequence[int]
) -> list[Record]:
  """Returns the systems' measurements of each ResNet at each batch size."""
  return [
    record['cases'][str(batch)]
    for record in inference_tables.inference_records(results, machine)
    if record['network'] != _MLP
    for batch in batches
  ]


def _range(values: Sequence[float], digits: int) -> str:
  return f'{min(values):.{digits}f} to {max(values):.{digits}f}'


FUNCTIONS: dict[str, Callable[..., Any]] = {
  function.__name__: function
  for function in (
    *(
      faster,
      faster_median,
      rate,
      share_of_limit,
      row_minutes,
      storing_seconds,
    ),
    *(
      teacher_over_student,
      inference_ratios,
      inference_limits,
      onnx_ratios,
      exported_ratios,
    ),
    *(call_us, call_times, loading_s, growth),
  )
}
