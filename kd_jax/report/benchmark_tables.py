"""Tables and plots of benchmarks/: other systems, and the machine's limit.

A record has for each case (a batch size, or 'training') each system's examples
a second and what ours has over it, round by round; ours is the first.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from kd_jax.report import markdown

Record = dict[str, Any]

# As the names of records have them: bench-avx2-inference-ideal.
MACHINES = ('avx512', 'avx2', 'gpu')
# The systems that ours is held against. Those of bfloat16 are not among them:
# they compute something else.
_GROUPS = {
  'PyTorch': ('torch', 'torch-compiled'),
  'ONNX Runtime, OpenVINO': ('onnxruntime', 'onnxruntime-torch', 'openvino'),
}


def rates_table(record: Record) -> str:
  """Every system in every case."""
  has_cases = len(record['cases']) > 1
  has_limit = any(
    'share_of_limit' in own for own in _systems(record['cases'].values())
  )
  # Older records divide bfloat16 by float32's.
  has_bfloat16 = any(
    'product_bfloat16_gflops' in own
    for own in record.get('limits', {}).values()
  )
  has_live = 'ours-live' in record['about']
  row = record.get('row_examples')
  lines = []
  for case, systems in record['cases'].items():
    for system, own in systems.items():
      rate = own['examples_per_s']
      lines.append(
        (
          record['about'][system],
          *([case] * has_cases),
          *(f'{rate[key]:,.0f}' for key in ('median', 'lower', 'upper')),
          str(rate['n']),
          markdown.quartiles(own['ours_over_it'], 2),
          *([_live_over(system, own, systems)] if has_live else []),
          *(
            [_share(own if has_bfloat16 or 'bfloat16' not in system else {})]
            if has_limit
            else []
          ),
          *([_duration(row / rate['median'])] if row else []),
        )
      )
  headers = (
    'system',
    *(['batch'] * has_cases),
    *('examples/s', 'lower', 'upper', 'rounds', 'ours / it'),
    *(['ours live / it'] * has_live),
    *(['of the limit'] * has_limit),
    *(['the row, at that rate'] if row else []),
  )
  return markdown.markdown(headers, lines)


def _live_over(system: str, own: Record, systems: dict[str, Record]) -> str:
  """Returns what ours has over a system of a live teacher, with one itself."""
  if not ('live' in system or 'distiller' in system):
    return markdown.NONE
  if 'live_over_it' in own:
    return markdown.quartiles(own['live_over_it'], 2)
  rates = (of['examples_per_s']['median'] for of in (systems['ours-live'], own))
  ours, its = rates  # Older records have no more.
  return f'{ours / its:.2f}'


def _share(own: Record) -> str:
  share = own.get('share_of_limit')
  return markdown.NONE if share is None else f'{100 * share:.0f} %'


def _duration(seconds: float) -> str:
  """Returns seconds as one would say them, as '1.5 min'."""
  for unit, size in (('h', 3600), ('min', 60)):
    if seconds >= size:
      return f'{seconds / size:.1f} {unit}'
  return f'{seconds:.1f} s'


def _systems(cases: Iterable[dict[str, Record]]) -> list[Record]:
  return [own for systems in cases for own in systems.values()]


def inference_table(results: dict[str, Record], machine: str) -> str:
  """Ours at each batch, over the best of each group of others.

  Args:
    results: records by name.
    machine: of MACHINES, that they are of.
  """
  lines = []
  for record in _inference(results, machine):
    in_one_process = record.get('exported_over_live', {})
    for batch, systems in record['cases'].items():
      ours = systems['ours']
      lines.append(
        (
          record['network'],
          batch,
          f'{1e3 * int(batch) / ours["examples_per_s"]["median"]:,.2f}',
          *(
            markdown.quartiles(_best(systems, names), 2)
            for names in _GROUPS.values()
          ),
          _onnx_over_torchs(systems),
          markdown.quartiles(
            in_one_process.get(batch)
            or systems['ours-exported']['ours_over_it'],
            2,
          ),
          *map(
            _share,
            (
              ours,
              max(_in_float32(systems), key=lambda of: of['share_of_limit']),
            ),
          ),
        )
      )
  headers = (
    *('network', 'batch', 'ours, ms'),
    *(f'ours / {group}' for group in _GROUPS),
    "our ONNX / PyTorch's",
    *('ours / exported', 'ours, of the limit', 'best, of the limit'),
  )
  return markdown.markdown(headers, lines)


def _onnx_over_torchs(systems: dict[str, Record]) -> str:
  """Returns the ratio of median rates, both in ONNX Runtime."""
  names = 'onnxruntime', 'onnxruntime-torch'
  if not set(names) <= set(systems):
    return markdown.NONE
  ours, its = (systems[name]['examples_per_s']['median'] for name in names)
  return f'{ours / its:.2f}'


def _in_float32(systems: dict[str, Record]) -> list[Record]:
  return [own for name, own in systems.items() if 'bfloat16' not in name]


def _inference(results: dict[str, Record], machine: str) -> list[Record]:
  """Returns a machine's records of inference, the small networks first."""
  prefix = f'bench-{machine}-inference-'
  records = [own for name, own in results.items() if name.startswith(prefix)]
  return sorted(records, key=lambda own: own['costs']['macs'])


