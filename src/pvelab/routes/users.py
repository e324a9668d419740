"""/access/users: who there is, and their API tokens."""

from __future__ import annotations

import uuid
from typing import Any

from pvelab.answers import bad_parameter, refused
from pvelab.routes.call import Call, route
from pvelab.rules import configs
from pvelab.state import Token, User

USERS = "/access/users"
ONE_TOKEN = USERS + "/{userid}/token/{tokenid}"


@route("GET", USERS)
def list_users(call: Call) -> list[dict[str, Any]]:
    return [
        {**_shown(user), **_more(call, user), "realm-type": user.userid.rpartition("@")[2], "userid": user.userid}
        for user in call.world.users.values()
        if user.userid == call.who.authid or call.may("/access/groups", "User.Modify", "Sys.Audit")
    ]


@route("POST", USERS)
def create_user(call: Call) -> None:
    userid = call.params["userid"]
    configs.require_lock(call.world, "user.cfg", "create user failed: ")
    if userid in call.world.users:
        raise refused(f"create user failed: user '{userid}' already exists")
    is_enabled = call.params.get("enable", "1") == "1"
    call.world.users[userid] = User(userid, call.params.get("password"), is_enabled)


@route("GET", USERS + "/{userid}")
def show_user(call: Call) -> dict[str, Any]:
    user = _user(call)
    tokens = {one.name: _token_info(one) for one in _tokens(call)}
    return {**_shown(user), "groups": [], **({"tokens": tokens} if tokens else {})}


@route("GET", USERS + "/{userid}/token")
def list_tokens(call: Call) -> list[dict[str, Any]]:
    _user(call)
    return [{**_token_info(one), "tokenid": one.name} for one in _tokens(call)]


@route("GET", ONE_TOKEN)
def show_token(call: Call) -> dict[str, Any]:
    return _token_info(_token(call))


@route("POST", ONE_TOKEN)
def create_token(call: Call) -> dict[str, Any]:
    user, name, params = _user(call), call.params["tokenid"], call.params
    if any(one.name == name for one in _tokens(call)):
        raise bad_parameter("tokenid", "Token already exists.")
    secret = str(uuid.UUID(int=call.world.random.getrandbits(128), version=4))
    token = Token(user.userid, name, secret, is_separated=params.get("privsep", "1") == "1")
    token.expire = int(params.get("expire", 0))
    call.world.tokens[token.tokenid] = token
    info: dict[str, Any] = {"privsep": params.get("privsep", 1)}
    info |= {key: params[key] for key in ("comment", "expire") if key in params}
    return {"full-tokenid": token.tokenid, "info": info, "value": secret}


@route("DELETE", ONE_TOKEN)
def remove_token(call: Call) -> None:
    del call.world.tokens[_token(call).tokenid]


def _more(call: Call, user: User) -> dict[str, Any]:
    """What is shown of a user beside, where that is asked for."""
    if not call.flag("full"):
        return {}
    tokens = [one for one in call.world.tokens.values() if one.userid == user.userid]
    listed = [{**_token_info(one), "tokenid": one.name} for one in sorted(tokens, key=lambda one: one.name)]
    return {"groups": "", **({"tokens": listed} if listed else {})}


def _user(call: Call) -> User:
    userid = call.params["userid"]
    if userid not in call.world.users:
        raise refused(f"no such user ('{userid}')")
    return call.world.users[userid]


def _tokens(call: Call) -> list[Token]:
    return [one for one in call.world.tokens.values() if one.userid == call.params["userid"]]


def _token(call: Call) -> Token:
    user, name = _user(call), call.params["tokenid"]
    found = next((one for one in _tokens(call) if one.name == name), None)
    if found is None:
        raise refused(f"no such token '{name}' for user '{user.userid}'")
    return found


def _shown(user: User) -> dict[str, Any]:
    return {"enable": int(user.is_enabled), "expire": 0}


def _token_info(token: Token) -> dict[str, Any]:
    return {"expire": token.expire, "privsep": int(token.is_separated)}
