"""Exports students as files for JAX or ONNX Runtime, and loads the files."""
