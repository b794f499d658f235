"""Results of theory in smoke mode, computed once for all tests."""

import pytest

from configs import theory as recipes
from kd_jax.theory import bayes_teacher, lemma1, lemma2


@pytest.fixture(scope='session')
def lemma1_results():
  return lemma1.run_lemma1(recipes.get_config('lemma1,smoke'))


@pytest.fixture(scope='session')
def lemma2_results():
  return lemma2.run_lemma2(recipes.get_config('lemma2,smoke'))


@pytest.fixture(scope='session')
def bayes_teacher_results():
  return bayes_teacher.run_bayes_teacher(
    recipes.get_config('bayes_teacher,smoke')
  )
