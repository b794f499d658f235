"""Trains a network. The files, in the order in which to read them.

One training, from the outside in:
job.py              one training: resume, train, log, save, describe
epoch_loop.py       the loop over epochs
epoch.py            the functions of an epoch: `take_steps` and `take_step`
epoch_inputs.py     the examples, order and views of an epoch
batch.py            from stored examples to the batch of a step
step.py             `train_step` and the state that it updates
objective.py        the loss of a step, from the terms of several methods
method_terms.py     a distillation method as a term of the loss

The parts of a training:
context.py          the data and functions that the trainings of a run share
plan.py             the examples, phases and epochs of a training
example_source.py   where the examples and the teacher's outputs come from
hyperparameters.py  the traced numbers of a step
optimizers.py       optimizers and schedules by name
training_functions.py  from a config's sections to the functions of a training

Its results and its progress:
job_folder.py       the folder of a training
checkpoint.py       checkpoints with a digest
training_record.py  the record of a training: metrics, counts, times
pace.py             clock, steps per call, progress bar
divergence.py       stops a training that diverges
"""
