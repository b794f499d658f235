"""The lemmas' experiments, in smoke mode: what they find and write."""

import json

import pytest

from configs import common
from configs import theory as recipes
from kd_jax import validation
from kd_jax.report import tables
from kd_jax.runtime import errors, files
from kd_jax.theory import theory
from kd_jax.training import build


def _columns(results, title):
  (own,) = [
    t for name, t in results['tables'].items() if name.startswith(title)
  ]
  return {
    column: [row[i] for row in own['rows']]
    for i, column in enumerate(own['columns'])
  }


@pytest.fixture(name='results', scope='module')
def _results():
  return {
    recipe: theory.EXPERIMENTS[recipe](recipes.get_config(f'{recipe},smoke'))
    for recipe in theory.EXPERIMENTS
  }


def test_lemma_1_leaves_nothing_over(results):
  exact = _columns(results['lemma1'], 'Exact')
  assert len(exact['risk R']) == 12
  assert max(exact['what is left over']) < 1e-12
  by_row = dict(
    zip(exact['population, predictor'], exact['Bayes / empirical'], strict=True)
  )
  assert by_row['deterministic, random'] == pytest.approx(1)
  assert 0 < by_row['mixture, bayes'] < 0.1
  # Where losses are constant there is nothing to compare.
  assert by_row['uniform, indifferent'] is None


def test_samples_of_lemma_1_lie_where_they_should(results):
  sampled = _columns(results['lemma1'], 'Samples')
  slopes = [
    slope
    for column in ('slope, empirical', 'slope, Bayes')
    for slope in sampled[column]
    if slope is not None
  ]
  assert len(slopes) == 10
  assert slopes == pytest.approx([-1] * 10, abs=0.15)
  for what in ('mean', 'variance'):
    furthest = sampled[f'furthest {what}, standard errors']
    assert max(value for value in furthest if value is not None) < 5


def test_lemma_2_bounds_every_teacher(results):
  fixed = _columns(results['lemma2'], 'One teacher')
  for column in ('E[D^2] / bound, N = 10', 'E[D^2] / bound, N = 10,000'):
    assert max(fixed[column]) <= 1 + 1e-12
  teacher = dict(
    zip(fixed['teacher'], fixed['E[D^2] / bound, N = 10,000'], strict=True)
  )
  assert teacher['p*'] == pytest.approx(1)  # The bound is tight.
  assert teacher['30 % uniform'] < 0.01
  assert max(fixed['furthest sample, standard errors']) < 5
  random = _columns(results['lemma2'], 'On average')
  assert max(random['E[D^2] / bound']) <= 1
  assert random['E‖E p_t - p*‖^2'] == sorted(
    random['E‖E p_t - p*‖^2'], reverse=True
  )


def test_students_of_bayes_teacher_lead_those_of_labels(results):
  students = _columns(results['bayes_teacher'], 'Means over')
  for n in ('30', '300'):
    divergence = dict(
      zip(students['taught by'], students[f'KL from p*, N = {n}'], strict=True)
    )
    assert divergence['p*'] == min(divergence.values())
    assert divergence['p*'] < 0.5 * divergence['labels']
  grades = {
    name: own
    for name, *own in zip(
      students['taught by'],
      students['its accuracy'],
      students['its E‖p_t - p*‖^2'],
      students['its E‖E p_t - p*‖^2'],
      strict=True,
    )
  }
  assert grades['p*'][1:] == [0, 0]
  # A temperature changes no decision; noise does, and cancels in the mean.
  assert grades['temperature 4'][0] == grades['p*'][0]
  assert grades['temperature 4'][1] == pytest.approx(grades['temperature 4'][2])
  assert grades['noise of 2'][0] < grades['p*'][0]
  assert grades['noise of 2'][2] < 0.3 * grades['noise of 2'][1]


