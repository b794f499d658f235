"""The paper's lemmas and claims (its sections 2 and A), as experiments.

  python launch.py --config=configs/theory.py:lemma1
  python launch.py --config=configs/theory.py:lemma2

Argument: smoke=true for fewer samples. On two CPU cores each takes less than a
minute.

Expected, whatever the seed. `lemma1`: nothing is left over but rounding; slopes
of -1; no sample further than some four standard errors; Bayes / empirical 1 for
deterministic labels, below 1 otherwise, and none where the loss is constant.
`lemma2`: no ratio above 1, and 1 for p* alone; the bound of a teacher that
gives hard labels is above what any squared error can be.
"""

from ml_collections import config_dict

from configs import common

RECIPES = {
  'lemma1': 'variances of the empirical and the Bayes-distilled risk',
  'lemma2': "a teacher's distilled risk, and the bound on its squared error",
}


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """Returns the config of `RECIPE,argument=value,...`."""
  recipe, args = common.parse_arg(arg, RECIPES, smoke=False)
  return config_dict.create(
    name=f'theory-{recipe}' + ('-smoke' if args.smoke else ''),
    experiment=recipe,
    seed=0,
    population_size=50,  # distinct examples
    num_classes=10,
    clip=5.0,  # of logits, either way
    num_examples=(10, 30, 100, 300, 1000, 3000, 10000),  # N
    num_samples=100 if args.smoke else 2000,  # for each N
    num_teachers=20 if args.smoke else 200,  # for averages over teachers
  )
