"""The timings of a run: kept only for the networks that were timed."""

import dataclasses

import numpy as np
import pytest

from kd_jax import config as config_lib
from kd_jax.experiments import network_timing
from kd_jax.runtime import environment
from tests import helpers

CONFIG = helpers.tiny_mnist(fields={'benchmark.enabled': True})


@pytest.fixture(name='measurements')
def _measurements(monkeypatch):
  """Replaces timing; counts how often networks would be timed."""
  measurements = []

  def measure(run, teacher, models, network_by_row, results):
    measurements.append(list(models))
    return {
      'network_of': network_by_row,
      'config': config_lib.to_json(CONFIG.benchmark),
      'environment': environment.describe(),
    }

  monkeypatch.setattr(network_timing, '_measure', measure)
  return measurements


@pytest.fixture(name='record')
def _record(measurements, generated):
  record = {'students': []}
  _time(record, generated)
  return record


def _time(record, dataset):
  network_timing.time_run(CONFIG, helpers.make_rows(CONFIG, dataset), record)


def test_networks_are_timed_once(record, measurements, generated):
  _time(record, generated)
  assert measurements == [['h50']]


def test_timings_of_older_versions_are_kept(record, measurements, generated):
  del record['benchmark']['identity']
  _time(record, generated)
  assert len(measurements) == 1


def test_timings_for_images_of_another_shape_are_taken_again(
  record, measurements, generated
):
  images = np.zeros((4, 14, 14, 1), np.uint8)
  smaller = dataclasses.replace(
    generated, train=dataclasses.replace(generated.train, images=images)
  )
  _time(record, smaller)
  assert len(measurements) == 2


def test_timings_of_another_machine_are_named(
  record, measurements, generated, caplog
):
  record['benchmark']['environment']['device'] = 'TPU v5'
  _time(record, generated)
  assert len(measurements) == 1
  assert "another machine took them (device 'TPU v5', here " in caplog.text
