"""The sections of a config, and the meaning of every field.

A recipe is named `--config=configs/FILE.py:RECIPE,ARGUMENT=VALUE,...`. The
config of a recipe declares every field, so that a mistyped override is an
error. Values below are defaults, which a recipe may change.

`config.rows` lists the students that a config trains; see configs/tables.py.
"""

from ml_collections import config_dict

from kd_jax import methods
from kd_jax.runtime import errors
from kd_jax.sections import NetworkSections


class ConfigError(errors.UserError):
  """An unknown recipe, argument or field, or a value out of range."""


def model(kind: str, **fields) -> config_dict.ConfigDict:
  """Returns the section of a network.

  Args:
    kind: mlp, conv_net or resnet; or PACKAGE.MODULE:FUNCTION for the user's
      network: the function takes the number of classes and returns a Flax
      module.
    **fields: attributes of the network's module.
  """
  return config_dict.create(kind=kind, **fields)


def mlp(
  hidden: tuple[int, ...], *, dropout_rate=0.0, temperature=1.0
) -> config_dict.ConfigDict:
  """Returns the section of an MLP.

  Args:
    hidden: units of each hidden layer.
    dropout_rate: probability that a hidden unit is dropped, in [0, 1).
    temperature: divisor of the logits, in training and in inference.
  """
  return model(
    'mlp',
    hidden=hidden,
    dropout_rate=dropout_rate,
    temperature=temperature,
    # Type of the computation: float32, bfloat16, or auto: bfloat16 on
    # accelerators, and float32 on CPUs, where it is faster.
    dtype='float32',
    quantization='float',  # a name in SCHEMES of models/quantization.py
  )


def conv_net(
  filters: tuple[int, ...],
  hidden: tuple[int, ...],
  *,
  dropout_rate: float,
  temperature=1.0,
) -> config_dict.ConfigDict:
  """Returns the section of a network of 3x3 convolutions and an MLP.

  Args:
    filters: output channels of each convolution.
    hidden: units of each hidden layer of the MLP.
    dropout_rate: probability that a hidden unit is dropped, in [0, 1).
    temperature: divisor of the logits, in training and in inference.
  """
  return model(
    'conv_net',
    filters=filters,
    hidden=hidden,
    dropout_rate=dropout_rate,
    temperature=temperature,
    # Type of the computation: float32, bfloat16, or auto: bfloat16 on
    # accelerators, and float32 on CPUs, where it is faster.
    dtype='float32',
    quantization='float',  # a name in SCHEMES of models/quantization.py
  )


def resnet(
  blocks: tuple[int, ...], *, block='basic', **fields
) -> config_dict.ConfigDict:
  """Returns the section of a ResNet for small images.

  Args:
    blocks: residual blocks of each stage.
    block: the kind of block: basic, bottleneck or pooled.
    **fields: overrides of the defaults below.
  """
  section = model(
    'resnet',
    block=block,
    blocks=blocks,
    # Fewest blocks of a stage. 0 leaves out a stage of 0 blocks, 1 gives the
    # stage one block.
    min_blocks=0,
    # Filters of the 3x3 convolutions of each stage.
    widths=(64, 128, 256, 512)[: len(blocks)],
    # Stride of the first block of each stage.
    strides=(1, 2, 2, 2)[: len(blocks)],
    # Stride of the first convolution.
    stem_stride=1,
    # Whether a max pool follows the first convolution.
    stem_pool=True,
    # Initial kernel of the first convolution: kaiming (random), dct (cosines,
    # which whiten photographs), or dirac (copies the input's channels).
    stem_init='kaiming',
    # Initial kernels of the convolutions of blocks, with the same choices.
    conv_init='kaiming',
    # Whether each block starts as its shortcut: the scale of its last batch
    # norm starts at 0.
    zero_init=False,
    # The pool over all pixels before the last layer: mean or max.
    head_pool='mean',
    temperature=1.0,  # divisor of the logits, in training and in inference
    # Type of the computation: float32, bfloat16, or auto: bfloat16 on
    # accelerators, and float32 on CPUs, where it is faster.
    dtype='float32',
    quantization='float',  # a name in SCHEMES of models/quantization.py
  )
  section.update(fields)
  return section


def optimizer(
  name: str, learning_rate: float, **fields
) -> config_dict.ConfigDict:
  """Returns the section of an optimizer and its learning-rate schedule.

  Args:
    name: adam or sgd.
    learning_rate: the largest learning rate of the schedule.
    **fields: overrides of the defaults below.
  """
  optim = config_dict.create(
    name=name,
    learning_rate=learning_rate,
    schedule='constant',  # constant or cosine
    # Fraction of all steps in which the learning rate rises; cosine only.
    warmup_fraction=0.0,
    momentum=0.0,  # sgd only
    nesterov=False,  # sgd only
    # This factor times a parameter is added to the parameter's gradient.
    weight_decay=0.0,
    # Factor on the learning rate of the biases of batch norms (and of every
    # other layer that has a scale and a bias), but not on their weight decay.
    bias_factor=1.0,
    # The same for their scales. 0 keeps them at their first values. A large
    # bias_factor trains worse beside scales that are trained.
    scale_factor=1.0,
  )
  optim.update(fields)
  return optim


