"""Plots of benchmarks/: the roofline of a machine, and the cost of growth."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kd_jax.report import figures, inference_tables, results_folder
from kd_jax.report.fields import Record
from kd_jax.report.figures import Axes


def write(results_dir: pathlib.Path, results: dict[str, Record]) -> None:
  """Writes the roofline and the growth plot of each machine with records.

  Args:
    results_dir: the folder results/; the files lie beside the records.
    results: the records by name.
  """
  for machine in inference_tables.MACHINES:
    folder = results_folder.folder(results_dir, f'bench-{machine}')
    if inference_tables.inference_records(results, machine):
      path = folder / f'bench-{machine}-roofline.png'
      with figures.canvas(path, (8, 5.5)) as figure:
        draw_roofline(figure, results, machine)
    growth = results.get(f'bench-{machine}-growth')
    if growth is not None:
      path = folder / f'bench-{machine}-growth.png'
      with figures.canvas(path, (8, 6)) as figure:
        draw_growth(figure, growth)


def draw_growth(figure: Any, record: Record) -> None:
  """Draws an epoch's time against growing quantities, relative to usual.

  Each quantity has a panel, and each network a line.

  Args:
    figure: a matplotlib figure.
    record: a record of growth.
  """
  costs = growth_costs(record)
  quantities = list(dict.fromkeys(quantity for _, quantity in costs))
  networks = list(dict.fromkeys(network for network, _ in costs))
  lines = -(-len(quantities) // 2)
  grid = figure.subplots(
    lines, 2, sharex=True, sharey=True, squeeze=False
  ).ravel()
  for axes, quantity in zip(grid, quantities, strict=False):
    axes.set_xscale('log')
    axes.set_yscale('log')
    axes.axline((1, 1), (10, 10), color=figures.GRAY, linestyle=':')
    axes.set_title(f'growing: {quantity}')
  for (network, quantity), points in costs.items():
    i = networks.index(network)
    axes = grid[quantities.index(quantity)]
    marker = 'os^D'[i % 4]
    color = figures.COLORS[i % len(figures.COLORS)]
    axes.plot(*zip(*points, strict=True), marker=marker, color=color)
  for axes, quantity in zip(grid, quantities, strict=False):
    figures.label_ends(
      axes,
      [
        figures.Label(*found[-1], network, figures.COLORS[i % 7])
        for i, network in enumerate(networks)
        if (found := costs.get((network, quantity)))
      ],
    )
  figures.close_grid(grid, len(quantities), 2)
  figure.supxlabel('growing quantity / its usual value', fontsize=10)
  figure.supylabel('epoch time / epoch time at the usual value', fontsize=10)
  figures.title(figure, growth_title(costs))


# Pairs of (quantity / usual, time / usual), by network and quantity.
Costs = dict[tuple[str, str], list[tuple[float, float]]]


def growth_costs(record: Record) -> Costs:
  """Returns an epoch's time against each quantity, relative to usual."""
  costs: Costs = {}
  for network, quantities in record['growth'].items():
    for quantity, values in quantities.items():
      usual = record['usual'][network][quantity]
      base_s = values[str(usual)]['epoch_s']['median']
      costs[network, quantity] = sorted(
        (int(value) / usual, cost['epoch_s']['median'] / base_s)
        for value, cost in values.items()
      )
  return costs


def growth_title(costs: Costs) -> str:
  """Returns a sentence about the quantity whose cost grows fastest."""
  _, factor, cost, network, quantity = max(
    (cost / factor, factor, cost, network, quantity)
    for (network, quantity), points in costs.items()
    for factor, cost in points
    if factor > 1 or len(points) == 1 or all(f <= 1 for f, _ in points)
  )
  return (
    f'Furthest above linear (dotted): with {factor:g} times the {quantity}, an '
    f'epoch of {network} takes {cost:.1f} times as long'
  )


def draw_roofline(
  figure: Any, results: dict[str, Record], machine: str
) -> None:
  """Draws rates in GFLOP/s below a machine's limit, a panel for each network.

  Each batch has a dot for kd_jax and a cross for the fastest other system in
  float32. The limit is the lesser of the fastest matrix product measured, and
  the operational intensity times the memory bandwidth measured.

  Args:
    figure: a matplotlib figure.
    results: the records by name.
    machine: the machine, from `inference_tables.MACHINES`.
  """
  records = inference_tables.inference_records(results, machine)
  columns = min(3, len(records))
  grid = figure.subplots(
    -(-len(records) // columns), columns, sharex=True, sharey=True,
    squeeze=False,
  ).ravel()  # fmt: skip
  rates = {record['network']: _rates(record) for record in records}
  intensities = [rate.intensity for found in rates.values() for rate in found]
  for axes, record in zip(grid, records, strict=False):
    _draw_limit(axes, records, intensities)
    found = rates[record['network']]
    x = [rate.intensity for rate in found]
    axes.plot(x, [r.others for r in found], 'x--', color=figures.VERMILION)
    axes.plot(x, [r.ours for r in found], 'o-', color=figures.BLUE)
    axes.set_xscale('log')
    axes.set_yscale('log')
    axes.set_title(record['network'])
  _name_series(grid[0])
  figures.close_grid(grid, len(records), columns)
  figure.supxlabel(
    'operations / bytes that must be read or written', fontsize=10
  )
  figure.supylabel('GFLOP/s', fontsize=10)
  figures.title(figure, roofline_title(rates))


class Rates(NamedTuple):
  """GFLOP/s at one batch: ours, and the fastest other system in float32."""

  batch: int
  intensity: float
  ours: float
  others: float


def _rates(record: Record) -> list[Rates]:
  """Returns the rates of a network at each batch, in rising order."""
  found = []
  for batch, systems in record['cases'].items():
    others = {name: r for name, r in systems.items() if 'ours' not in name}
    fastest = max(
      other['examples_per_s']['median']
      for other in inference_tables.float32_systems(others)
    )
    ours = systems['ours']['examples_per_s']['median']
    gflops = 2 * record['costs']['macs'] / 1e9
    intensity = _operations_per_byte(record['costs'], int(batch))
    found.append(Rates(int(batch), intensity, gflops * ours, gflops * fastest))
  return sorted(found)


def _name_series(axes: Axes) -> None:
  """Writes the names of the series of all panels into a corner of one."""
  names = (
    ('● kd_jax', figures.BLUE),
    ('× fastest other', figures.VERMILION),
    ('─ limit of the machine', 'black'),
  )
  for i, (name, color) in enumerate(names):
    axes.annotate(
      name,
      (0.98, 0.24 - 0.1 * i),
      xycoords='axes fraction',
      ha='right',
      color=color,
      fontsize=8.5,
    )


def roofline_title(rates: Mapping[str, Sequence[Rates]]) -> str:
  """Returns a sentence that compares rates at the least and largest batch.

  Args:
    rates: the rates of each network, in the order of the batch.
  """
  parts = []
  for place in (0, -1):
    ratios = [
      found[place].ours / found[place].others for found in rates.values()
    ]
    batches = {found[place].batch for found in rates.values()}
    batch = ' or '.join(f'{batch:,}' for batch in sorted(batches))
    parts.append(
      f'{min(ratios):.2f} to {max(ratios):.2f} times at batch {batch}'
    )
  return f'Rate of kd_jax over the fastest other system: {", ".join(parts)}'


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
