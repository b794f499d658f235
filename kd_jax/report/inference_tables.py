"""Inference of our networks beside other systems, in one table a machine.

The records are those that `benchmark_tables.rates_table` shows one by one.
"""

from collections.abc import Mapping

from kd_jax.report import benchmark_tables, markdown
from kd_jax.report.fields import Record

# As in the names of records: bench-avx2-inference-ideal.
MACHINES = ('avx512', 'avx2', 'gpu')
# The systems that ours is compared with. Systems in bfloat16 are left out,
# because they do not compute the same result.
_GROUPS = {
  'PyTorch': ('torch', 'torch-compiled'),
  'ONNX Runtime, OpenVINO': ('onnxruntime', 'onnxruntime-torch', 'openvino'),
}


def inference_table(results: dict[str, Record], machine: str) -> str:
  """Returns ours at each batch beside the best of each group of systems.

  Args:
    results: the records by name.
    machine: the machine, from `MACHINES`, whose records are used.
  """
  lines = [
    _inference_cells(record, batch)
    for record in inference_records(results, machine)
    for batch in record['cases']
  ]
  headers = (
    *('network', 'batch', 'ours, ms'),
    *(f'ours / {group}' for group in _GROUPS),
    "our ONNX / PyTorch's",
    *('ours / exported', 'ours, of the limit', 'best, of the limit'),
  )
  return markdown.table(headers, lines)


def _inference_cells(record: Record, batch: str) -> list[str]:
  """Returns one batch's cells of `inference_table`."""
  systems = record['cases'][batch]
  ours = systems['ours']
  # Prefer the ratio measured within one process. Between two processes, the
  # placement of memory alone makes a difference of up to a quarter.
  over_exported = record.get('exported_over_live', {}).get(
    batch
  ) or systems.get('ours-exported', {}).get('ours_over_it')
  onnx_ratio = markdown.NONE
  if {'onnxruntime', 'onnxruntime-torch'} <= set(systems):
    onnx_ratio = benchmark_tables.median_ratio(
      systems, 'onnxruntime', 'onnxruntime-torch'
    )
  best_share = max(
    measured['share_of_limit'] for measured in float32_systems(systems)
  )
  return [
    record['network'],
    batch,
    f'{1e3 * int(batch) / ours["examples_per_s"]["median"]:,.2f}',
    *(
      markdown.quartiles(ours_over_group(systems, group), 2)
      for group in _GROUPS
    ),
    onnx_ratio,
    markdown.quartiles(over_exported, 2),
    benchmark_tables.percent(ours.get('share_of_limit')),
    benchmark_tables.percent(best_share),
  ]


def inference_records(
  results: Mapping[str, Record], machine: str
) -> list[Record]:
  """Returns a machine's records of inference, the smallest network first."""
  prefix = f'bench-{machine}-inference-'
  records = [
    record for name, record in results.items() if name.startswith(prefix)
  ]
  return sorted(records, key=lambda record: record['costs']['macs'])


def float32_systems(systems: dict[str, Record]) -> list[Record]:
  """Returns the measurements of the systems that compute in float32."""
  return [
    measured for name, measured in systems.items() if 'bfloat16' not in name
  ]


def ours_over_group(
  systems: dict[str, Record], group: str
) -> dict[str, float] | None:
  """Returns ours / the fastest of a group; None if all are absent.

  Args:
    systems: the systems' measurements in one case.
    group: a key of `_GROUPS`, or the key of one system.
  """
  names = _GROUPS.get(group, (group,))
  known = [systems[name] for name in names if name in systems]
  if not known:
    return None
  fastest = max(known, key=lambda system: system['examples_per_s']['median'])
  return fastest.get('ours_over_it')