def training(epochs: int, batch_size: int, **fields) -> config_dict.ConfigDict:
  """Returns the section of a training: how long, and on which examples.

  Args:
    epochs: epochs of each phase; see `folds`.
    batch_size: examples in a batch.
    **fields: overrides of the defaults below.
  """
  train = config_dict.create(
    epochs=epochs,
    batch_size=batch_size,
    # k > 1 trains k + 1 phases in a row, each from the parameters of the phase
    # before: one phase on each training part of a k-fold split, then one phase
    # on all examples. 0 trains the last phase alone.
    folds=0,
    # Whether a phase continues with the optimizer state of the phase before.
    carry_optimizer=True,
    # Fraction of the training split, at its end, that is left untrained. These
    # are not test images: the bias of eval.bias_classes is chosen on them.
    holdout_fraction=0.0,
    # Whether examples that do not fill the last batch of an epoch are skipped.
    drop_remainder=False,
    # Random views of the images: none, crop_and_flip, crop_flip_cutout,
    # resized_crop_and_flip or jitter.
    augmentation='none',
    # Above 0: each image, with its targets, is mixed with another image of the
    # batch. The image's share has the distribution Beta(alpha, alpha).
    mixup_alpha=0.0,
    # Training examples with their labels: all, none, firstN (the first N of
    # each class), uptoN (firstN, with all of smaller classes), onlyA_B (classes
    # A and B), withoutA_B (all other classes), or a name in SUBSETS of
    # data/subsets.py.
    subset='all',
    # Images that replace the training split: noise, shuffled_pixels, or the
    # name of a data set of equal image shape. '' keeps the training split.
    transfer_set='',
    # Images without labels, which join the training split: a folder of image
    # files, FILE.npz with an array 'images', or 'rest': the training examples
    # that `subset` leaves out. They teach by the teacher's outputs alone; with
    # subset='none', nothing else does. Students of labels alone leave them out.
    unlabeled='',
    # Images without labels for each labeled example in an epoch: the kind that
    # has too few is repeated. 0 takes each example once.
    unlabeled_ratio=0.0,
  )
  train.update(fields)
  return train


def distillation(**fields) -> config_dict.ConfigDict:
  """Returns the section of the loss, with a section for each method.

  The section of a method of kd_jax/methods holds the method's weight and
  options.

  Args:
    **fields: overrides of the defaults below.
  """
  distill = config_dict.create(
    # A name in METHODS of kd_jax/methods, or several names joined by +.
    method='kl',
    # Divisor of the logits in the distillation loss, for methods that have one.
    temperature=1.0,
    # Weight of the cross-entropy on labels.
    ce_weight=0.0,
    # Weight of the sum of all methods' losses.
    kd_weight=1.0,
    # Epochs in which kd_weight rises from 0 to its value.
    kd_warmup_epochs=0,
    # Share of the target that is spread evenly over all classes, in the
    # cross-entropy on labels.
    label_smoothing=0.0,
    **{name: method.options for name, method in methods.METHODS.items()},
  )
  distill.update(fields)
  return distill


def hard_labels() -> config_dict.ConfigDict:
  """Returns the section of a loss on labels alone, without distillation."""
  return distillation(ce_weight=1.0, kd_weight=0.0)


def make_config(
  *,
  name: str,
  dataset: str,
  teacher: NetworkSections,
  student: NetworkSections,
  scaling: str = 'unit',
) -> config_dict.ConfigDict:
  """Returns a config with all sections, and no rows yet.

  Args:
    name: the run's name; the run's folder is named after it.
    dataset: the name of the data set; see `data.name` below.
    teacher: the teacher's sections.
    student: the sections that all students share.
    scaling: a name in SCALINGS of data/preprocessing.py: the scaling of the
      students' inputs and, until a recipe changes it, of the teacher's.
  """
  config = config_dict.ConfigDict()
  config.name = name
  # Students of each row: their seeds are first_seed, first_seed + 1, ...
  config.seeds = 1
  config.first_seed = 0  # the seed of the first student of each row
  # Seeds that one compiled function trains together. 0: one on a CPU, all seeds
  # on an accelerator.
  config.seeds_per_program = 0
  # Devices that share a batch. 0: one device, or all devices if the run has
  # several processes.
  config.mesh = config_dict.create(data=0)
  # Where the loop over steps runs: device (inside the compiled function), host
  # (in Python), or auto, which chooses by backend and network.
  config.loop = 'auto'
  config.data = _data(dataset, scaling)
  config.teacher = _teacher(teacher, scaling)
  config.student = student.model
  config.distill = student.distill
  config.train = student.train
  config.optim = student.optim
  config.eval = _evaluation()
  config.benchmark = _benchmark()
  config.rows = config_dict.ConfigDict(sort_keys=False)
  # Figures that the paper reports, by row. Rows without figures are absent.
  config.paper = config_dict.ConfigDict()
  return config


