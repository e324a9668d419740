"""Users, tokens and roles, over the API and with pveum: where the published schema is silent, the sources speak."""

from __future__ import annotations

import pytest

from replay.stage import Stage


def test_token_made_by_hand_is_shown_once_and_works(stage: Stage) -> None:
    made = stage.line("pveum user token add root@pam homelab --privsep 0").out
    cells = [[cell.strip() for cell in line.split("│")] for line in made.splitlines() if "│" in line]
    rows = {row[1]: row[2] for row in cells}
    assert rows["full-tokenid"] == "root@pam!homelab"
    assert rows["info"] == '{"privsep":"0"}'
    assert rows["value"] == stage.look(lambda world: world.tokens["root@pam!homelab"].secret)
    assert rows["value"] not in stage.line("pveum user token list root@pam").out
    again = stage.line("pveum user token add root@pam homelab")
    assert (again.exit_code, "tokenid: Token already exists." in again.err) == (255, True)


def test_removed_token_is_unknown(stage: Stage) -> None:
    assert stage.line("pveum user token remove root@pam sep").exit_code == 0
    assert stage.ask("GET", "/version", "sep-token").status == 401
    assert stage.line("pveum user token delete root@pam sep").err == "no such token 'sep' for user 'root@pam'\n"


@pytest.mark.parametrize(
    ("who", "path", "status", "reason"),
    [
        ("root-token", "/access/users/svc@pve/token/test", 200, "OK"),
        ("root-token", "/access/users/svc@pve/token/none", 500, "no such token 'none' for user 'svc@pve'"),
        ("root-token", "/access/users/nobody@pve", 500, "no such user ('nobody@pve')"),
        ("root-token", "/access/users/nobody@pve/token", 403, "Permission check failed"),
        ("svc-token", "/access/users/svc@pve", 403, "Permission check failed"),
        ("svc-token", "/access/users/svc@pve/token", 403, "Permission check failed"),
        ("sep-token", "/access/users/root@pam/token/test", 403, "Permission check failed"),
        ("sep-token", "/access/roles/PVEVMAdmin", 200, "OK"),
        ("root-token", "/access/roles/nosuch", 500, "role 'nosuch' does not exist"),
        ("none", "/access/roles", 401, "No ticket"),
        ("sep-token", "/access/domains", 200, "OK"),
        ("sep-token", "/access/groups", 200, "OK"),
        ("sep-token", "/access", 200, "OK"),
    ],
)
def test_who_may_see_users_and_tokens(stage: Stage, who: str, path: str, status: int, reason: str) -> None:
    reply = stage.ask("GET", path, who)
    assert (reply.status, reply.reason) == (status, reason)


def test_token_by_api_has_its_own_privileges_unless_told(stage: Stage) -> None:
    made = stage.ask("POST", "/access/users/svc@pve/token/new", params={"expire": "2000000000"}).json["data"]
    assert made["full-tokenid"] == "svc@pve!new"
    assert made["info"] == {"expire": "2000000000", "privsep": 1}
    shown = stage.ask("GET", "/access/users/svc@pve").json["data"]
    assert shown["tokens"]["new"] == {"expire": 2000000000, "privsep": 1}
    assert "tokens" in shown and shown["groups"] == []


def test_roles_are_listed_with_their_privileges(stage: Stage) -> None:
    roles = {role["roleid"]: role for role in stage.ask("GET", "/access/roles").json["data"]}
    assert "VM.PowerMgmt" in roles["PVEVMAdmin"]["privs"].split(",")
    assert roles["Administrator"]["special"] == 1
    assert stage.ask("GET", "/access/roles/PVEVMAdmin").json["data"]["VM.Audit"] == 1


def test_privileges_are_given_and_taken_by_hand(stage: Stage) -> None:
    assert stage.ask("GET", "/nodes/pve1/status", "sep-token").status == 403
    assert stage.line("pveum acl modify / --roles PVEAuditor --tokens 'root@pam!sep'").exit_code == 0
    assert stage.ask("GET", "/nodes/pve1/status", "sep-token").status == 200
    assert "PVEAuditor" in stage.line("pveum acl list").out
    assert stage.line("pveum acl delete / --roles PVEAuditor --tokens 'root@pam!sep'").exit_code == 0
    assert stage.ask("GET", "/nodes/pve1/status", "sep-token").status == 403


