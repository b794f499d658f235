"""Runs a config: teacher, students, timing and report in one folder."""
