"""A fakepve server, run as a program of its own and never imported: `second_opinion_server.py SETTING`.

SETTING is JSON: host, certificate, key (files), token, secret, nodes (names), storages (options by name).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

from fakepve import FakePve


async def serve(setting: Mapping[str, Any]) -> None:
    """Print the port that the kernel chose, then serve until killed."""
    pve = FakePve(host=setting["host"], port=0)
    pve.apitokens[setting["token"]] = setting["secret"]
    for name in setting["nodes"]:
        pve.add_node(name)
    for name, options in setting["storages"].items():
        pve.storages[name] = {**pve.storages.get(name, {"active": 1, "files": set()}), **options}
    await pve.start(setting["certificate"], setting["key"])
    sys.stdout.write(f"{pve.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
