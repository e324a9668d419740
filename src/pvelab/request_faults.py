"""What can happen to single requests: the faults `at` and `on`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pvelab import breakage
from pvelab.catalogue import UnknownChoice
from pvelab.interception import ALL, Aim, Arrival, Trap
from pvelab.state import Action, Fate

if TYPE_CHECKING:
    from pvelab.site import Site

LEFT_BYTES = 4096
"""What a full disk has left."""
API_FAILURE, COMMAND_FAILURE = 500, 255
WIRES = (ALL, "api", "ssh")
TROUBLE_TEXT = "broken by the lab"


@dataclass(frozen=True, slots=True)
class At:
    """One request by its number, counted from now on over those that fit."""

    number: int
    do: str
    node: str = ALL
    wire: str = ALL
    only: str = ALL
    text: str = TROUBLE_TEXT
    status: int = 0
    seconds: float = 30.0

    def aim(self) -> Aim:
        """The requests that it means."""
        return Aim(self.node, self.wire, only_writes=self.only == "writes", number=self.number)


@dataclass(frozen=True, slots=True)
class On:
    """Requests of a kind, all of them or so many times."""

    do: str
    method: str = ""
    path: str = ""
    command: str = ""
    node: str = ALL
    wire: str = ALL
    times: int = 0
    text: str = TROUBLE_TEXT
    status: int = 0
    seconds: float = 30.0

    def aim(self) -> Aim:
        """The requests that it means."""
        return Aim(self.node, self.wire, self.method, self.path, self.command, times=self.times)


def at_request(site: Site, plan: At) -> None:
    """Something happens to one request, counted from now on over those that fit; do as for `on`."""
    if plan.number < 1:
        raise UnknownChoice(f"number={plan.number}: give 1 or more")
    if plan.only not in (ALL, "writes"):
        raise UnknownChoice(f"only={plan.only}: give all or writes")
    _arm(site, plan)


def on_requests(site: Site, plan: On) -> None:
    """Something happens to requests of a kind: to the API by method and path (* is one part), over SSH by command.

    do is one of: refuse (cut before it is carried out, and nothing listens from then on), hang, reset (cut before),
    reset-after (carried out, the answer lost), slow (by `seconds`), error (an HTTP or exit `status` with `text`), tls
    (cut before, and a foreign certificate from then on), half-json (carried out, half of the answer), task-error (the
    tasks it starts fail with `text`), task-never-ends, ssh-drop (cut in mid-command, which goes on), upload-drop (cut
    in mid-upload), disk-full (the node's file systems and storages, from then on), power-loss (carried out, and after
    `seconds` the node is off, from then on, in the middle of whatever it is doing).
    """
    _arm(site, plan)


def _arm(site: Site, plan: At | On) -> None:
    if plan.do not in DOINGS:
        raise UnknownChoice(f"do={plan.do}: give {', '.join(DOINGS)}")
    if plan.wire not in WIRES:
        raise UnknownChoice(f"wire={plan.wire}: give {', '.join(WIRES)}")
    doing = DOINGS[plan.do]
    if doing.wire not in (ALL, plan.wire) and plan.wire != ALL:
        raise UnknownChoice(f"do={plan.do} is for wire={doing.wire}")
    aim = plan.aim() if doing.wire == ALL else replace(plan.aim(), wire=doing.wire)
    site.traps.waiting.append(Trap(aim, lambda arrival: doing.act(site, plan, arrival)))


@dataclass(frozen=True, slots=True)
class Doing:
    """Something that can happen to a request: on which wire, and what then."""

    act: Callable[[Site, At | On, Arrival], Action]
    wire: str = ALL


def _always(action: Action) -> Callable[[Site, At | On, Arrival], Action]:
    return lambda _site, _plan, _arrival: action


def _refuse(site: Site, _plan: At | On, arrival: Arrival) -> Action:
    node = site.world.nodes.get(arrival.machine)
    door = None if node else site.guests.door_of(arrival.machine)
    if node:
        site.begin(breakage.shut(site, node, "api" if arrival.wire == "api" else "ssh"))
    elif door:
        site.begin(breakage.shut_door(site, door))
    return Action("reset")


def _slow(_site: Site, plan: At | On, _arrival: Arrival) -> Action:
    return Action(delay_s=plan.seconds)


def _error(_site: Site, plan: At | On, arrival: Arrival) -> Action:
    usual = API_FAILURE if arrival.wire == "api" else COMMAND_FAILURE
    return Action("answer", plan.status or usual, plan.text)


def _tls(site: Site, _plan: At | On, arrival: Arrival) -> Action:
    breakage.show_foreign(site, site.world.nodes[arrival.machine])
    return Action("reset")


def _task_error(_site: Site, plan: At | On, _arrival: Arrival) -> Action:
    return Action(fate=Fate(plan.text))


def _power_loss(site: Site, plan: At | On, arrival: Arrival) -> Action:
    node = site.world.nodes.get(arrival.machine)
    if node:
        site.world.clock.after(plan.seconds, lambda: site.begin(breakage.power_off(site, node)))
    return Action()


def _disk_full(site: Site, _plan: At | On, arrival: Arrival) -> Action:
    breakage.fill_machine(site, arrival.machine, LEFT_BYTES)
    return Action()


DOINGS: Mapping[str, Doing] = {
    "refuse": Doing(_refuse),
    "hang": Doing(_always(Action("hang"))),
    "reset": Doing(_always(Action("reset"))),
    "reset-after": Doing(_always(Action("reset-after"))),
    "slow": Doing(_slow),
    "error": Doing(_error),
    "tls": Doing(_tls, "api"),
    "half-json": Doing(_always(Action("half"))),
    "task-error": Doing(_task_error),
    "task-never-ends": Doing(_always(Action(fate=Fate()))),
    "ssh-drop": Doing(_always(Action("drop")), "ssh"),
    "upload-drop": Doing(_always(Action("drop")), "api"),
    "disk-full": Doing(_disk_full),
    "power-loss": Doing(_power_loss),
}
