"""A module of a user's that is half written."""

raise RuntimeError('half written')
