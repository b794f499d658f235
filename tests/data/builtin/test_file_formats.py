"""The original file formats: known bytes, round trips, damaged files."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kd_jax.data.builtin import file_formats
from kd_jax.data.dataset import DataError, Split
from tests.data import toys

LABELS = st.integers(0, 255)


def test_idx_by_hand():
  images = struct.pack('>4I', 0x803, 2, 2, 3) + bytes(range(12))
  labels = struct.pack('>2I', 0x801, 2) + bytes([7, 3])
  split = file_formats.parse_idx([images, labels], (2, 3, 1))
  np.testing.assert_array_equal(
    split.images[..., 0], [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
  )
  np.testing.assert_array_equal(split.labels, [7, 3])
  assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)


def test_batches_by_hand():
  # Two examples of 1x2 pixels in two files. A record holds the label, then the
  # red, green and blue values.
  files = [bytes([9, 1, 2, 3, 4, 5, 6]), bytes([0, 7, 8, 9, 10, 11, 12])]
  split = file_formats.parse_batches(files, (1, 2, 3))
  np.testing.assert_array_equal(
    split.images, [[[[1, 3, 5], [2, 4, 6]]], [[[7, 9, 11], [8, 10, 12]]]]
  )
  np.testing.assert_array_equal(split.labels, [9, 0])
  assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)
  assert split.images.flags.c_contiguous


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_idx_round_trip(draw, count, height, width):
  split = _split(draw, count, (height, width, 1))
  parsed = file_formats.parse_idx(toys.serialize_idx(split), (height, width, 1))
  _assert_same(parsed, split)


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_batches_round_trip(draw, num_files, per_file, side):
  split = _split(draw, num_files * per_file, (side, side + 1, 3))
  files = toys.serialize_batches(split, num_files)
  assert len(files) == num_files
  _assert_same(file_formats.parse_batches(files, (side, side + 1, 3)), split)


def _split(draw, count, shape) -> Split:
  return Split(
    draw.draw(hnp.arrays(np.uint8, (count, *shape))),
    draw.draw(hnp.arrays(np.int32, count, elements=LABELS)),
  )


def _assert_same(split, expected):
  np.testing.assert_array_equal(split.images, expected.images)
  np.testing.assert_array_equal(split.labels, expected.labels)


@pytest.mark.parametrize(
  'damage',
  [
    lambda images, labels: [images[:-1], labels],
    lambda images, labels: [images + b'0', labels],
    lambda images, labels: [images, labels[:-1]],
    lambda images, labels: [images[:10], labels],
    lambda images, labels: [labels, images],
    lambda images, labels: [b'\0\0\x08\x01' + images[4:], labels],
    lambda images, labels: [images, b'\0\0\x08\x03' + labels[4:]],
  ],
)
def test_damaged_idx_files_are_refused(idx_toy, damage):
  images, labels, *_ = idx_toy.files.values()
  file_formats.parse_idx([images, labels], (5, 4, 1))
  with pytest.raises(DataError, match='idx files'):
    file_formats.parse_idx(damage(images, labels), (5, 4, 1))


def test_idx_files_of_another_image_shape_are_refused(idx_toy):
  images, labels, *_ = idx_toy.files.values()
  with pytest.raises(DataError, match='not 40 images of 4x5'):
    file_formats.parse_idx([images, labels], (4, 5, 1))


def test_an_incomplete_record_in_a_batch_is_refused(batches_toy):
  first, second, _ = batches_toy.files.values()
  with pytest.raises(DataError, match='whole records of 61 bytes'):
    file_formats.parse_batches([first, second[:-1]], (5, 4, 3))


def test_sheets_are_converted_to_batches(batches_toy):
  members = toys.sheets(batches_toy)
  assert file_formats.batches_from_sheets(members) == batches_toy.files


def test_check_md5_refuses_content_of_another_digest():
  file_formats.check_md5(b'hello', '5d41402abc4b2a76b9719d911017c592')
  with pytest.raises(DataError, match='corrupt, or not the original'):
    file_formats.check_md5(b'hellO', '5d41402abc4b2a76b9719d911017c592')
