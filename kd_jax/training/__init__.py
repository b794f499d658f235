"""Trains a network. The modules, in the order in which to read them.

One training, from the outside in:
`train`               one training: resume, train, log, save, describe
`epoch_loop`          the loop over epochs, `train_epochs`
`epoch_inputs`        the inputs of an epoch: shuffled examples, their views
`epoch`               the steps of an epoch: `take_steps`, `take_step`
`batch`               from stored examples to the batch of a step
`step`                `train_step` and the state that it updates
`objective`           the loss of a step, from the terms of several methods
`method_terms`        a distillation method as a term of the loss

The parts of a training:
`context`             the data and functions that the trainings of a run share
`plan`                the examples, phases and epochs of a training
`example_source`      where the examples and the teacher's outputs come from
`hyperparameters`     the traced numbers of a step
`optimizers`          optimizers and schedules by name
`training_functions`  from a config's sections to the functions of a training

Its results and its progress:
`training_folder`     the folder of a training
`checkpoint`          checkpoints with a digest
`training_record`     the record of a training: metrics, counts, times
`pace`                clock, steps per call, progress bar
`divergence`          stops a training that diverges
"""
