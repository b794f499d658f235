"""The address at which the first of several processes listens."""

import socket

import pytest

from kd_jax.runtime import addresses, errors


def _check(address):
  addresses.check_free(address, '--coordinator')


@pytest.fixture(name='port')
def _port():
  """A port that nothing uses."""
  with socket.create_server(('127.0.0.1', 0)) as server:
    port = server.getsockname()[1]
  return port


@pytest.mark.parametrize('host', ['127.0.0.1', 'localhost'])
def test_a_free_address_is_right(host, port, caplog):
  _check(f'{host}:{port}')
  assert not caplog.text


def test_a_port_in_use_is_named():
  with socket.create_server(('127.0.0.1', 0)) as server:
    port = server.getsockname()[1]
    with pytest.raises(errors.UserError, match=f'uses the port {port}: choose'):
      _check(f'127.0.0.1:{port}')


@pytest.mark.parametrize(
  'address', ['host', 'host:', ':1234', 'a:b', 'a:99999']
)
def test_a_malformed_address_is_refused(address):
  with pytest.raises(errors.UserError, match='expected HOST:PORT'):
    _check(address)


def test_an_address_of_another_machine_is_refused(port):
  # From the block for documentation, which no machine has.
  with pytest.raises(errors.UserError, match='cannot listen there'):
    _check(f'192.0.2.1:{port}')


def test_an_unknown_host_is_refused(monkeypatch):
  def getaddrinfo(*args, **kwargs):
    raise socket.gaierror(-2, 'Name or service not known')

  monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
  with pytest.raises(errors.UserError, match='nowhere is no known host'):
    _check('nowhere:1234')


def test_a_name_that_only_this_machine_reaches_is_named(
  monkeypatch, port, caplog
):
  real = socket.getaddrinfo
  monkeypatch.setattr(
    socket, 'getaddrinfo', lambda host, *a, **k: real('127.0.0.1', *a, **k)
  )
  _check(f'my-machine:{port}')
  assert 'is 127.0.0.1 here, which other machines cannot reach' in caplog.text
