# The address is reserved for documentation. Loopback works without a network.
import errno
import socket


def attempt(what, action):
    try:
        action()
        print(what, "ok")
    except OSError as error:
        print(what, errno.errorcode.get(error.errno, error.errno))


def connect():
    socket.create_connection(("192.0.2.1", 80), timeout=1)


def send():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("192.0.2.1", 53))


def loopback():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), timeout=1) as client:
            client.sendall(b"ping")
            assert server.accept()[0].recv(4) == b"ping"


attempt("connect", connect)
attempt("send", send)
attempt("loopback", loopback)
