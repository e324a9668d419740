"""Users, tokens and roles, over the API and with pveum: where the published schema is silent, the sources speak."""

from __future__ import annotations

import pytest

from pvelab.answers import ApiError, Who
from pvelab.api import Api
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
    listed = {one["userid"]: one for one in stage.ask("GET", "/access/users", params={"full": "1"}).json["data"]}
    new, test = listed["svc@pve"]["tokens"]
    assert (new["tokenid"], test) == ("new", {"expire": 0, "privsep": 1, "tokenid": "test"})
    assert stage.ask("GET", "/access/users", "svc-token").json["data"] == []


def test_roles_are_listed_with_their_privileges(stage: Stage) -> None:
    roles = {role["roleid"]: role for role in stage.ask("GET", "/access/roles").json["data"]}
    assert "VM.PowerMgmt" in roles["PVEVMAdmin"]["privs"].split(",")
    assert roles["Administrator"]["special"] == 1
    assert stage.ask("GET", "/access/roles/PVEVMAdmin").json["data"]["VM.Audit"] == 1


def test_role_is_made_and_changed_and_gives_what_it_holds(stage: Stage) -> None:
    assert stage.line("pveum role add Own --privs 'Sys.Audit VM.Audit'").exit_code == 0
    assert stage.line("pveum acl modify / --roles Own --tokens 'root@pam!sep'").exit_code == 0
    assert stage.ask("GET", "/nodes/pve1/status", "sep-token").status == 200
    assert stage.line("pveum role modify Own --privs VM.Audit").exit_code == 0
    assert stage.ask("GET", "/nodes/pve1/status", "sep-token").status == 403
    assert stage.line("pveum role modify Own --append 1 --privs Sys.Audit,SDN.Use").exit_code == 0
    assert stage.ask("GET", "/access/roles/Own").json["data"] == {"SDN.Use": 1, "Sys.Audit": 1, "VM.Audit": 1}
    assert stage.line("pveum role delete Own").exit_code == 0
    assert stage.ask("GET", "/nodes/pve1/status", "sep-token").status == 403


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("role add PveOwn", "roleid: cannot use role ID starting with the (case-insensitive) 'PVE' namespace"),
        ("role add Own --privs VM.Monitor", "privs: invalid format - invalid privilege 'VM.Monitor'"),
        ("role add Administrator", "create role failed: role 'Administrator' already exists"),
        ("role modify PVEAdmin --privs VM.Audit", "auto-generated role 'PVEAdmin' cannot be modified"),
        ("role delete PVEAdmin", "auto-generated role 'PVEAdmin' cannot be deleted"),
        ("role modify Own", "update role failed: role 'Own' does not exist"),
        ("role delete Own", "delete role failed: role 'Own' does not exist"),
    ],
)
def test_role_that_cannot_be_so_is_refused(stage: Stage, line: str, said: str) -> None:
    refused = stage.line(f"pveum {line}")
    assert (refused.exit_code, said in refused.err) == (255, True), refused.err


@pytest.mark.parametrize(
    ("method", "path", "params"),
    [
        ("POST", "/access/roles", {"roleid": "Own"}),
        ("DELETE", "/access/roles/Own", {}),
        ("POST", "/access/users", {"userid": "new@pve"}),
        ("PUT", "/cluster/options", {"keyboard": "de"}),
    ],
)
def test_users_roles_and_options_are_for_those_who_may_change_them(
    stage: Stage, method: str, path: str, params: dict[str, str]
) -> None:
    assert stage.ask(method, path, "svc-token", params=params).status == 403


def test_user_is_made_by_who_may_make_them_in_the_realm(stage: Stage) -> None:
    stage.line("pveum role add Making --privs User.Modify,Realm.AllocateUser")
    stage.line("pveum acl modify /access/groups --roles Making --tokens 'root@pam!sep'")
    denied = stage.ask("POST", "/access/users", "sep-token", params={"userid": "new@pve"})
    assert denied.reason == "Permission check failed (/access/realm/pve, Realm.AllocateUser)"
    stage.line("pveum acl modify /access/realm --roles Making --tokens 'root@pam!sep'")
    assert stage.ask("POST", "/access/users", "sep-token", params={"userid": "new@pve"}).status == 200


def test_privilege_that_holds_on_one_path_alone_is_shown_so(stage: Stage) -> None:
    stage.line("pveum acl modify /vms --propagate 0 --roles PVEAuditor --tokens 'root@pam!sep'")
    shown = stage.ask("GET", "/access/permissions", "sep-token").json["data"]
    assert set(shown) == {"/vms"} and set(shown["/vms"].values()) == {0}
    stage.line("pveum acl modify /vms --roles PVEAuditor --tokens 'root@pam!sep'")
    below = stage.ask("GET", "/access/permissions", "sep-token", params={"path": "/vms/100"}).json["data"]
    assert below["/vms/100"]["VM.Audit"] == 1


def test_whoever_may_make_vms_may_say_who_uses_them(stage: Stage) -> None:
    given = {"path": "/vms/100", "roles": "PVEVMAdmin", "users": "svc@pve"}
    assert stage.ask("PUT", "/access/acl", "svc-token", params=given).status == 200
    denied = stage.ask("PUT", "/access/acl", "svc-token", params={**given, "path": "/vms"})
    assert denied.reason == "Permission check failed (/vms, Permissions.Modify)"
    assert {one["path"] for one in stage.ask("GET", "/access/acl", "svc-token").json["data"]} == {"/vms/100"}


def test_user_sees_what_their_own_token_may(stage: Stage) -> None:
    def seen_of(userid: str) -> object:
        call = Api(stage.world).call("GET", "/access/permissions", {"userid": userid}, Who("svc@pve"), "pve1")
        return stage.run(call).data

    assert seen_of("svc@pve!test") == seen_of("svc@pve") != {}
    with pytest.raises(ApiError, match=r"/access, Sys\.Audit"):
        seen_of("root@pam!test")


def test_user_sees_the_tasks_of_their_tokens_and_a_token_its_own_alone(stage: Stage) -> None:
    upid = stage.ask("POST", "/nodes/pve1/qemu", "svc-token", params={"vmid": "100"}).json["data"]
    stage.wait_for(upid)

    def seen_by(who: Who) -> list[str]:
        call = Api(stage.world).call("GET", "/nodes/pve1/tasks", {}, who, "pve1")
        return [one["upid"] for one in stage.run(call).data]

    assert seen_by(Who("svc@pve")) == seen_by(Who("svc@pve", "test")) == [upid]
    assert seen_by(Who("svc@pve", "another")) == seen_by(Who("other@pve")) == []


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
    assert stage.line("pveum user add new@pve").exit_code == 0
    again = stage.line("pveum user add new@pve")
    assert (again.exit_code, again.err) == (255, "create user failed: user 'new@pve' already exists\n")


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
