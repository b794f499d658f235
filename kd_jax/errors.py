"""The error of a mistake that is the user's to mend."""


class UserError(Exception):
  """Names the mistake and the mend; launch.py shows it without a traceback."""