def _best(
  systems: dict[str, Record], names: Iterable[str]
) -> dict[str, float] | None:
  """Returns what ours has over the fastest of those that are there."""
  known = [systems[name] for name in names if name in systems]
  if not known:
    return None
  fastest = max(known, key=lambda own: own['examples_per_s']['median'])
  return fastest['ours_over_it']


def start_up_table(record: Record) -> str:
  """Seconds to the first step, without and with programs of before."""
  lines = []
  for network, caches in record['start_up'].items():
    cold, warm = (caches[name]['first_epoch_s'] for name in ('cold', 'warm'))
    lines.append(
      (
        network,
        *(
          markdown.quartiles(own, 1)
          for own in (cold, warm, caches['warm']['run_s'])
        ),
        f'{cold["median"] / warm["median"]:.1f}',
      )
    )
  headers = ('network', 'cold s', 'warm s', 'whole run, warm s', 'cold / warm')
  return markdown.markdown(headers, lines)


def loading_table(record: Record) -> str:
  """What a fresh process does until an exported network has answered."""
  lines = [
    (
      network,
      record['about'][system],
      f'{own["bytes"] / 1e6:.1f}',
      *(
        markdown.quartiles(own[stage], 2)
        for stage in ('import_s', 'load_s', 'first_1_s', 'first_100_s')
      ),
    )
    for network, systems in record['loading'].items()
    for system, own in systems.items()
  ]
  headers = (
    *('network', 'system', 'MB', 'imports s', 'load s'),
    *('first answer s', 'first of 100 s'),
  )
  return markdown.markdown(headers, lines)


def growth_table(record: Record) -> str:
  """What an epoch costs as one thing grows, beside the usual."""
  lines = []
  for network, axis, value, own in _growth(record):
    usual = record['usual'][network][axis]
    base = record['growth'][network][axis][str(usual)]['epoch_s']['median']
    lines.append(
      (
        network,
        axis,
        f'{value:,}',
        f'{value / usual:g}',
        markdown.quartiles(own['epoch_s'], 2),
        f'{own["epoch_s"]["median"] / base:.2f}',
        f'{own["memory_mib"]["median"]:,.0f}',
      )
    )
  headers = (
    *('network', 'what grows', 'to', 'of the usual'),
    *('epoch s', 'of the usual', 'memory MiB'),
  )
  return markdown.markdown(headers, lines)


def _growth(record: Record) -> Iterator[tuple[str, str, int, Record]]:
  for network, axes in record['growth'].items():
    for axis, values in axes.items():
      for value, own in values.items():
        yield network, axis, int(value), own


def side_by_side_table(record: Record) -> str:
  """Seconds of seeds one by one and side by side, and what that gains."""
  lines = [
    (
      student,
      record['seeds'],
      markdown.quartiles(own['one_by_one'], 1),
      markdown.quartiles(own['side_by_side'], 1),
      markdown.quartiles(own['gain'], 2),
    )
    for student, own in record['side_by_side'].items()
  ]
  headers = ('student', 'seeds', 'one by one s', 'side by side s', 'gain')
  return markdown.markdown(headers, lines)


def serving_table(record: Record) -> str:
  """Microseconds of a call, one image each, the fastest way first."""
  latency = record['latency']
  rates = {name: own['examples_per_s'] for name, own in latency.items()}
  order = sorted(rates, key=lambda name: -rates[name]['median'])
  lines = [
    (
      record['about'][name],
      *(
        f'{1e6 / rates[name][key]:.1f}' for key in ('median', 'upper', 'lower')
      ),
      markdown.quartiles(latency[name]['ours_over_it'], 2),
    )
    for name in order
  ]
  first = record['about'][next(iter(latency))]
  headers = ('one image', 'us a call', 'lower', 'upper', f'{first} / it')
  return markdown.markdown(headers, lines)


