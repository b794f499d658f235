"""The teacher that a config asks for: a file, a network, one trained here.

Also tests `kd_jax/teachers/publishing.py`.
"""

import pathlib
import shutil

import numpy as np
import pytest

from kd_jax.runtime import errors, files
from kd_jax.teachers import (
  output_store,
  pretrained,
  provider,
  publishing,
)
from kd_jax.training import context, train
from tests import helpers

_FIELDS = {
  'data.train_examples': 60,
  'data.test_examples': 20,
  'teacher.model.hidden': (6,),
  'teacher.train.holdout_fraction': 0.0,
  'teacher.train.batch_size': 20,
  'eval.batch_size': 20,
}


def _config(**fields):
  return helpers.tiny_mnist(fields=_FIELDS | fields)


@pytest.fixture(name='get', scope='module')
def _get(generated):
  """Returns a function from (config, folder) to the config's teacher."""

  def get(config, folder):
    run_context = context.make_context(config, lambda name: generated)
    return provider.get_teacher(config, run_context, folder / 'teachers')

  return get


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  return tmp_path_factory.mktemp('trained')


@pytest.fixture(name='trained', scope='module')
def _trained(get, folder):
  """Returns a teacher that was trained in the module's folder."""
  return get(_config(), folder)


# --- Which teacher a config asks for. ---

_LOGITS = {'logits': 'teacher.npz'}
_MODULE = {'module': 'tests.user_networks:linear_teacher'}


@pytest.mark.parametrize(
  'fields, trained_here, only_logits',
  [
    ({}, True, False),
    (_LOGITS, False, True),
    (_MODULE, False, False),
    ({'pretrained': 'teachers/mnist-mlp1200'}, False, False),
    ({'pretrained': 'teachers/cifar10-resnet50'}, False, True),
    (
      {'pretrained': 'teachers/cifar10-resnet50', 'retrain': True},
      True,
      False,
    ),
    # The user's files and networks come before everything else.
    (_LOGITS | {'retrain': True}, False, True),
    (_MODULE | {'pretrained': 'teachers/cifar10-resnet50'}, False, False),
  ],
)
def test_the_kind_of_teacher(fields, trained_here, only_logits):
  section = _config().teacher
  section.update(fields)
  assert provider.is_trained_here(section) == trained_here
  assert provider.has_only_logits(section) == only_logits


# --- The user's teachers. ---


def test_a_users_teacher_replaces_the_teachers_model():
  config = _config()
  assert provider.with_user_teacher(config) is config
  config.teacher.module = 'package:teacher'
  model = provider.with_user_teacher(config).teacher.model
  assert (model.kind, model.module) == ('trained', 'package:teacher')
  assert config.teacher.model.kind == 'conv_net'


def _save(path, seed):
  rng = np.random.default_rng(seed)
  logits = {
    name: rng.normal(size=(count, 10)).astype('f')
    for name, count in (('train', 60), ('test', 20))
  }
  np.savez(path, **logits)
  return logits


def test_a_file_of_logits_teaches_without_a_network(get, tmp_path):
  logits = _save(tmp_path / 'a.npz', 0)
  path = str(tmp_path / 'a.npz')
  teacher = get(_config(**{'teacher.logits': path}), tmp_path)
  assert teacher.network is None
  assert teacher.record['source'] == path
  assert 0 <= teacher.record['test']['accuracy'] <= 1
  for split, array in logits.items():
    np.testing.assert_array_equal(teacher.logits[split], array)
  assert not (tmp_path / 'teachers').exists()


def test_several_files_teach_their_average(get, tmp_path):
  first, second = (_save(tmp_path / f'{i}.npz', i) for i in (0, 1))
  paths = ','.join(str(tmp_path / f'{i}.npz') for i in (0, 1))
  teacher = get(_config(**{'teacher.logits': paths}), tmp_path)
  np.testing.assert_allclose(
    teacher.logits['test'], (first['test'] + second['test']) / 2, rtol=1e-5
  )


