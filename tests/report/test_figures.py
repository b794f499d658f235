"""Colors of plots, labels that do not overlap, and equal bytes."""

import numpy as np
import pytest

from kd_jax.report import figures


def test_fourteen_series_differ():
  styles = [figures.style(i) for i in range(14)]
  assert len(set(styles)) == 14
  assert {style.color for style in styles} == set(figures.COLORS)


@pytest.mark.parametrize(
  'wanted, places',
  [
    ([0.2, 0.7], [0.2, 0.7]),
    ([0.5, 0.5, 0.5], [0.4, 0.5, 0.6]),
    ([0.95, 1.0, 1.0], [0.8, 0.9, 1.0]),
    ([-3.0, 9.0], [0.0, 1.0]),
    ([], []),
  ],
)
def test_labels_keep_their_distance(wanted, places):
  assert figures.spread(wanted, 0.1) == pytest.approx(places)


def test_labels_without_room_fill_the_axes():
  places = figures.spread([0.5] * 41, 0.1)
  assert places == pytest.approx(np.linspace(0, 1, 41))


def test_labels_stand_beside_the_ends_of_lines_that_grow(tmp_path):
  """The limits of new axes are 0 to 1 until something asks for them."""
  with figures.figure(tmp_path / 'a.png') as axes:
    axes.plot([1, 2], [50, 100])
    axes.plot([1, 2], [50, 60])
    ends = [figures.Label(2, y, f'$ {y}') for y in (100, 60)]
    figures.label_ends(axes, ends)
    low, high = axes.get_ylim()
  assert low < 51 and high > 99
  first, second = axes.texts
  assert [first.get_text(), second.get_text()] == [r'\$ 60', r'\$ 100']
  (_, y), (_, top) = first.get_position(), second.get_position()
  assert y == pytest.approx((60 - low) / (high - low), abs=0.02)
  assert top == pytest.approx((100 - low) / (high - low), abs=0.02)


def test_a_figure_has_the_same_bytes_each_time(tmp_path):
  for name in 'ab':
    with figures.figure(tmp_path / f'{name}.png') as axes:
      axes.plot([1, 1000], [1, 2])
      axes.set_xscale('log')
      figures.title(axes.figure, 'A title that costs 5 $. ' * 9)
  assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


def test_numbers_of_logarithmic_axes_are_plain():
  numbers = [1e-5, 0.0001, 0.3, 5, 1000, 30_000, 2e6]
  assert [figures._plain(x, 0) for x in numbers] == [
    '1e-05', '0.0001', '0.3', '5', '1,000', '30k', '2M',
  ]  # fmt: skip


@pytest.mark.filterwarnings('error')
def test_names_in_scripts_without_a_font_are_drawn_without_a_word(tmp_path):
  with figures.figure(tmp_path / 'a.png') as axes:
    axes.set_yticks([0, 1], ['猫', 'कुत्ता'])
  assert (tmp_path / 'a.png').stat().st_size > 1000
