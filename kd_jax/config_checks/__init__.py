"""Checks a config before any work is done; each error names a field.

Without data: `field_checks` (with `model_checks` and `teaching_checks`),
`row_checks`, and `theory_checks`. `checking` words the errors.
`unused_fields` warns of fields without effect.
With the data: `traced_checks` and `computed_checks` need the shape of its
images, `data_checks` and `class_checks` its labels, and `image_checks` the
images.
Some checks stay where the data is: `data/selection.py` (parts of a data set),
`training/context.py` (transfer sets) and `experiments/rows.py` (the memory for
a teacher's features).
"""
