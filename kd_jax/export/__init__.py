"""Writes a student as a file for JAX or ONNX Runtime, and loads it back."""
