"""`python -m kd_jax.predict`: image files, their classes, and refusals.

Also tests `kd_jax/predict.py`.
"""

import io
import json
import os
import pathlib
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from PIL import Image, ImageOps

from kd_jax import data, predict
from kd_jax.export import artifact
from kd_jax.runtime import errors

IMAGES = data.load('generated').test.images
ROOT = pathlib.Path(predict.__file__).parents[1]


def _write_png(path, pixels):
  Image.fromarray(pixels).save(path)
  return path


def test_image_files_get_the_probabilities_of_their_pixels(exported, tmp_path):
  expected = np.asarray(artifact.load(exported).predict(IMAGES[:2]))
  paths = [
    _write_png(tmp_path / 'gray.png', IMAGES[0, ..., 0]),
    _write_png(tmp_path / 'color.png', np.repeat(IMAGES[1], 3, axis=-1)),
  ]
  results = predict.predict(exported, paths)
  assert list(results[0]) == list('0123456789')
  np.testing.assert_allclose(
    [list(probabilities.values()) for probabilities in results],
    expected,
    atol=1e-6,
  )


def test_the_command_prints_the_most_likely_classes(exported, tmp_path):
  path = _write_png(tmp_path / 'image.png', IMAGES[0, ..., 0])
  command = [sys.executable, '-m', 'kd_jax.predict', '--top=2']
  result = subprocess.run(
    [*command, str(exported), str(path)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  name, *classes = result.stdout.strip().split('\t')
  (probabilities,) = predict.predict(exported, [path])
  best = sorted(probabilities, key=probabilities.get, reverse=True)[:2]
  assert name == str(path)
  assert classes == [f'{label} {probabilities[label]:.4f}' for label in best]


def test_files_that_are_not_such_images_are_refused_by_name(exported, tmp_path):
  small = _write_png(tmp_path / 'small.png', np.zeros((14, 28), np.uint8))
  with pytest.raises(errors.UserError, match='small.png has 28×14.*28×28'):
    predict.predict(exported, [small])
  text = tmp_path / 'text.png'
  text.write_text(json.dumps({}))
  with pytest.raises(errors.UserError, match='text.png: cannot identify'):
    predict.predict(exported, [text])
  bomb = tmp_path / 'bomb.png'
  Image.new('1', (20_000, 10_000)).save(bomb)
  with pytest.raises(errors.UserError, match='bomb.png: .*bomb'):
    predict.predict(exported, [bomb])
  with pytest.raises(errors.UserError, match='none.png: .*No such file'):
    predict.predict(exported, [tmp_path / 'none.png'])
  deep = _write_png(tmp_path / 'deep.png', np.full((28, 28), 40_000, np.uint16))
  with pytest.raises(errors.UserError, match='deep.png: has more than 8 bits'):
    predict.predict(exported, [deep])
  bitmap = tmp_path / 'other.bmp'
  Image.new('L', (28, 28)).save(bitmap)
  with pytest.raises(errors.UserError, match='other.bmp: cannot identify'):
    predict.predict(exported, [bitmap])
  with pytest.raises(errors.UserError, match='images of 4 channels'):
    predict.read_image(deep, (28, 28, 4))


def test_images_of_any_size_are_cropped_and_resized_on_request(
  exported, tmp_path
):
  image = IMAGES[0, ..., 0]
  wide = np.pad(np.kron(image, np.ones((2, 2), np.uint8)), ((0, 0), (9, 9)))
  middle = np.asarray(ImageOps.fit(Image.fromarray(wide), (28, 28)))
  paths = [
    _write_png(tmp_path / 'small.png', middle),
    _write_png(tmp_path / 'wide.png', wide),
  ]
  small, large = predict.predict_each(exported, paths, resize=True)
  np.testing.assert_allclose([*large.values()], [*small.values()], atol=1e-6)
  with pytest.raises(errors.UserError, match='wide.png .*: --resize crops'):
    predict.predict(exported, paths)
  with pytest.raises(errors.UserError, match='only squares are'):
    predict.read_image(paths[0], (28, 14, 1), resize=True)


def test_the_orientation_of_a_photo_is_applied(tmp_path):
  pixels = IMAGES[0, :14, :, 0]
  path = tmp_path / 'turned.jpg'
  exif = Image.Exif()
  exif[0x0112] = 6  # Orientation: to be turned clockwise by 90 degrees.
  Image.fromarray(pixels).save(path, exif=exif, quality=100, subsampling=0)
  turned = np.rot90(pixels, -1)[..., None].astype(int)
  image = predict.read_image(path, (28, 14, 1)).astype(int)
  assert np.abs(image - turned).max() < 8  # JPEG is lossy.


@pytest.mark.parametrize('mode', ['LA', 'RGBA', 'P', 'L', 'RGB'])
def test_transparent_images_are_shown_on_white(tmp_path, mode):
  """An icon that is drawn in black on nothing is not black everywhere."""
  image = Image.new('RGBA', (4, 4), (0, 0, 0, 0))
  image.paste((0, 0, 0, 255), (0, 0, 2, 4))
  path = tmp_path / 'icon.png'
  if mode in ('L', 'RGB'):  # One value counts as transparent.
    color = (9, 9, 9) if mode == 'RGB' else 9
    opaque = Image.new(mode, (4, 4), color)
    opaque.paste('black', (0, 0, 2, 4))
    opaque.save(path, transparency=color)
  elif mode == 'P':
    palette = Image.new('P', (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.paste(0, (0, 0, 2, 4))
    palette.save(path, transparency=1)
  else:
    image.convert(mode).save(path)
  expected = np.repeat([[0, 0, 255, 255]], 4, axis=0)
  for channels in (1, 3):
    pixels = predict.read_image(path, (4, 4, channels))
    for channel in range(channels):
      np.testing.assert_array_equal(pixels[..., channel], expected)


def test_opaque_images_keep_their_pixels(tmp_path):
  colors = np.random.default_rng(0).integers(256, size=(4, 4, 3), dtype='u1')
  image = Image.fromarray(colors)
  image.putalpha(255)
  image.save(tmp_path / 'opaque.png')
  pixels = predict.read_image(tmp_path / 'opaque.png', (4, 4, 3))
  np.testing.assert_array_equal(pixels, colors)


def _main(capsys, *args):
  """Runs the command in this process; returns its status and its output."""
  with mock.patch.object(sys, 'argv', ['predict', *map(str, args)]):
    try:
      predict.main()
      code = 0
    except SystemExit as error:
      code = error.code
  captured = capsys.readouterr()
  return code, captured.out, captured.err


@pytest.mark.faults
def test_good_files_are_answered_beside_bad_ones(exported, tmp_path, capsys):
  """A damaged image among good ones: the good ones are classified."""
  paths = [tmp_path / f'{i}.png' for i in range(3)]
  for i in (0, 2):
    _write_png(paths[i], IMAGES[i, ..., 0])
  paths[1].write_text('no image')
  code, output, error = _main(capsys, exported, *paths)
  assert code == 'error: 1 of 3 images were not classified'
  names = [line.split('\t')[0] for line in output.splitlines()]
  assert names == [str(paths[0]), str(paths[2])]
  assert f'error: {paths[1]}: cannot identify' in error
  expected = predict.predict(exported, [paths[2]])[0]
  best = max(expected, key=expected.get)
  assert f'{best} {expected[best]:.4f}' in output.splitlines()[1]


@pytest.mark.faults
def test_names_cannot_break_lines(exported, tmp_path, capsys):
  """A file name with line breaks: it stays on one line of the output."""
  path = _write_png(tmp_path / 'a\nb\x1b[2J.png', IMAGES[0, ..., 0])
  code, output, _ = _main(capsys, exported, path)
  assert code == 0
  assert len(output.splitlines()) == 1
  assert 'a\\nb\\x1b[2J.png' in output


def test_many_images_are_read_in_batches_of_one_size(
  exported, tmp_path, monkeypatch
):
  """The memory does not depend on the number of images."""
  paths = [
    _write_png(tmp_path / f'{i}.png', IMAGES[i, ..., 0]) for i in range(5)
  ]
  expected = predict.predict(exported, paths)
  (tmp_path / '2.png').write_text('no image')
  sizes, load = [], artifact.load

  def load_counted(folder):
    student = load(folder)

    def count(images):
      sizes.append(len(images))
      return student.predict(images)

    return student._replace(predict=count)

  monkeypatch.setattr(predict, 'BATCH_SIZE', 2)
  monkeypatch.setattr(artifact, 'load', load_counted)
  answers = list(predict.predict_each(exported, paths))
  assert sizes == [2, 2, 2]
  assert isinstance(answers[2], errors.UserError)
  for i in (0, 1, 3, 4):
    np.testing.assert_allclose(
      [*answers[i].values()], [*expected[i].values()], atol=1e-6
    )


def test_a_folder_stands_for_its_images(exported, tmp_path, capsys):
  folder = tmp_path / 'photos'
  (folder / 'inner').mkdir(parents=True)
  (folder / 'readme.txt').write_text('no image')
  (folder / '._0.png').write_text('macOS')
  inner = _write_png(folder / 'inner' / '0.png', IMAGES[0, ..., 0])
  outer = _write_png(folder / '1.PNG', IMAGES[1, ..., 0])
  (folder / '2.png').write_text('no image')
  code, output, error = _main(capsys, exported, folder)
  names = [line.split('\t')[0] for line in output.splitlines()]
  assert names == [str(outer), str(inner)]
  assert code == 'error: 1 of 3 images were not classified'
  assert '2.png: cannot identify' in error


def test_a_folder_without_images_is_refused(exported, tmp_path, capsys):
  code, _, _ = _main(capsys, exported, tmp_path)
  assert 'holds no images: expected files *.png' in code


@pytest.mark.faults
@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full')
def test_answers_that_cannot_be_printed_are_an_error(
  exported, tmp_path, monkeypatch
):
  """A full disk behind the answers of predict: an error, as they are lost."""
  _write_png(tmp_path / 'a.png', IMAGES[0, ..., 0])
  argv = ['predict', str(exported), str(tmp_path / 'a.png')]
  monkeypatch.setattr(sys, 'argv', argv)
  with io.TextIOWrapper(open('/dev/full', 'wb')) as full:
    monkeypatch.setattr(sys, 'stdout', full)
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    with pytest.raises(SystemExit, match='error: the output is lost'):
      predict.main()
