"""The user's data sets: .npz files, folders of images, prepared TFDS folders.

`user_datasets` chooses among `npz_files`, `image_folders` (with `image_files`,
and `decoded_files` for many images) and `tfds_images` (with `tfds_folder`).
`survey` counts examples and image sizes without reading the images.
`unlabeled_images` adds images without labels.
"""
