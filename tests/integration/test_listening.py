"""Addresses: TCP, IPv6, unix sockets, inherited descriptors, several of them."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from .client import Client
from .conftest import Serve
from .server import run

HAS_V6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists()


def test_it_listens_on_several_addresses(serve: Serve, tmp_path: Path) -> None:
    binds = ["127.0.0.1:0", "127.0.0.1:0", f"unix:{tmp_path}/a.sock"]
    server = serve("-w", "1", bind=binds)
    assert len(server.addresses) == 3
    assert server.addresses[0] != server.addresses[1]
    for address in server.addresses:
        with Client(address) as client:
            assert client.get().text == "hello"


def test_ipv6(serve: Serve) -> None:
    if not HAS_V6:
        pytest.skip("no IPv6 here")
    server = serve("-w", "1", bind=["[::1]:0"])
    environ = server.get("/environ").json
    assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"]) == ("::1", "::1")
    assert environ["SERVER_PORT"] == str(server.port)
    assert f"http://[::1]:{server.port}" in server.log


def test_ipv4_and_ipv6_on_the_same_port(serve: Serve) -> None:
    if not HAS_V6:
        pytest.skip("no IPv6 here")
    first = serve("-w", "1", bind=["127.0.0.1:0"])
    # An explicit port beside it must be free for the other family.
    server = serve("-w", "1", bind=[f"[::1]:{first.port}"])
    assert server.get().status == 200


@pytest.mark.parametrize(("umask", "mode"), [("0", 0o777), ("022", 0o755), ("0077", 0o700)])
def test_the_mode_of_a_unix_socket_follows_from_umask(
    serve: Serve, tmp_path: Path, umask: str, mode: int
) -> None:
    # Whatever the umask of the shell that starts it.
    server = serve("-w", "1", "--umask", umask, bind=[f"unix:{tmp_path}/a.sock"], umask=0o027)
    assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == mode
    assert server.get().text == "hello"


def test_a_unix_socket_has_no_peer_but_a_name_and_a_port(serve: Serve, tmp_path: Path) -> None:
    server = serve("-w", "1", bind=[f"unix:{tmp_path}/a.sock"])
    environ = server.get("/environ", Host="shop.example:81").json
    assert environ["REMOTE_ADDR"] == ""
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("shop.example", "81")


def test_a_stale_socket_is_replaced(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    before = path.stat().st_ino
    server = serve("-w", "1", bind=[f"unix:{path}"])
    assert server.get().text == "hello"
    assert path.stat().st_ino != before or path.is_socket()


def test_a_living_socket_is_not_replaced(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    server = serve("-w", "1", bind=[f"unix:{path}"])
    before = path.stat().st_ino
    code, _, err = run(tmp_path, "-b", f"unix:{path}", "app:app")
    assert code == 1
    assert "a living server listens there" in err
    assert "Traceback" not in err
    assert path.stat().st_ino == before
    assert server.get().text == "hello"


def test_a_file_that_is_no_socket_is_never_replaced(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    server = serve("-w", "1", bind=["unix:precious"], ready=False)
    assert server.wait_exit() == 1
    assert (tmp_path / "precious").read_text() == "data"
    assert "not a socket" in server.log


def test_the_socket_file_is_removed_at_the_end(serve: Serve, tmp_path: Path) -> None:
    server = serve("-w", "1", bind=["unix:a.sock"])
    assert (tmp_path / "a.sock").is_socket()
    server.stop()
    assert not (tmp_path / "a.sock").exists()


def test_a_path_is_relative_to_chdir(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    server = serve("--chdir", "inner", "--pythonpath", str(tmp_path), bind=["unix:a.sock"])
    assert (tmp_path / "inner" / "a.sock").is_socket()
    assert server.get().text == "hello"


def test_an_abstract_socket(serve: Serve) -> None:
    name = f"remuda-test-{os.getpid()}"
    server = serve("-w", "1", bind=[f"unix:@{name}"], ready=False)
    server.wait_listening()
    with Client(f"\0{name}") as client:
        assert client.get().text == "hello"


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_an_inherited_descriptor(serve: Serve, tmp_path: Path, family: str) -> None:
    if family == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
    else:
        listener = socket.socket(socket.AF_UNIX)
        address = os.fspath(tmp_path / "inherited.sock")
        listener.bind(address)
        listener.listen()
    with listener:
        fd = listener.fileno()
        server = serve("-w", "1", bind=[f"fd://{fd}"], pass_fds=[fd], ready=False)
        with Client(address) as client:
            assert client.get().text == "hello"
        server.stop()
        # It is not ours: it stays.
        if family == "unix":
            assert Path(address).is_socket()


def test_sockets_from_a_service_manager(serve: Serve, tmp_path: Path) -> None:
    # sd_listen_fds(3): descriptors from 3 on, and LISTEN_PID is the server's own.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        launcher = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3)\n"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
            "os.execv(sys.argv[2], sys.argv[2:])"
        )
        server = serve(
            "-w", "1", prefix=[sys.executable, "-c", launcher, str(listener.fileno())],
            pass_fds=[listener.fileno()], ready=False,
        )  # fmt: skip
        with Client(listener.getsockname()) as client:
            assert client.get().text == "hello"
        assert server.port == listener.getsockname()[1]


def test_port_0_and_reuse_port(serve: Serve) -> None:
    first = serve("-w", "1", "--reuse-port")
    second = serve("-w", "1", "--reuse-port", bind=[f"127.0.0.1:{first.port}"])
    assert second.port == first.port
    first.stop()
    assert second.get().text == "hello"


def test_the_variable_port_is_the_default_of_bind(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = serve("-w", "1", bind=[], env={"PORT": str(port)}, ready=False)
    server.wait_listening()
    with Client(("127.0.0.1", port)) as client:
        assert client.get().text == "hello"
    assert f"http://0.0.0.0:{port}" in server.log


def test_hup_moves_to_another_port_and_loses_nothing(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "remuda.conf.py").write_text(f"bind = ['unix:{tmp_path}/old.sock']\n")
    server = serve("-w", "1", bind=[])
    load = server.load(2, keep=False)
    kept = server.connect()
    assert kept.get().status == 200
    (tmp_path / "remuda.conf.py").write_text(
        f"bind = ['unix:{tmp_path}/new.sock', 'unix:{tmp_path}/newer.sock']\n"
    )
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 1 new workers are ready")
    for name in ("new.sock", "newer.sock"):
        with Client(os.fspath(tmp_path / name)) as client:
            assert client.get().text == "hello"
    assert set(load.finish_by_themselves()) == {"200", "refused"}, load.details
    # A connection that came by the old address is still served.
    assert kept.get().status == 200
    assert not (tmp_path / "old.sock").exists()


@pytest.mark.parametrize("first", ["0.0.0.0", "[::]"])
def test_hup_adds_the_other_family_on_the_same_port(
    serve: Serve, tmp_path: Path, first: str
) -> None:
    if not HAS_V6:
        pytest.skip("no IPv6 here")
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as probe:
        port = probe.getsockname()[1]
    (tmp_path / "remuda.conf.py").write_text(f"bind = ['{first}:{port}']\n")
    server = serve("-w", "1", bind=[])
    (tmp_path / "remuda.conf.py").write_text(f"bind = ['0.0.0.0:{port}', '[::]:{port}']\n")
    server.signal(signal.SIGHUP)
    server.says("Reloaded: 1 new workers are ready")
    for host in ("127.0.0.1", "::1"):
        with Client((host, port)) as client:
            environ = client.get("/environ").json
            assert environ["REMOTE_ADDR"] == host


def test_both_families_of_one_port_are_bound(serve: Serve) -> None:
    if not HAS_V6:
        pytest.skip("no IPv6 here")
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as probe:
        port = probe.getsockname()[1]
    server = serve("-w", "1", bind=[f"[::]:{port}", f"0.0.0.0:{port}"])
    assert f"http://[::]:{port},http://0.0.0.0:{port}" in server.log
    for host in ("127.0.0.1", "::1"):
        with Client((host, port)) as client:
            assert client.get().text == "hello"


def test_a_module_is_run_as_the_command_is(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("remuda")
    if not command.exists():
        pytest.skip("the command is not installed beside this Python")
    assert run(tmp_path, "--version")[:2] == (0, f"{_version()}\n")


def _version() -> str:
    import remuda

    return f"remuda {remuda.__version__}"
