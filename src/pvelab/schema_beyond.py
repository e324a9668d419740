"""Methods that Proxmox has and the published extract of its schema leaves out."""

from __future__ import annotations

from typing import Any

_USERID = {"type": "string", "format": "pve-userid", "maxLength": 64}
_TOKENID = {"type": "string", "pattern": "[A-Za-z][A-Za-z0-9\\.\\-_]+"}
_TEXT = {"type": "string"}
_OPTIONAL_TEXT = {"type": "string", "optional": 1}
_OPTIONAL_FLAG = {"type": "boolean", "optional": 1}
_OPTIONAL_NUMBER = {"type": "integer", "minimum": 0, "optional": 1}
_OWN_OR_MODIFY = {"check": ["or", ["userid-param", "self"], ["userid-group", ["User.Modify"]]]}
_TOKEN_INFO = {"comment": _OPTIONAL_TEXT, "expire": _OPTIONAL_NUMBER, "privsep": _OPTIONAL_FLAG}
_ONE_TOKEN = {"userid": _USERID, "tokenid": _TOKENID}
_IN_NEW_GROUPS = ["userid-group", ["User.Modify"], "groups_param", "create"]
_MAY_MAKE_USERS = {"check": ["and", ["userid-param", "Realm.AllocateUser"], _IN_NEW_GROUPS]}
_MAY_MAKE_ROLES = {"check": ["perm", "/access", ["Sys.Modify"]]}
_ROLE: dict[str, Any] = {"roleid": _TEXT, "privs": _OPTIONAL_TEXT}
_NEW_USER: dict[str, Any] = {
    "userid": _USERID,
    "enable": _OPTIONAL_FLAG,
    "password": {"type": "string", "minLength": 5, "maxLength": 64, "optional": 1},
}
_TAG = "[A-Za-z0-9_][A-Za-z0-9_\\-+.]*"
_TAGS = {"type": "string", "pattern": f"{_TAG}(?:;{_TAG})*", "optional": 1}
TAG_ACCESS = {
    "user-allow": {"type": "string", "enum": ["none", "list", "existing", "free"], "optional": 1},
    "user-allow-list": _TAGS,
}
_OPTIONS: dict[str, Any] = {
    "delete": _OPTIONAL_TEXT,
    "description": _OPTIONAL_TEXT,
    "keyboard": _OPTIONAL_TEXT,
    "mac_prefix": _OPTIONAL_TEXT,
    "registered-tags": _TAGS,
    "user-tag-access": {"type": "string", "format": TAG_ACCESS, "optional": 1},
}
_ACL_CHANGE: dict[str, Any] = {
    "path": _TEXT,
    "roles": _TEXT,
    "users": _OPTIONAL_TEXT,
    "tokens": _OPTIONAL_TEXT,
    "groups": _OPTIONAL_TEXT,
    "propagate": _OPTIONAL_FLAG,
    "delete": _OPTIONAL_FLAG,
}
_ACL = {
    "path": _TEXT,
    "propagate": _OPTIONAL_FLAG,
    "roleid": _TEXT,
    "type": _TEXT,
    "ugid": _TEXT,
}
_USER = {
    "userid": _TEXT,
    "comment": _OPTIONAL_TEXT,
    "email": _OPTIONAL_TEXT,
    "enable": _OPTIONAL_FLAG,
    "expire": _OPTIONAL_NUMBER,
    "firstname": _OPTIONAL_TEXT,
    "groups": _OPTIONAL_TEXT,
    "keys": _OPTIONAL_TEXT,
    "lastname": _OPTIONAL_TEXT,
    "realm-type": _OPTIONAL_TEXT,
    "tfa-locked-until": _OPTIONAL_NUMBER,
    "tokens": {"type": "array", "optional": 1},
    "totp-locked": _OPTIONAL_FLAG,
}


def _takes(*, returns: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    declared: dict[str, Any] = {"parameters": {"properties": properties}}
    return declared if returns is None else {**declared, "returns": returns}


def _list_of(properties: dict[str, Any], child: str = "") -> dict[str, Any]:
    links = {"links": [{"rel": "child", "href": f"{{{child}}}"}]} if child else {}
    return {"type": "array", "items": {"type": "object", "properties": properties}, **links}


def _with(permissions: Any, declared: dict[str, Any]) -> dict[str, Any]:
    return {**declared, "permissions": permissions}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


BEYOND_SCHEMA: dict[str, dict[str, Any]] = {
    "/": {"GET": {"returns": _list_of({"subdir": _TEXT}, "subdir")}},
    "/access": {"GET": {"returns": _list_of({"subdir": _TEXT}, "subdir")}},
    "/access/acl": {"GET": _takes(returns=_list_of(_ACL)), "PUT": _takes(**_ACL_CHANGE)},
    "/access/domains": {
        "GET": _takes(returns=_list_of({"realm": _TEXT, "type": _TEXT, "comment": _OPTIONAL_TEXT}, "realm"))
    },
    "/access/groups": {"GET": _takes(returns=_list_of({"groupid": _TEXT, "users": _OPTIONAL_TEXT}, "groupid"))},
    "/access/password": {
        "PUT": {"allowtoken": 0, **_takes(userid=_USERID, password={"type": "string", "minLength": 5})},
    },
    "/access/roles": {
        "GET": _takes(returns=_list_of({**_ROLE, "special": _OPTIONAL_FLAG}, "roleid")),
        "POST": _with(_MAY_MAKE_ROLES, _takes(**_ROLE, returns={"type": "null"})),
    },
    "/access/roles/{roleid}": {
        "DELETE": _with(_MAY_MAKE_ROLES, _takes(roleid=_TEXT, returns={"type": "null"})),
        "GET": _takes(roleid=_TEXT, returns=_object({})),
        "PUT": _with(
            _MAY_MAKE_ROLES,
            _takes(**_ROLE, append={**_OPTIONAL_FLAG, "requires": "privs"}, returns={"type": "null"}),
        ),
    },
    "/access/users": {
        "GET": _takes(enabled=_OPTIONAL_FLAG, full=_OPTIONAL_FLAG, returns=_list_of(_USER, "userid")),
        "POST": _with(_MAY_MAKE_USERS, _takes(**_NEW_USER, returns={"type": "null"})),
    },
    "/access/users/{userid}": {
        "GET": _with({"check": ["userid-group", ["User.Modify", "Sys.Audit"]]}, _takes(userid=_USERID))
    },
    "/access/users/{userid}/token": {
        "GET": _with(
            _OWN_OR_MODIFY, _takes(userid=_USERID, returns=_list_of({**_TOKEN_INFO, "tokenid": _TEXT}, "tokenid"))
        )
    },
    "/access/users/{userid}/token/{tokenid}": {
        "DELETE": _with(_OWN_OR_MODIFY, _takes(**_ONE_TOKEN, returns={"type": "null"})),
        "GET": _with(_OWN_OR_MODIFY, _takes(**_ONE_TOKEN, returns=_object(_TOKEN_INFO))),
        "POST": _with(
            _OWN_OR_MODIFY,
            _takes(**_ONE_TOKEN, **_TOKEN_INFO, returns=_object({"full-tokenid": _TEXT, "info": {}, "value": _TEXT})),
        ),
    },
    "/cluster/options": {
        "GET": _takes(returns=_object({})),
        "PUT": _with({"check": ["perm", "/", ["Sys.Modify"]]}, _takes(**_OPTIONS, returns={"type": "null"})),
    },
    "/cluster/replication": {"GET": {}},
}
"""By path and method, as the published schema is; what it says wins."""
