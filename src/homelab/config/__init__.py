"""Configuration: `.env` and the environment -> settings.Config, or ConfigError with every problem.

values, addresses, names, public_keys: one text -> one checked value. reader: collects the problems.
nodes, general: which keys there are. parsing: all of them from a mapping. dotenv_file: where the mapping comes from.
slips: keys that look like one of them. wishes: names on the command line.
"""

from homelab.config.dotenv_file import load
from homelab.config.names import vm_name
from homelab.config.parsing import parse
from homelab.config.reader import Files
from homelab.config.wishes import with_wishes

__all__ = ["Files", "load", "parse", "vm_name", "with_wishes"]
