"""A taken port is one sentence that names it, its holder and the way out."""

from __future__ import annotations

import os
import socket

import pytest

from serve.ports import PortTakenError, free_port, holder, listen, require_free


def test_a_free_port_can_be_listened_on() -> None:
    with listen("127.0.0.1", free_port()) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_a_taken_port_names_the_way_out() -> None:
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"^Port {port} is taken.*with --ui-port\.$"):
            require_free("127.0.0.1", port, option="--ui-port")
        with pytest.raises(PortTakenError, match=f"Port {port} is taken"):
            require_free("0.0.0.0", port, option="--port")


def test_its_holder_is_named_where_it_can_be_found() -> None:
    with listen("127.0.0.1", 0) as sock:
        found = holder(sock.getsockname()[1])
        if found is None:
            pytest.skip("lsof is not on this machine, or may not look")
        assert f"(process {os.getpid()})" in found


def test_an_address_of_another_machine() -> None:
    with pytest.raises(PortTakenError, match=r"192\.0\.2\.1:\d+ cannot be listened on"):
        require_free("192.0.2.1", free_port(), option="--port")


def test_a_port_just_given_up_is_free() -> None:
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            sock.accept()[0].close()
    require_free("127.0.0.1", port, option="--port")