def large_data_table(record: Record) -> str:
  """Rate and memory of images on disk, over those in memory."""
  lines = [
    (
      f'on {place}' if place == 'disk' else f'in {place}',
      f'{int(count):,}',
      markdown.quartiles(own['examples_per_s'], 0),
      markdown.quartiles(own['over_memory'], 2),
      markdown.quartiles(own['memory_mib'], 0),
    )
    for place, counts in record['places'].items()
    for count, own in counts.items()
  ]
  headers = (
    *('images', 'how many', 'examples/s', 'of the least in memory'),
    'peak memory MiB',
  )
  return markdown.markdown(headers, lines)


def faults_table(record: Record) -> str:
  """Each fault, and in how many cases a run took it as it should."""
  lines = []
  for name, own in record['faults'].items():
    words = name.rpartition('.')[2].removeprefix('test_').replace('_', ' ')
    runs = zip(own['passed'], own['cases'], strict=True)
    lines.append(
      (
        words,
        ', '.join(f'{passed} of {cases}' for passed, cases in runs),
        f'{sum(own["seconds"]) / len(own["seconds"]):.1f}',
      )
    )
  return markdown.markdown(('fault', 'passed, each time', 's'), lines)


TABLES = {
  'rates': rates_table,
  'start_up': start_up_table,
  'loading': loading_table,
  'growth': growth_table,
  'side_by_side': side_by_side_table,
  'serving': serving_table,
  'large_data': large_data_table,
  'faults': faults_table,
}
TABLES_OF_ALL = {
  f'inference_{machine}': functools.partial(inference_table, machine=machine)
  for machine in MACHINES
}


def draw_growth(axes, record: Record) -> None:
  """Draws an epoch's time against what grows, both over the usual."""
  for i, (network, by_axis) in enumerate(record['growth'].items()):
    for j, (axis, values) in enumerate(by_axis.items()):
      usual = record['usual'][network][axis]
      base = values[str(usual)]['epoch_s']['median']
      axes.plot(
        [int(value) / usual for value in values],
        [own['epoch_s']['median'] / base for own in values.values()],
        ('o-', 's--')[i % 2],
        color=f'C{j}',
        label=f'{network}: {axis}',
      )
  axes.axline((1, 1), slope=1, color='gray', linestyle=':')
  axes.set_xscale('log')
  axes.set_yscale('log')
  axes.set_xlabel('what grows, over the usual')
  axes.set_ylabel('time of an epoch, over the usual')
  axes.legend(fontsize='small')
  axes.grid(alpha=0.3)


def draw_roofline(axes, results: dict[str, Record], machine: str) -> None:
  """Draws what ours and the fastest other reach, under a machine's limit."""
  records = _inference(results, machine)
  limits = [own for record in records for own in record['limits'].values()]
  peak = max(own['product_gflops']['median'] for own in limits)
  bandwidth = max(own['memory_gb_per_s']['median'] for own in limits)
  intensities = []
  for i, record in enumerate(records):
    costs = record['costs']
    for batch, systems in record['cases'].items():
      size = int(batch)
      num_bytes = costs['parameter_bytes'] + size * costs['image_bytes']
      intensity = 2 * size * costs['macs'] / num_bytes
      intensities.append(intensity)
      others = {k: own for k, own in systems.items() if 'ours' not in k}
      best = max(own['examples_per_s']['median'] for own in _in_float32(others))
      ours = systems['ours']['examples_per_s']['median']
      label = record['network'] if batch == '1' else None
      for rate, marker, own in ((ours, 'o', label), (best, 'x', None)):
        gflops = 2 * costs['macs'] * rate / 1e9
        axes.plot(intensity, gflops, marker, color=f'C{i}', label=own)
  span = sorted((min(intensities), peak / bandwidth, max(intensities)))
  axes.plot(span, [min(peak, bandwidth * x) for x in span], color='black')
  axes.set_xscale('log')
  axes.set_yscale('log')
  axes.set_xlabel('operations for each byte that must be touched')
  axes.set_ylabel('GFLOP/s')
  axes.set_title(
    'dots: ours; crosses: the fastest other in float32; line: limit'
  )
  axes.legend(fontsize='small')
  axes.grid(alpha=0.3)
