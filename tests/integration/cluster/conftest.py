"""The machines of a test, and of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest
from tests.integration.cluster.kit import Machines

from freehold._io.rpc.runtime import Loop


@pytest.fixture(scope="session", autouse=True)
def grpc_stays() -> Iterator[None]:
    """grpc keeps descriptors of its own for as long as anything of it is in use, and none after: in
    use from before the first look for leaks until after the last."""
    loop = Loop()

    async def open_channel() -> grpc.aio.Channel:
        return grpc.aio.insecure_channel("127.0.0.1:1")

    channel = loop.run(open_channel())
    yield
    loop.run(channel.close())
    loop.close()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """No machine runs yet; all that the test starts are ended."""
    found = Machines(tmp_path)
    yield found
    found.end()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A head and a node, shared by a module."""
    found = Machines(tmp_path_factory.mktemp("pair"))
    found.start_head("--node-name", "first")
    found.start_node("--node-name", "second", "--labels", '{"zone": "b"}')
    yield found
    found.end()
