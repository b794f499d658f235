"""The built-in data sets: `mnist`, `fashion_mnist` and `cifar10`.

`specs` says what they are and `locations` where they may be. `downloads`
fetches them. `original_files` finds their files and `file_formats` parses the
files. `prepared_store` keeps the result, with `array_cache`, `tfds_builder`
and `tfds_canonical`.
"""
