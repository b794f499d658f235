"""Tables of benchmarks/: kd_jax beside other systems and the machine's limit.

A record of rates holds, for each case (a batch size, or 'training') and each
system, quartiles over rounds of the system's examples per second and of
'ours_over_it', the first system's rate / the system's rate. The first system
is ours, kd_jax. The other records hold seconds or examples per second. Each
`*_table` function returns a Markdown table.
"""

from collections.abc import Callable, Iterator

from kd_jax.report import failures, markdown
from kd_jax.report.fields import Record


def rates_table(record: Record) -> str:
  """Returns the rate of every system in every case.

  The table has columns for the case, the live teacher, the machine's limit and
  the duration of a whole row only if the record has these values.
  """
  lines = [
    _rates_cells(record, case, system)
    for case, systems in record['cases'].items()
    for system in systems
  ]
  return markdown.table_of_lines(
    lines + failures.lines(record, lines[0], record['cases'].values())
  )


def _rates_cells(record: Record, case: str, system: str) -> dict[str, str]:
  """Returns one system's cells in one case, by column header."""
  systems = record['cases'][case]
  measured = systems[system]
  rate = measured['examples_per_s']
  cells = {'system': failures.about(record, system)}
  if len(record['cases']) > 1:
    cells['batch'] = case
  cells |= {
    'examples/s': f'{rate["median"]:,.0f}',
    'lower': f'{rate["lower"]:,.0f}',
    'upper': f'{rate["upper"]:,.0f}',
    'rounds': str(rate['n']),
    'ours / it': markdown.quartiles(measured.get('ours_over_it'), 2),
  }
  if 'ours-live' in record['about']:
    cells['ours live / it'] = _live_ratio(system, systems)
  if _has_limit(record):
    cells['of the limit'] = _limit_share(record, system, measured)
  if record.get('row_examples'):
    seconds = record['row_examples'] / rate['median']
    cells['the row, at that rate'] = _duration(seconds)
  return cells


def _live_ratio(system: str, systems: dict[str, Record]) -> str:
  """Returns our rate / a system's rate, both with a live teacher."""
  if not ('live' in system or 'distiller' in system):
    return markdown.NONE
  if 'live_over_it' in systems[system]:
    return markdown.quartiles(systems[system]['live_over_it'], 2)
  # Older records have no ratio round by round.
  return median_ratio(systems, 'ours-live', system)


def median_ratio(
  systems: dict[str, Record], numerator: str, denominator: str
) -> str:
  """Returns the ratio of two systems' median rates."""
  rates = [
    systems[name]['examples_per_s']['median']
    for name in (numerator, denominator)
  ]
  return f'{rates[0] / rates[1]:.2f}'


def _has_limit(record: Record) -> bool:
  return any(
    'share_of_limit' in measured
    for systems in record['cases'].values()
    for measured in systems.values()
  )


def _limit_share(record: Record, system: str, measured: Record) -> str:
  """Returns a system's rate as a share of the machine's limit.

  Older records have no limit for bfloat16 and divide by the limit for float32.
  Their shares of systems in bfloat16 are left out.
  """
  has_bfloat16_limit = any(
    'product_bfloat16_gflops' in limits
    for limits in record.get('limits', {}).values()
  )
  if 'bfloat16' in system and not has_bfloat16_limit:
    return markdown.NONE
  return percent(measured.get('share_of_limit'))


def percent(share: float | None) -> str:
  """Returns a share in percent; None is a dash."""
  return markdown.NONE if share is None else f'{100 * share:.0f} %'


def _duration(seconds: float) -> str:
  """Returns seconds in a readable unit, as '1.5 min'."""
  for unit, size in (('h', 3600), ('min', 60)):
    if seconds >= size:
      return f'{seconds / size:.1f} {unit}'
  return f'{seconds:.1f} s'


def start_up_table(record: Record) -> str:
  """Returns seconds until the first epoch's end, with a cold and a warm cache.

  A warm cache holds the compiled functions of an earlier process.
  """
  lines = []
  for network, caches in record['start_up'].items():
    cold, warm = (caches[name]['first_epoch_s'] for name in ('cold', 'warm'))
    lines.append(
      (
        network,
        markdown.quartiles(cold, 1),
        markdown.quartiles(warm, 1),
        markdown.quartiles(caches['warm']['run_s'], 1),
        f'{cold["median"] / warm["median"]:.1f}',
      )
    )
  headers = ('network', 'cold s', 'warm s', 'whole run, warm s', 'cold / warm')
  return markdown.table(headers, lines)


def loading_table(record: Record) -> str:
  """Returns seconds from a fresh process to an exported network's answers."""
  stages = ('import_s', 'load_s', 'first_1_s', 'first_100_s')
  lines = [
    (
      network,
      failures.about(record, system),
      f'{measured["bytes"] / 1e6:.1f}',
      *(markdown.quartiles(measured[stage], 2) for stage in stages),
    )
    for network, systems in record['loading'].items()
    for system, measured in systems.items()
  ]
  headers = (
    *('network', 'system', 'MB', 'imports s', 'load s'),
    *('first answer s', 'first of 100 s'),
  )
  missing = failures.lines(
    record, headers, record['loading'].values(), column='system'
  )
  return markdown.table(headers, lines + [(*m.values(),) for m in missing])