# --- A teacher that is trained here. ---


class _Asked(Exception):
  """Something was asked to be computed."""


def _refuse(*args):
  raise _Asked


def test_a_teacher_is_trained_in_a_folder_named_by_data_and_network(
  trained, folder
):
  (path,) = filter(pathlib.Path.is_dir, (folder / 'teachers').iterdir())
  assert path.name.startswith('generated-conv_net-')
  assert trained.network.folder == path
  assert trained.record['steps'] == 3
  lines = provider.training_log(path).read()
  assert [line['epoch'] for line in lines] == [0]
  assert trained.record['train']['errors'] == np.sum(
    np.argmax(trained.logits['train'], axis=-1)
    != trained.network.dataset.train.labels
  )


def test_a_teacher_that_has_hardly_learned_should_train_longer(
  trained, get, folder
):
  # Its classes are those of the data, whatever it takes for what.
  (warning,) = trained.warnings
  assert 'the teacher has hardly learned (' in warning
  smoke = get(_config(**{'data.at_most': True}), folder)
  assert smoke.warnings == []


def test_a_trained_teacher_is_restored(trained, get, folder, monkeypatch):
  monkeypatch.setattr(train, 'run_training', _refuse)
  again = get(_config(), folder)
  np.testing.assert_array_equal(again.logits['test'], trained.logits['test'])
  assert again.record == trained.record


def test_a_teacher_of_another_config_is_trained_beside_it(
  trained, get, folder, monkeypatch
):
  monkeypatch.setattr(train, 'run_training', _refuse)
  with pytest.raises(_Asked):
    get(_config(**{'teacher.seed': 1}), folder)


def test_further_scalings_are_stored_with_the_outputs(trained, get, folder):
  teacher = get(_config(**{'teacher.also_outputs': ('symmetric',)}), folder)
  assert (teacher.network.folder / 'outputs-unit').is_dir()
  assert (teacher.network.folder / 'outputs-symmetric').is_dir()
  np.testing.assert_array_equal(teacher.logits['test'], trained.logits['test'])


def test_attacks_are_in_the_record_if_they_are_asked_for(trained, get, folder):
  teacher = get(_config(**{'eval.attacked_examples': 5}), folder)
  assert teacher.record['robust']['examples'] == 5
  assert 'robust' not in trained.record


# --- Pretrained teachers. ---


@pytest.fixture(name='published', scope='module')
def _published(trained, tmp_path_factory):
  """Returns the folder of the trained teacher's published outputs."""
  workdir = tmp_path_factory.mktemp('published')
  config = _config()
  with config.unlocked():
    config.rows = {}
  publishing.publish(config, trained.network.dataset, trained, workdir)
  return workdir


def test_published_outputs_teach_what_the_network_does(
  published, trained, get, tmp_path
):
  # An absolute path names a folder outside the project, too.
  fields = {'teacher.pretrained': str(published / 'outputs')}
  teacher = get(_config(**fields), tmp_path)
  assert teacher.network is None
  for split in ('train', 'test'):
    np.testing.assert_array_equal(
      teacher.logits[split],
      np.asarray(trained.logits[split], np.float16).astype('f'),
    )
  assert teacher.record['steps'] == trained.record['steps']
  manifest = files.read_json(published / 'outputs/manifest.json')
  accuracy = manifest['accuracy']['unit']['test']['accuracy']
  assert accuracy == trained.record['test']['accuracy']
  assert len(provider.training_log(published).read()) == 1


def test_published_weights_are_a_network(published, trained, get, tmp_path):
  outputs = published / 'outputs'
  manifest = files.read_json(outputs / 'manifest.json')
  pretrained.write(tmp_path / 'weights', manifest, weights=trained.variables)
  fields = {'teacher.pretrained': str(tmp_path / 'weights')}
  teacher = get(_config(**fields), tmp_path)
  np.testing.assert_allclose(
    teacher.logits['test'], trained.logits['test'], atol=1e-2
  )
  assert teacher.network.folder.parent == tmp_path / 'teachers'