def _data(dataset: str, scaling: str) -> config_dict.ConfigDict:
  """Returns the section of the data set."""
  return config_dict.create(
    # A known name, FILE.npz, a folder of images, or tfds:NAME.
    name=dataset,
    # GiB. Images of a folder, and training images of TFDS, beyond this size
    # stay on disk.
    memory_gib=4.0,
    # Pixels. Images of a folder or of TFDS are cropped and resized to this
    # height and width; 0 keeps their size.
    image_size=0,
    # Scaling of the students' inputs: a name in SCALINGS of
    # data/preprocessing.py.
    scaling=scaling,
    # How many examples of each split are used, counted from the first; 0: all.
    # The built-in data sets have the order of their files; the user's data is
    # put into an order in which every part has its share of each class.
    train_examples=0,
    test_examples=0,  # as train_examples, of the test split
    # Whether a split that has fewer examples is used whole, and no error. If it
    # has too few for `holdout_examples`, half of it is held out.
    at_most=False,
    # If above 0, this number of training images at the end of the split is held
    # out and replaces the test split, which may then be missing.
    holdout_examples=0,
  )


def _teacher(teacher: NetworkSections, scaling: str) -> config_dict.ConfigDict:
  """Returns the section of the teacher."""
  return config_dict.create(
    # Files of the user's teacher outputs, separated by commas: FILE.npy holds
    # logits of the training split, FILE.npz those of train and test, in the
    # order of the examples in the data's files. 'none' is for runs whose rows
    # all learn from labels alone.
    logits='',
    # The features of that teacher, for methods that take features. FILE.npz has
    # an array [N, C] or [N, H, W, C] for each layer, from the first to the
    # last, in the order of the training examples in the files.
    features='',
    # A network of the user's: PACKAGE.MODULE:FUNCTION returns (apply,
    # variables), and apply(variables, images) returns the logits of images that
    # are scaled by outputs_scaling.
    module='',
    # Earlier rows whose students, seed by seed, replace the teacher. The name
    # 'teacher' stands for the teacher itself.
    rows=(),
    # What is averaged over several teachers: logits or probabilities.
    average='logits',
    # Students learn the teacher's class k as class k + class_shift.
    class_shift=0,
    # The folder of a pretrained teacher, such as teachers/mnist-mlp1200.
    pretrained='',
    # Whether a recipe that trains the teacher alone publishes the weights
    # beside the outputs.
    publish_weights=False,
    # Whether the teacher is trained even if teachers/ has pretrained outputs of
    # the very same training, which otherwise replace it.
    retrain=False,
    # Whether every training step calls the teacher instead of reading stored
    # outputs.
    live=False,
    # GiB; for methods that take features. If their features are larger, or if
    # images are augmented or mixed, every training step calls the teacher.
    features_gib=4.0,
    # Bits of each stored feature, for methods that take rounded features. Other
    # methods store features in float16.
    feature_bits=0,
    # Seed of the teacher's first parameters and of its training.
    seed=0,
    # Scaling of the teacher's inputs in training.
    scaling=scaling,
    # Scaling of the teacher's inputs for the outputs that students learn from.
    outputs_scaling=scaling,
    # Further scalings for which outputs are computed.
    also_outputs=(),
    distill=teacher.distill,
    model=teacher.model,
    train=teacher.train,
    optim=teacher.optim,
  )


def _evaluation() -> config_dict.ConfigDict:
  """Returns the section of the evaluation."""
  return config_dict.create(
    batch_size=1000,  # examples
    # The first test examples that are attacked, for robust accuracy; 0: none.
    attacked_examples=0,
    # Classes that a student's transfer set lacks. Errors are also reported with
    # a bias on the logits of these classes, which is chosen on the examples
    # that train.holdout_fraction leaves out.
    bias_classes=(),
  )


def _benchmark() -> config_dict.ConfigDict:
  """Returns the section of the timing."""
  return config_dict.create(
    # Whether the networks are timed.
    enabled=True,
    batch_sizes=(1, 32, 100, 1000, 10000),  # examples
    # Seconds of timed calls for each network and each batch size.
    budget_s=0.5,
    # Whether training steps are also timed with a teacher that they call.
    live_teacher=False,
    # A row: the training steps of all other rows are also timed in turns with
    # the training steps of this row. '': none.
    steps_against='',
    # Fresh processes that repeat the paper's timing protocol; 0: none.
    cold_calls=1,
    cold_call_examples=10000,  # examples in a call of that protocol
  )
