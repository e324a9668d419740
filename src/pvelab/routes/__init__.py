"""The API's methods by area; importing this package declares them all."""

from pvelab.routes import (
    access,
    agent,
    cluster,
    content,
    firewall,
    firewall_sets,
    guests,
    ha,
    nodes,
    pools,
    resources,
    services,
    storage,
    tasks,
    transfer,
    users,
)
from pvelab.routes.call import ROUTES, Call, Route

__all__ = [
    "ROUTES",
    "Call",
    "Route",
    "access",
    "agent",
    "cluster",
    "content",
    "firewall",
    "firewall_sets",
    "guests",
    "ha",
    "nodes",
    "pools",
    "resources",
    "services",
    "storage",
    "tasks",
    "transfer",
    "users",
]