def test_outputs_of_a_part_say_nothing_of_held_out_images(
  published, get, tmp_path
):
  """The held-out images are the last of 2,000, and not the last of 60."""
  fields = {
    'teacher.pretrained': str(published / 'outputs'),
    'data.train_examples': 10,
    'data.test_examples': 5,
    'data.holdout_examples': 20,
  }
  with pytest.raises(errors.UserError, match='outputs for a part of generated'):
    get(_config(**fields), tmp_path)


def test_outputs_of_another_network_are_refused(published, get, tmp_path):
  fields = {
    'teacher.pretrained': str(published / 'outputs'),
    'teacher.model.hidden': (7,),
  }
  with pytest.raises(errors.UserError, match='teacher.model is not that of'):
    get(_config(**fields), tmp_path)


def test_outputs_are_computed_once_for_all_runs(
  trained, get, folder, monkeypatch
):
  load = output_store.load_or_compute
  monkeypatch.setattr(
    output_store,
    'load_or_compute',
    lambda store, identity, compute: load(store, identity, _refuse),
  )
  again = get(_config(), folder)
  np.testing.assert_array_equal(again.logits['test'], trained.logits['test'])


# --- Pretrained outputs of the very same training. ---


@pytest.fixture(name='in_project')
def _in_project(published, tmp_path, monkeypatch):
  """Puts the published outputs where the project keeps them."""
  home = tmp_path / 'project'
  shutil.copytree(published / 'outputs', home / 'teachers' / 'a')
  monkeypatch.setattr(pretrained, 'teacher_folder', lambda name: home / name)
  monkeypatch.setattr(train, 'run_training', _refuse)


@pytest.mark.usefixtures('in_project')
def test_published_outputs_of_the_same_training_replace_it(
  trained, get, tmp_path
):
  teacher = get(_config(), tmp_path)
  assert teacher.network is None
  assert teacher.record['source'] == 'teachers/a'
  for split, array in trained.logits.items():
    np.testing.assert_array_equal(
      teacher.logits[split], np.asarray(array, np.float16)
    )
  assert not (tmp_path / 'teachers').exists()


@pytest.mark.usefixtures('in_project')
@pytest.mark.parametrize(
  'field, value',
  [
    ('teacher.seed', 1),
    ('teacher.train.epochs', 2),
    ('teacher.train.holdout_fraction', 0.5),
    ('teacher.model.dropout_rate', 0.1),
    ('teacher.model.hidden', (7,)),
    ('teacher.optim.learning_rate', 0.5),
    ('teacher.outputs_scaling', 'symmetric'),
    ('teacher.retrain', True),
    ('teacher.live', True),
    ('data.train_examples', 40),
    ('data.holdout_examples', 30),
    ('eval.attacked_examples', 5),
    ('train.augmentation', 'jitter'),
  ],
)
def test_a_teacher_of_any_other_training_is_trained(
  get, tmp_path, field, value
):
  with pytest.raises(_Asked):
    get(_config(**{field: value}), tmp_path)


@pytest.mark.usefixtures('in_project')
def test_a_run_that_goes_on_keeps_the_teacher_that_it_has_trained(
  generated, tmp_path
):
  run_context = context.make_context(_config(), lambda name: generated)
  for earlier, is_kept in (
    ({'row': 'teacher'}, True),
    ({'row': 'teacher', 'source': 'teachers/a'}, False),
  ):
    ask = lambda earlier=earlier: provider.get_teacher(
      _config(), run_context, tmp_path / 'teachers', earlier
    )
    if is_kept:
      with pytest.raises(_Asked):
        ask()
    else:
      assert ask().record['source'] == 'teachers/a'


@pytest.mark.usefixtures('in_project')
def test_a_recipe_of_a_teacher_alone_trains_it(get, tmp_path):
  config = _config()
  helpers.keep_rows(config)
  with pytest.raises(_Asked):
    get(config, tmp_path)
