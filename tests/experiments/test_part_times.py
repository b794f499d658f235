"""The seconds of a run's parts."""

import sys
import time

from kd_jax.experiments import part_times


def test_the_seconds_of_a_part_add_up_over_commands(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(time, 'perf_counter', lambda: now[0])
  record = {}
  for _ in range(2):
    with part_times.measure(record, 'teacher'):
      now[0] += 3.0
  assert record['part_seconds']['teacher'] == 6.0


def test_the_setup_time_is_recorded_if_make_measured_it(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, 'prefix', str(tmp_path))
  for content, expected in ((None, None), ('', None), ('42\n', 42.0)):
    if content is not None:
      (tmp_path / part_times.SETUP_FILE).write_text(content)
    record = {}
    part_times.add_earlier(record)
    assert record['part_seconds'].get('environment') == expected


def test_students_of_workers_are_counted(monkeypatch):
  monkeypatch.setenv('KD_JAX_WORKERS_SECONDS', '12.5')
  record = {'part_seconds': {'students': 1.0}}
  for _ in range(2):  # The seconds of one command count once.
    part_times.add_earlier(record)
    assert record['part_seconds']['students'] == 13.5
