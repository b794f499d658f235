"""Plots of benchmarks/: the roofline of a machine, and the cost of growth."""

import pathlib

from kd_jax.report import benchmark_tables, figures, results_folder
from kd_jax.report.fields import Record
from kd_jax.report.figures import Axes


def write(results_dir: pathlib.Path, results: dict[str, Record]) -> None:
  """Writes the roofline and the growth plot of each machine with records.

  Args:
    results_dir: the folder results/; the files lie beside the records.
    results: the records by name.
  """
  for machine in benchmark_tables.MACHINES:
    folder = results_folder.folder(results_dir, f'bench-{machine}')
    if benchmark_tables.inference_records(results, machine):
      with figures.figure(folder / f'bench-{machine}-roofline.png') as axes:
        draw_roofline(axes, results, machine)
    growth = results.get(f'bench-{machine}-growth')
    if growth is not None:
      with figures.figure(folder / f'bench-{machine}-growth.png') as axes:
        draw_growth(axes, growth)


def draw_growth(axes: Axes, record: Record) -> None:
  """Draws an epoch's time against one growing quantity, relative to usual."""
  for i, (network, quantities) in enumerate(record['growth'].items()):
    for j, (quantity, values) in enumerate(quantities.items()):
      usual = record['usual'][network][quantity]
      base_s = values[str(usual)]['epoch_s']['median']
      axes.plot(
        [int(value) / usual for value in values],
        [cost['epoch_s']['median'] / base_s for cost in values.values()],
        ('o-', 's--')[i % 2],
        color=f'C{j}',
        label=f'{network}: {quantity}',
      )
  axes.axline((1, 1), slope=1, color='gray', linestyle=':')
  axes.set_xscale('log')
  axes.set_yscale('log')
  axes.set_xlabel('growing quantity / its usual value')
  axes.set_ylabel('epoch time / epoch time at the usual value')
  axes.legend(fontsize='small')
  axes.grid(alpha=0.3)


def draw_roofline(axes: Axes, results: dict[str, Record], machine: str) -> None:
  """Draws rates in GFLOP/s below a machine's limit.

  Each network and batch has a dot for kd_jax and a cross for the fastest other
  system in float32. The limit is the lesser of the fastest matrix product
  measured, and the operational intensity times the memory bandwidth measured.

  Args:
    axes: the axes to draw on.
    results: the records by name.
    machine: the machine, from `benchmark_tables.MACHINES`.
  """
  records = benchmark_tables.inference_records(results, machine)
  intensities = []
  for i, record in enumerate(records):
    for batch, systems in record['cases'].items():
      intensity = _operations_per_byte(record['costs'], int(batch))
      intensities.append(intensity)
      others = {
        name: rates for name, rates in systems.items() if 'ours' not in name
      }
      fastest = max(
        other['examples_per_s']['median']
        for other in benchmark_tables.float32_systems(others)
      )
      ours = systems['ours']['examples_per_s']['median']
      network = record['network'] if batch == '1' else None
      for rate, marker, label in ((ours, 'o', network), (fastest, 'x', None)):
        gflops = 2 * record['costs']['macs'] * rate / 1e9
        axes.plot(intensity, gflops, marker, color=f'C{i}', label=label)
  _draw_limit(axes, records, intensities)
  axes.set_xscale('log')
  axes.set_yscale('log')
  axes.set_xlabel('operations / bytes that must be read or written')
  axes.set_ylabel('GFLOP/s')
  axes.set_title(
    'dots: ours; crosses: fastest other system in float32; line: limit'
  )
  axes.legend(fontsize='small')
  axes.grid(alpha=0.3)


def _operations_per_byte(costs: Record, batch: int) -> float:
  """Returns the operational intensity of a forward pass over one batch."""
  num_bytes = costs['parameter_bytes'] + batch * costs['image_bytes']
  return 2 * batch * costs['macs'] / num_bytes


def _draw_limit(
  axes: Axes, records: list[Record], intensities: list[float]
) -> None:
  """Draws the limit over a range of intensities (operations per byte)."""
  limits = [limit for record in records for limit in record['limits'].values()]
  peak = max(limit['product_gflops']['median'] for limit in limits)
  bandwidth = max(limit['memory_gb_per_s']['median'] for limit in limits)
  span = sorted((min(intensities), peak / bandwidth, max(intensities)))
  axes.plot(span, [min(peak, bandwidth * x) for x in span], color='black')
