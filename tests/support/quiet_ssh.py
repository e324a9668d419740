"""asyncssh puts each packet into words for a log. Nobody reads the lab's, and it costs as much as a cipher."""

from __future__ import annotations

from unittest import mock

from asyncssh.packet import SSHPacketLogger


def leave_packets_unlogged() -> None:
    """From now on, in this process."""
    mock.patch.object(SSHPacketLogger, "_log_packet", lambda *_: None).start()
