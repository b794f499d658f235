"""Fixtures for tests of reports."""

import pytest

from tests.report import example_records


@pytest.fixture(name='record')
def _record():
  return example_records.run_record()
