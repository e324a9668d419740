"""A door answers, refuses, or lets callers wait, and can be changed at any time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from pvelab.door import Door, Listener
from pvelab.network import Network, claim_network


@pytest.fixture
def network() -> Iterator[Network]:
    claimed = claim_network()
    yield claimed
    claimed.release()


class Greeter:
    """A server that says hello."""

    def __init__(self) -> None:
        self.server: asyncio.Server | None = None

    async def serve(self, address: str, port: int) -> Listener:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.close()

        self.server = await asyncio.start_server(greet, address, port)
        return self

    async def close(self) -> None:
        assert self.server
        self.server.close()
        await self.server.wait_closed()


async def knock(door: Door) -> str:
    """What a caller with 0.15 s of patience gets."""

    def connect() -> str:
        try:
            with socket.create_connection((door.address, door.port), timeout=0.15) as caller:
                return caller.recv(10).decode()
        except TimeoutError:
            return "time-out"
        except ConnectionRefusedError:
            return "refused"

    return await asyncio.to_thread(connect)


def test_a_door_is_opened_closed_left_hanging_and_opened_again(network: Network) -> None:
    async def story() -> list[str]:
        door = Door(network.node(1), 8006, Greeter().serve)
        seen = [await knock(door)]
        await door.open()
        await door.open()
        seen.append(await knock(door))
        await door.hang()
        seen.append(await knock(door))
        await door.close()
        seen.append(await knock(door))
        await door.open()
        seen.append(await knock(door))
        await door.close()
        assert not door.is_open
        return seen

    assert asyncio.run(story()) == ["refused", "hello", "time-out", "refused", "hello"]
