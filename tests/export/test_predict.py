"""`python -m kd_jax.predict`: image files, their classes, and refusals."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

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


def test_the_orientation_of_a_photo_is_applied(tmp_path):
  pixels = IMAGES[0, :14, :, 0]
  path = tmp_path / 'turned.jpg'
  exif = Image.Exif()
  exif[0x0112] = 6  # Orientation: to be turned clockwise by 90 degrees.
  Image.fromarray(pixels).save(path, exif=exif, quality=100, subsampling=0)
  turned = np.rot90(pixels, -1)[..., None].astype(int)
  image = predict.read_image(path, (28, 14, 1)).astype(int)
  assert np.abs(image - turned).max() < 8  # JPEG is lossy.


def test_transparent_pixels_keep_their_color(tmp_path):
  image = Image.fromarray(np.full((4, 4), 200, np.uint8)).convert('LA')
  image.putalpha(9)
  image.save(tmp_path / 'transparent.png')
  pixels = predict.read_image(tmp_path / 'transparent.png', (4, 4, 1))
  np.testing.assert_array_equal(pixels, 200)