def growth_table(record: Record) -> str:
  """Returns an epoch's time and memory as one quantity grows.

  The quantities are the training examples, the network's size, the batch and
  the number of seeds. Values and times are also relative to the usual value.
  """
  lines = []
  for network, quantity, value, measured in _growth(record):
    usual = record['usual'][network][quantity]
    at_usual = record['growth'][network][quantity][str(usual)]
    base_s = at_usual['epoch_s']['median']
    lines.append(
      (
        network,
        quantity,
        f'{value:,}',
        f'{value / usual:g}',
        markdown.quartiles(measured['epoch_s'], 2),
        f'{measured["epoch_s"]["median"] / base_s:.2f}',
        f'{measured["memory_mib"]["median"]:,.0f}',
      )
    )
  headers = (
    *('network', 'what grows', 'to', 'of the usual'),
    *('epoch s', 'of the usual', 'memory MiB'),
  )
  return markdown.table(headers, lines)


def _growth(record: Record) -> Iterator[tuple[str, str, int, Record]]:
  """Yields each network, quantity, value of the quantity, and measurement."""
  for network, quantities in record['growth'].items():
    for quantity, values in quantities.items():
      for value, measured in values.items():
        yield network, quantity, int(value), measured


def side_by_side_table(record: Record) -> str:
  """Returns the gain in time from training seeds side by side."""
  lines = [
    (
      student,
      record['seeds'],
      markdown.quartiles(measured['one_by_one'], 1),
      markdown.quartiles(measured['side_by_side'], 1),
      markdown.quartiles(measured['gain'], 2),
    )
    for student, measured in record['side_by_side'].items()
  ]
  headers = ('student', 'seeds', 'one by one s', 'side by side s', 'gain')
  return markdown.table(headers, lines)


def serving_table(record: Record) -> str:
  """Returns microseconds of a call with one image, the fastest system first."""
  latency = record['latency']
  rates = {name: system['examples_per_s'] for name, system in latency.items()}
  lines = []
  for name in sorted(rates, key=lambda name: -rates[name]['median']):
    # The upper quartile of the rate is the lower quartile of the time.
    median, lower, upper = (
      f'{1e6 / rates[name][key]:.1f}' for key in ('median', 'upper', 'lower')
    )
    ratio = markdown.quartiles(latency[name].get('ours_over_it'), 2)
    lines.append((failures.about(record, name), median, lower, upper, ratio))
  reference = record['about'][next(iter(latency))]
  headers = ('one image', 'us a call', 'lower', 'upper', f'{reference} / it')
  missing = failures.lines(record, headers, [latency], column='one image')
  return markdown.table(headers, lines + [(*m.values(),) for m in missing])


def large_data_table(record: Record) -> str:
  """Returns rate and peak memory with images on disk and in memory.

  Rates are also relative to the smallest number of images in memory.
  """
  lines = [
    (
      f'on {place}' if place == 'disk' else f'in {place}',
      f'{int(count):,}',
      markdown.quartiles(measured['examples_per_s'], 0),
      markdown.quartiles(measured['over_memory'], 2),
      markdown.quartiles(measured['memory_mib'], 0),
    )
    for place, counts in record['places'].items()
    for count, measured in counts.items()
  ]
  headers = (
    *('images', 'how many', 'examples/s', 'of the least in memory'),
    'peak memory MiB',
  )
  return markdown.table(headers, lines)


def faults_table(record: Record) -> str:
  """Returns how many cases of each injected fault a run handled correctly."""
  lines = []
  for result in record['faults'].values():
    rounds = zip(result['passed'], result['cases'], strict=True)
    lines.append(
      (
        result['fault'],
        ', '.join(f'{passed} of {cases}' for passed, cases in rounds),
        f'{sum(result["seconds"]) / len(result["seconds"]):.1f}',
      )
    )
  return markdown.table(('fault', 'passed, each time', 's'), lines)


def convolutions_table(record: Record) -> str:
  """Returns milliseconds of each form of each convolution, fastest first.

  The form that kd_jax chooses is bold.
  """
  lines = []
  for name, shape in record['shapes'].items():
    for operation, forms in shape['seconds'].items():
      medians = {form: seconds['median'] for form, seconds in forms.items()}
      cells = []
      for form in sorted(medians, key=medians.__getitem__):
        mark = '**' if form == shape['chosen'][operation] else ''
        cells.append(f'{mark}{form} {1e3 * medians[form]:.1f}{mark}')
      rate = shape['gflop'] / min(medians.values())
      lines.append((name, operation, ', '.join(cells), f'{rate:.0f}'))
  headers = ('convolution', 'what', 'ms', 'GFLOP/s of the fastest')
  return markdown.table(headers, lines)


# By the kind that a document's marker names.
TABLES: dict[str, Callable[[Record], str]] = {
  'convolutions': convolutions_table,
  'rates': rates_table,
  'start_up': start_up_table,
  'loading': loading_table,
  'growth': growth_table,
  'side_by_side': side_by_side_table,
  'serving': serving_table,
  'large_data': large_data_table,
  'faults': faults_table,
}
# The field that holds a kind's measurements, where its name is not the kind's.
_FIELDS = {
  'convolutions': 'shapes',
  'rates': 'cases',
  'serving': 'latency',
  'large_data': 'places',
}


def table(record: Record) -> str | None:
  """Returns a benchmark's table; None if the record is no benchmark."""
  for kind, make_table in TABLES.items():
    if _FIELDS.get(kind, kind) in record:
      return make_table(record)
  return None