def test_rank_correlation_shares_the_ranks_of_equal_values():
  correlation = theory._rank_correlation
  assert correlation([1, 2, 3], [10, 20, 40]) == pytest.approx(1)
  assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
  # Ranks 0, 1.5, 1.5, 3 and 0, 1, 2, 3.
  assert correlation([0, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(0.9487, 1e-3)


def test_results_are_json_with_everything_in_their_tables(results):
  for recipe, own in results.items():
    json.dumps(own)
    text = tables.theory_tables({'results': own})
    for title in own['tables']:
      assert f'{title}:' in text, recipe
    for curve in own['curves'].values():
      for line in curve['lines'].values():
        assert len(line['x']) == len(line['y']) > 0


def test_a_run_is_kept_and_not_done_again(tmp_path, monkeypatch):
  config = recipes.get_config('lemma1,smoke')
  record = theory.run(config, workdir=tmp_path)
  assert record == files.read_json(tmp_path / 'run.json')
  assert (tmp_path / 'mixture_random.png').stat().st_size > 10_000
  assert '| mixture, bayes ' in (tmp_path / 'report.md').read_text()
  monkeypatch.setitem(theory.EXPERIMENTS, 'lemma1', None)
  assert theory.run(config, workdir=tmp_path) == record
  config.seed = 1
  with pytest.raises(errors.UserError, match='config.seed'):
    theory.run(config, workdir=tmp_path)


def test_every_recipe_is_an_experiment_or_trains_students():
  for recipe in recipes.RECIPES:
    for argument in ('', ',smoke'):
      config = recipes.get_config(recipe + argument)
      json.dumps(config.to_dict())
      if 'experiment' in config:
        assert config.experiment in theory.EXPERIMENTS
        continue
      for row in config.rows:
        validation.validate(build.close_row(config, row))


def test_hintons_students_differ_in_size_temperature_and_teacher():
  config = recipes.get_config('hinton,seeds=5')
  rows = {name: build.close_row(config, name) for name in config.rows}
  assert config.seeds == 5 and len(rows) == 12
  assert rows['hard_800'].distill.kd_weight == 0
  assert rows['soft_800'].distill.kd_weight == 1
  assert rows['soft_800'].distill.temperature == 20
  assert rows['soft_800'].student.hidden == (800, 800)
  small = rows['units30_t2']
  assert small.student.hidden == (30, 30) and small.distill.temperature == 2
  assert config.paper.soft_800.accuracy == pytest.approx(99.26)


def test_students_that_lack_classes_have_a_control_and_a_bias():
  config = recipes.get_config('missing_digit')
  rows = {name: build.close_row(config, name) for name in config.rows}
  assert len(rows) == 9
  for name, row in rows.items():
    assert row.train.holdout_fraction == 1 / 6
    is_control = name.endswith('_hard')
    assert (row.distill.kd_weight == 0) == is_control
    if is_control:
      twin = rows[name.replace('_hard', '_both')]
      assert row.train.to_dict() == twin.train.to_dict()
  assert rows['without_3_soft'].eval.bias_classes == (3,)
  assert rows['only_7_8_both'].train.subset == 'only7_8'
  assert rows['all_both'].eval.bias_classes == ()


def test_students_of_random_data_differ_in_images_teacher_and_weights():
  config = recipes.get_config('random_data,seeds=3')
  rows = {name: build.close_row(config, name) for name in config.rows}
  images = {
    row.train.transfer_set: row.teacher.class_shift for row in rows.values()
  }
  assert set(images) == {'', 'fashion_mnist', 'shuffled_pixels', 'noise'}
  assert rows['wrong_teacher_kd'].teacher.class_shift == 1
  assert rows['noise_kd'].distill.ce_weight == 0
  assert rows['noise_labels'].distill.kd_weight == 0
  assert rows['noise_kd_t1'].distill.temperature == 1
  # One teacher for all that is trained on MNIST.
  hinton = recipes.get_config('hinton')
  missing = recipes.get_config('missing_digit')
  for other in (missing, config):
    assert other.teacher.to_dict().keys() == hinton.teacher.to_dict().keys()
    for field in ('model', 'train', 'optim', 'seed', 'scaling'):
      assert other.teacher[field] == hinton.teacher[field]


def test_hintons_soft_targets_may_be_of_another_teacher():
  config = recipes.get_config('hinton,teacher_epochs=20')
  assert config.name == 'theory-hinton-teacher_epochs_20'
  assert config.teacher.shipped == '' and config.teacher.train.epochs == 20
  assert list(config.rows) == ['soft_800']
  row = build.close_row(config, 'soft_800')
  validation.validate(row)
  usual = build.close_row(recipes.get_config('hinton'), 'soft_800')
  assert (row.student, row.train) == (usual.student, usual.train)
  with pytest.raises(common.ConfigError, match='teacher_epochs=9 is for'):
    recipes.get_config('missing_digit,teacher_epochs=9')


def test_hintons_pair_may_be_trained_for_longer():
  config = recipes.get_config('hinton,epochs=80')
  rows = {name: build.close_row(config, name) for name in config.rows}
  assert {name: row.train.epochs for name, row in rows.items()} == {
    'hard_800': 80,
    'soft_800': 80,
  }
  assert config.name == 'theory-hinton-epochs_80'
  with pytest.raises(errors.UserError, match='epochs=3 is for the recipe'):
    recipes.get_config('lemma1,epochs=3')


def test_an_unknown_recipe_is_named():
  with pytest.raises(errors.UserError, match='lemma3'):
    recipes.get_config('lemma3')