def test_password_is_asked_for_twice(stage: Stage) -> None:
    assert stage.line("printf 'Secret-1\\nSecret-2\\n' | pveum passwd svc@pve").err == "Passwords do not match\n"
    assert stage.line("printf 'Secret-1\\nSecret-1\\n' | pveum passwd svc@pve").exit_code == 0
    ticket = stage.ask("POST", "/access/ticket", "none", params={"username": "svc@pve", "password": "Secret-1"})
    assert ticket.status == 200


@pytest.mark.parametrize("line", ["pveum role list", "pveum realm list", "pveum user permissions svc@pve"])
def test_list_is_a_table_or_json(stage: Stage, line: str) -> None:
    assert stage.line(line).out.startswith("┌")
    assert stage.line(f"{line} --output-format json").out[0] in "[{"


def test_list_of_nothing_is_nothing(stage: Stage) -> None:
    assert stage.line("pveum group list; pveum pool list").out == ""


def test_user_that_is_not_there(stage: Stage) -> None:
    assert stage.line("pveum user token list nobody@pve").err == "no such user ('nobody@pve')\n"
    assert stage.line("pveum user add new@pve").err == "pveum user add: not known here\n"


def test_what_needs_a_ticket_is_refused_to_a_token(stage: Stage) -> None:
    reply = stage.ask("PUT", "/access/password", params={"userid": "svc@pve", "password": "Secret-1"})
    assert reply.status == 403
    assert reply.reason.startswith("Permission check failed (URI '/access/password' not available with API token")
    assert stage.ask("GET", "/access/ticket").json == {"data": None}


def test_path_and_parameters_may_not_contradict_each_other(stage: Stage) -> None:
    reply = stage.ask("GET", "/nodes/pve1/qemu", params={"node": "pve2"})
    said = "duplicate parameter (already defined in URI) with conflicting values!"
    assert (reply.status, reply.json["errors"]) == (400, {"node": said})
    assert stage.ask("GET", "/nodes/pve1/qemu", params={"node": "pve1"}).status == 200


def test_index_of_a_node_that_is_not_there_is_answered_here(stage: Stage) -> None:
    assert stage.ask("GET", "/nodes/nonode").status == 200
    assert stage.ask("GET", "/nodes/nonode/version").status == 500


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"roles": "NoSuch", "users": "svc@pve"}, "role 'NoSuch' does not exist"),
        ({"roles": "PVEAuditor", "users": "nobody@pve"}, "user 'nobody@pve' does not exist"),
        ({"roles": "PVEAuditor", "groups": "staff"}, "group 'staff' does not exist"),
        ({"roles": "PVEAuditor", "tokens": "svc@pve!none"}, "no such token 'none' for user 'svc@pve'"),
        ({"roles": "PVEAuditor", "tokens": "nobody@pve!none"}, "no such user ('nobody@pve')"),
    ],
)
def test_role_is_given_to_somebody_who_exists(stage: Stage, params: dict[str, str], reason: str) -> None:
    reply = stage.ask("PUT", "/access/acl", params={"path": "/vms", **params})
    assert (reply.status, reply.reason) == (500, f"ACL update failed: {reason}")


def test_role_is_given_on_a_known_path_to_one_at_least(stage: Stage) -> None:
    unknown = stage.ask("PUT", "/access/acl", params={"path": "/nowhere", "roles": "PVEAuditor", "users": "svc@pve"})
    assert unknown.json["errors"] == {"path": "invalid ACL path '/nowhere'"}
    nobody = stage.ask("PUT", "/access/acl", params={"path": "/vms", "roles": "PVEAuditor"})
    assert set(nobody.json["errors"]) == {"users", "groups", "tokens"}
    spelled = {"path": "vms//100/", "roles": "PVEAuditor", "users": "svc@pve"}
    assert stage.ask("PUT", "/access/acl", params=spelled).status == 200
    assert "/vms/100" in {one["path"] for one in stage.ask("GET", "/access/acl").json["data"]}
