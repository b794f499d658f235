"""examples/torch_teacher.py: outputs of PyTorch teachers, in our order.

`make test-torch` runs this file in the environment of the benchmarks.
"""

import json

import numpy as np
import pytest
from PIL import Image

from configs import user_data
from kd_jax.runtime import errors
from tests import documents, helpers

torch = pytest.importorskip('torch', reason='make test-torch runs this file')
torchvision = pytest.importorskip('torchvision')
safetensors_torch = pytest.importorskip('safetensors.torch')

from examples import torch_teacher  # noqa: E402 - after the skip

NAMES = ('apple', 'bear', 'cat')
SIDE = 32


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  """Returns a folder of images of three classes, and a network's weights."""
  folder = tmp_path_factory.mktemp('torch')
  rng = np.random.default_rng(0)
  for split, count in (('train', 36), ('test', 6)):
    for i in range(count):
      path = folder / 'own' / split / NAMES[i % 3] / f'{i:03d}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      pixels = rng.integers(160, size=(SIDE, SIDE, 3), dtype=np.uint8)
      pixels[..., i % 3] += 90
      Image.fromarray(pixels).save(path)
  (folder / 'more').mkdir()
  for i in range(4):
    pixels = rng.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / 'more' / f'{i}.png')
  torch.manual_seed(0)
  network = torchvision.models.resnet18(num_classes=3)
  safetensors_torch.save_file(network.state_dict(), folder / 'net.safetensors')
  (folder / 'classes.txt').write_text('cat\nApple\nbear\n')
  return folder


def _run(folder, output, *args):
  torch_teacher.main(
    [
      f'--data={folder}/own',
      f'--output={output}',
      '--model=torchvision:resnet18',
      f'--weights={folder}/net.safetensors',
      f'--classes={folder}/classes.txt',
      *args,
    ]
  )


def _network(folder):
  network = torchvision.models.resnet18(num_classes=3).eval()
  state = safetensors_torch.load_file(folder / 'net.safetensors')
  network.load_state_dict(state)
  return network


def _images(paths):
  pixels = [np.asarray(Image.open(path)) for path in paths]
  return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255


def test_rows_are_files_and_columns_are_our_classes(folder, tmp_path, capsys):
  _run(
    folder, tmp_path / 'out.npz', f'--unlabeled={folder}/more', '--batch_size=5'
  )
  written = np.load(tmp_path / 'out.npz')
  network = _network(folder)
  paths = {
    split: sorted((folder / 'own' / split).glob('*/*.png'))
    for split in ('train', 'test')
  }
  paths['unlabeled'] = sorted((folder / 'more').glob('*.png'))
  assert set(written.files) == set(paths)
  for split, files in paths.items():
    with torch.inference_mode():
      expected = network(_images(files)).numpy()
    # The columns are cat, apple, bear; ours are apple, bear, cat.
    np.testing.assert_allclose(
      written[split], expected[:, [1, 2, 0]], atol=1e-5, rtol=1e-4
    )
  assert 'train: 36 images, accuracy' in capsys.readouterr().out


def test_features_are_those_of_the_modules(folder, tmp_path):
  _run(folder, tmp_path / 'out.npz', '--features=layer2,layer4.0.conv1,avgpool')
  features = np.load(tmp_path / 'out-features.npz')
  assert features.files == ['layer2', 'layer4.0.conv1', 'avgpool']
  network = _network(folder)
  images = _images(sorted((folder / 'own' / 'train').glob('*/*.png')))
  with torch.inference_mode():
    x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    x = network.layer2(network.layer1(x))
    pooled = network.avgpool(network.layer4(network.layer3(x)))
  np.testing.assert_allclose(
    features['layer2'], x.permute(0, 2, 3, 1).numpy(), atol=1e-2, rtol=1e-2
  )
  assert features['avgpool'].shape == (36, 512)
  np.testing.assert_allclose(
    features['avgpool'], pooled.numpy()[:, :, 0, 0], atol=1e-2, rtol=1e-2
  )


