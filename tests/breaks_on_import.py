"""A module of the user that raises an error on import."""

raise RuntimeError('half written')
