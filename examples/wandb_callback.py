"""A run that Weights & Biases follows (pip install wandb).

python launch.py --config=configs/mnist.py:h300 \
  --callback=examples.wandb_callback:WandbCallback

MLflow, Aim and others fit in the same way: three methods, none of which has to
be there. From a notebook: kd_jax.distill(..., callbacks=[WandbCallback()]).
"""

import wandb

import kd_jax


class WandbCallback(kd_jax.Callback):
  """Logs every epoch to one run of W&B, by the row and the seed."""

  def on_start(self, config, workdir):
    """Starts a run of W&B with the config."""
    self._run = wandb.init(
      project='kd_jax', name=workdir.name, dir=str(workdir), config=config
    )

  def on_epoch(self, line):
    """Logs the metrics of an epoch."""
    prefix = f'{line["row"]}/seed-{line["seed"]}'
    metrics = {f'{prefix}/{k}': v for k, v in line.items() if '/' in k}
    self._run.log(metrics | {f'{prefix}/epoch': line['epoch']})

  def on_end(self, record):
    """Keeps the test accuracies, and ends the run of W&B."""
    for student in record.get('students', []):
      name = f'{student["row"]}/seed-{student["seed"]}/test_accuracy'
      self._run.summary[name] = student['test']['accuracy']
    self._run.finish()
