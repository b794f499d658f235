"""Tables: the order of the rows, and the values of open fields."""

from ml_collections import ConfigDict

from configs import tables
from kd_jax import config as config_lib
from kd_jax import config_fields


def test_tables_keep_the_order_of_their_rows():
  config = ConfigDict(
    {
      'student': config_fields.mlp((3,)),
      'train': config_fields.training(epochs=1, batch_size=1),
      'distill': config_fields.distillation(),
      'rows': {},
    }
  )
  table = tables.make_table(
    config,
    {'z': {'student.hidden': (1,)}, 'a': {}, 'm': {'student.temperature': 2.0}},
  )
  assert [*table.rows] == ['z', 'a', 'm']
  closed = {row: config_lib.close_row(table, row).student for row in table.rows}
  assert closed['z'].hidden == (1,) and closed['a'].hidden == (3,)
  assert closed['m'].temperature == 2 and closed['z'].temperature == 1
