"""The commands that give an API token what it lacks: exact, and no more than the documented role has. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from homelab.models import TagRules
from homelab.preflight.privileges import Holder, Lack, Need, of_role
from homelab.proxmox.refusals import path_to_grant_on
from homelab.settings import ApiToken

LOOK, WORK, MODIFY, CPU = "HomelabLook", "Homelab", "HomelabModify", "HomelabCpu"
ALONE = {"Sys.Audit": LOOK, "Sys.Modify": MODIFY, "Mapping.Use": CPU}
"""The role of a privilege that stands in a role by itself."""
AREAS = ("{vm}", "/vms", "/storage", "/sdn", "/pool")
"""The paths of the table whose privileges the role of the documented recipe holds."""


@dataclass(frozen=True, slots=True)
class Grantee:
    """Whom it is given to: the token, and its user. `is_separated` None: not known."""

    token: ApiToken
    is_separated: bool | None

    def options(self, holder: Holder) -> str:
        """Who is named in a command that gives somebody something."""
        user, token = f"--users '{self.token.user}'", f"--tokens '{self.token.user}!{self.token.token_id}'"
        if holder is Holder.TOKEN:
            return token
        return user if holder is Holder.USER and self.is_separated is False else f"{user} {token}"


def role_privileges(role: str, major: int) -> tuple[str, ...]:
    """What a role of the recipe, or one beside it, holds on a release."""
    return of_role(AREAS, major) if role == WORK else tuple(name for name, own in ALONE.items() if own == role)


def role_for(need: Need) -> str:
    """The role that has it."""
    return ALONE.get(need.privilege, WORK)


def commands(
    lacks: Sequence[Lack], grantee: Grantee, roles: Mapping[str, frozenset[str]], major: int
) -> tuple[str, ...]:
    """First the roles as far as they are not there, then what gives them, each once."""
    to_give = [lack for lack in lacks if not lack.tags]
    wanted = dict.fromkeys(role_for(lack.need) for lack in to_give)
    made = [line for role in wanted if (line := _make(role, role_privileges(role, major), roles.get(role)))]
    return (*made, *dict.fromkeys(_give(lack, grantee) for lack in to_give))


def tag_commands(denied: Iterable[str], rules: TagRules) -> Iterator[str]:
    """What lets anybody who may set a VM's options give it these tags."""
    tags = frozenset(denied)
    if tags & rules.reserved:
        left = ";".join(sorted(rules.reserved - tags))
        yield "pvesh set /cluster/options " + (f"--registered-tags '{left}'" if left else "--delete registered-tags")
    if rules.choice != "free" and not tags <= rules.allowed:
        choice = "list" if rules.choice == "none" else rules.choice
        listed = ";".join(sorted(rules.listed | tags))
        yield f"pvesh set /cluster/options --user-tag-access 'user-allow={choice},user-allow-list={listed}'"


def _make(role: str, privileges: tuple[str, ...], there: frozenset[str] | None) -> str:
    if there is None:
        return f"pveum role add {role} --privs '{' '.join(privileges)}'"
    more = [name for name in privileges if name not in there]
    return f"pveum role modify {role} --append 1 --privs '{' '.join(more)}'" if more else ""


def _give(lack: Lack, grantee: Grantee) -> str:
    role, path = role_for(lack.need), path_to_grant_on(lack.need.path)
    there_alone = " --propagate 0" if role == MODIFY else ""
    return f"pveum acl modify {path}{there_alone} {grantee.options(lack.holder)} --roles {role}"