def test_a_student_learns_from_logits_and_features(folder, tmp_path):
  _run(
    folder,
    tmp_path / 'out.npz',
    '--features=layer3,avgpool',
    f'--unlabeled={folder}/more',
  )
  config = user_data.get_config(
    f'distill,data={folder}/own,teacher={tmp_path}/out.npz,method=kl+hint'
  )
  config.update_from_flattened_dict(
    {
      'teacher.features': f'{tmp_path}/out-features.npz',
      'student.widths': (4, 4, 8, 8),
      'train.epochs': 1,
      'train.batch_size': 12,
      'seeds': 1,
      'benchmark.enabled': False,
    }
  )
  record = helpers.run(config, tmp_path)
  layers = record['config']['teacher']['model']['layers']
  assert layers == [['layer3', [2, 2, 256]], ['avgpool', [512]]]
  distilled = record['students'][0]
  assert distilled['row'] == 'distilled'
  assert distilled['test']['teacher_kl'] > 0


def test_arrays_are_written_in_the_order_of_the_file(folder, tmp_path):
  rng = np.random.default_rng(1)
  images = rng.integers(256, size=(9, SIDE, SIDE), dtype=np.uint8)
  np.savez(
    tmp_path / 'own.npz',
    train_images=images,
    train_labels=np.arange(9) % 3,
    test_images=images[:3],
    test_labels=np.arange(3),
  )
  torch_teacher.main(
    [
      f'--data={tmp_path}/own.npz',
      f'--output={tmp_path}/out.npz',
      '--model=torchvision:resnet18',
      f'--weights={folder}/net.safetensors',
      '--size=16',
      '--mean=0.5,0.4,0.3',
      '--std=0.2',
    ]
  )
  written = np.load(tmp_path / 'out.npz')['train']
  mean = torch.tensor([0.5, 0.4, 0.3])[:, None, None]
  for image, row in zip(images, written, strict=True):
    small = Image.fromarray(image).convert('RGB').resize((16, 16), 2)
    x = torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255
    with torch.inference_mode():
      expected = _network(folder)(((x - mean) / 0.2)[None])[0]
    np.testing.assert_allclose(row, expected.numpy(), atol=1e-4, rtol=1e-3)


def test_timm_models_bring_their_preprocessing(folder, tmp_path):
  timm = pytest.importorskip('timm')
  network = timm.create_model('test_resnet', num_classes=3).eval()
  safetensors_torch.save_file(network.state_dict(), tmp_path / 'w.safetensors')
  _run(
    folder,
    tmp_path / 'out.npz',
    '--model=timm:test_resnet',
    f'--weights={tmp_path}/w.safetensors',
  )
  config = timm.data.resolve_model_data_config(network)
  transform = timm.data.create_transform(**config, is_training=False)
  path = min((folder / 'own' / 'test').glob('*/*.png'))
  with torch.inference_mode():
    expected = network(transform(Image.open(path))[None])[0].numpy()
  np.testing.assert_allclose(
    np.load(tmp_path / 'out.npz')['test'][0], expected[[1, 2, 0]], atol=1e-4
  )


