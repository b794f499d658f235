"""Network addresses at which a run of several processes listens."""

import errno
import ipaddress
import socket

from absl import logging

from kd_jax.runtime import errors


def check_free(address: str, name: str) -> None:
  """Checks that this process can listen at an address.

  JAX's service would end the process without a line.

  Args:
    address: HOST:PORT, or [HOST]:PORT for an IPv6 address.
    name: the flag that holds it, for error messages.
  Raises:
    UserError: if the address is malformed or unknown, is not one of this
      machine, or is in use.
  """
  host, _, port = address.rpartition(':')
  host = host.removeprefix('[').removesuffix(']')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise errors.UserError(
      f'{name}={address}: expected HOST:PORT, such as 10.0.0.1:1234'
    )
  try:
    found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
  except OSError as error:
    raise errors.UserError(
      f'{name}={address}: {host} is no known host ({error.strerror})'
    ) from None
  problems = []
  for family, kind, protocol, _, socket_address in found:
    try:
      with socket.socket(family, kind, protocol) as server:
        # Connections that have ended do not count as use of the port.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(socket_address)
    except OSError as error:
      problems.append(error)
  if any(error.errno == errno.EADDRINUSE for error in problems):
    raise errors.UserError(
      f'{name}={address}: another program uses the port {port}: choose another '
      'one, for all processes'
    )
  if len(problems) == len(found):
    raise errors.UserError(
      f'{name}={address}: this process cannot listen there '
      f'({problems[0].strerror}): expected an address of the machine of the '
      'first process'
    )
  _warn_of_loopback(address, host, [str(entry[4][0]) for entry in found])


def _warn_of_loopback(address: str, host: str, found: list[str]) -> None:
  """Warns if a name means an address that other machines cannot reach."""
  is_local = [
    ipaddress.ip_address(ip.split('%')[0]).is_loopback for ip in found
  ]
  if all(is_local) and host != 'localhost' and host not in found:
    logging.warning(
      '%s is %s here, which other machines cannot reach: for processes on '
      'several machines give the address of the network',
      address,
      found[0],
    )
