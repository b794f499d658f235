"""The paper's lemmas and claims (its sections 2 and A), as experiments.

  python launch.py --config=configs/theory.py:lemma1
  python launch.py --config=configs/theory.py:lemma2
  python launch.py --config=configs/theory.py:bayes_teacher

Argument: smoke=true for fewer samples. On two CPU cores each takes less than a
minute.

Expected, whatever the seed. `lemma1`: nothing is left over but rounding; slopes
of -1; no sample further than some four standard errors; Bayes / empirical 1 for
deterministic labels, below 1 otherwise, and none where the loss is constant.
`lemma2`: no ratio above 1, and 1 for p* alone; the bound of a teacher that
gives hard labels is above what any squared error can be. `bayes_teacher`:
students of p* lead those of labels at every N; how near to p* students come
follows their teacher's squared distance to p* where N is small (rank
correlation above 0.8), that of its mean over its noise where N is large (above
0.9), and its accuracy at no N.
"""

from ml_collections import config_dict

from configs import common

RECIPES = {
  'lemma1': 'variances of the empirical and the Bayes-distilled risk',
  'lemma2': "a teacher's distilled risk, and the bound on its squared error",
  'bayes_teacher': 'students of labels, of p*, and of graded teachers',
}


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """Returns the config of `RECIPE,argument=value,...`."""
  recipe, args = common.parse_arg(arg, RECIPES, smoke=False)
  config = config_dict.create(
    name=f'theory-{recipe}' + ('-smoke' if args.smoke else ''),
    experiment=recipe,
    seed=0,
  )
  fields = _students if recipe == 'bayes_teacher' else _populations
  config.update(fields(args.smoke))
  return config


def _populations(smoke: bool) -> dict:
  return dict(
    population_size=50,  # distinct examples
    num_classes=10,
    clip=5.0,  # of logits, either way
    num_examples=(10, 30, 100, 300, 1000, 3000, 10000),  # N
    num_samples=100 if smoke else 2000,  # for each N
    num_teachers=20 if smoke else 200,  # for averages over teachers
  )


def _students(smoke: bool) -> dict:
  return dict(
    num_classes=3,
    dimension=5,
    separation=0.6,  # standard deviation of the classes' means
    num_examples=(30, 300) if smoke else (30, 100, 300, 1000, 3000),  # N
    num_students=3 if smoke else 20,  # for each teacher and N
    hidden=32,
    learning_rate=0.01,  # Adam's
    steps=50 if smoke else 500,  # on all examples at once
    test_examples=500 if smoke else 2000,
  )