def test_a_transformers_folder_brings_names_and_preprocessing(folder, tmp_path):
  transformers = pytest.importorskip('transformers')
  config = transformers.ResNetConfig(
    embedding_size=8,
    hidden_sizes=[8, 16],
    depths=[1, 1],
    layer_type='basic',
    id2label={0: 'cat', 1: 'apple', 2: 'bear'},
  )
  network = transformers.ResNetForImageClassification(config).eval()
  network.save_pretrained(tmp_path / 'saved', safe_serialization=True)
  processor = {
    'image_processor_type': 'ConvNextImageProcessor',
    'size': {'shortest_edge': SIDE},
    'crop_pct': 1.0,
    'image_mean': [0.5, 0.5, 0.5],
    'image_std': [0.5, 0.5, 0.5],
  }
  path = tmp_path / 'saved' / 'preprocessor_config.json'
  path.write_text(json.dumps(processor))
  torch_teacher.main(
    [
      f'--data={folder}/own',
      f'--output={tmp_path}/out.npz',
      f'--model=transformers:{tmp_path}/saved',
    ]
  )
  images = _images(sorted((folder / 'own' / 'test').glob('*/*.png')))
  with torch.inference_mode():
    expected = network((images - 0.5) / 0.5).logits.numpy()
  np.testing.assert_allclose(
    np.load(tmp_path / 'out.npz')['test'], expected[:, [1, 2, 0]], atol=1e-3
  )


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--weights={}/net.pth'], 'pickles .* can run code'),
    (['--weights={}/missing.safetensors'], 'missing.safetensors'),
    (['--model=torchvision:resnet34'], 'Missing key'),
    (['--model=keras:resnet'], 'expected LIBRARY:NAME'),
    (['--features=layer9'], "no module 'layer9'; expected .*layer1"),
    (['--classes={}/two.txt'], 'no class bear, cat; its classes are apple, x'),
    (['--classes={}/missing.txt'], 'missing.txt: .*No such file'),
    (['--model=torchvision:nosuch'], 'torchvision:nosuch: ValueError'),
    (['--model=torchvision:resnet18:NOSUCH'], 'NOSUCH: KeyError'),
    (['--mean=0.5,0.5'], '--mean=0.5,0.5: expected one number or three'),
    (['--std=0'], '--std=0: expected one number or three'),
    (['--output=gs://b/t.npz'], '--output=gs://b/t.npz: expected a local path'),
    (['--output={}/net.safetensors/t.npz'], 'net.safetensors'),
    (['--output={}/noext'], 'noext: expected FILE.npz'),
  ],
)
def test_mistakes_are_one_line(folder, tmp_path, arguments, message):
  (folder / 'two.txt').write_text('apple\nx\n')
  if 'two' in arguments[0]:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=2)
    path = tmp_path / 'two.safetensors'
    safetensors_torch.save_file(network.state_dict(), path)
    arguments = [*arguments, f'--weights={path}']
  with pytest.raises(SystemExit, match=message):
    _run(folder, tmp_path / 'out.npz', *(a.format(folder) for a in arguments))


def test_classes_are_matched_by_name():
  order = torch_teacher.column_order
  assert order(('a', 'Tree_frog'), ('tree frog', 'b', 'A')) == [2, 0]
  assert order((), ('a', 'b')) is None
  logits = np.zeros((1, 3))
  with pytest.raises(errors.UserError, match='has 3 classes, .* has 2'):
    torch_teacher.choose_columns(logits, None, 2)


def test_the_lines_of_the_documents_convert_weights_and_store_logits(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  network = torchvision.models.resnet18(num_classes=3)
  torch.save(network.state_dict(), 'resnet18.pth')
  exec(documents.EXAMPLES['pth'], {})
  read = torch_teacher.read_weights('resnet18.safetensors')
  torch.testing.assert_close(dict(network.state_dict()), read)
  images = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
  labels = np.arange(9) % 3
  names = {'module': network, 'mean': 0.5, 'std': 0.5}
  names |= {'x': images, 'y': labels, 'x_test': images, 'y_test': labels}
  exec(documents.EXAMPLES['nn-module'], names)
  expected = network.eval()(
    torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
  )
  stored = np.load('t.npz')
  np.testing.assert_allclose(
    stored['test'], expected.detach().numpy(), atol=1e-4
  )
  assert np.load('data.npz')['train_images'].shape == images.shape


@pytest.mark.parametrize(
  ('ours', 'theirs', 'expected'),
  [
    (('b', 'a'), ('a', 'b', 'c'), [1, 0]),
    (('Hot_dog',), ('x', 'hot dog'), [1]),
    (('caf\u00e9',), ('x', 'cafe\u0301'), [1]),  # NFC and NFD.
    (('a',), ('a', 'crane', 'crane'), [0]),
    ((), ('a',), None),
  ],
)
def test_columns_are_found_by_name(ours, theirs, expected):
  assert torch_teacher.column_order(ours, theirs) == expected


@pytest.mark.parametrize(
  ('ours', 'theirs'),
  [
    (('crane', 'x'), ('crane', 'x', 'crane')),
    (('hot dog', 'hot_dog'), ('hot dog', 'x')),
  ],
)
def test_one_name_of_two_classes_is_refused(ours, theirs):
  with pytest.raises(errors.UserError, match='more than one class is called'):
    torch_teacher.column_order(ours, theirs)
