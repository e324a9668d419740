"""The files that k3s's install script writes besides the binary."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_UNIT = """[Unit]
Description=Lightweight Kubernetes
Documentation=https://k3s.io
Wants=network-online.target
After=network-online.target

[Install]
WantedBy=multi-user.target

[Service]
Type={type}
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-{environment}
KillMode=process
Delegate=yes
User=root
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart={binary} \\
    {command}
"""

KILLALL = """#!/bin/sh
[ $(id -u) -eq 0 ] || exec sudo $0 $@

for service in k3s k3s-agent; do
    [ -s /etc/systemd/system/$service.service ] && systemctl stop $service
done

rm -rf /run/k3s /run/flannel /var/lib/cni/
"""

_UNINSTALL = """#!/bin/sh
set -x
[ $(id -u) -eq 0 ] || exec sudo $0 $@

{bin_dir}/k3s-killall.sh

systemctl disable {name}
systemctl reset-failed {name}
systemctl daemon-reload

rm -f {unit_path}
rm -f {unit_path}.env

if [ -e /etc/systemd/system/k3s.service ] || [ -e /etc/systemd/system/k3s-agent.service ]; then
    set +x; echo 'Additional k3s services installed, skipping uninstall of k3s'
    rm -f {bin_dir}/{name}-uninstall.sh
    exit
fi

for cmd in kubectl crictl ctr; do
    rm -f {bin_dir}/$cmd
done

rm -rf /etc/rancher/k3s
rm -rf /run/k3s
rm -rf /run/flannel
rm -rf /var/lib/rancher/k3s
rm -rf /var/lib/kubelet
rm -f {bin_dir}/k3s
rm -f {bin_dir}/k3s-killall.sh
rm -f {bin_dir}/{name}-uninstall.sh
"""


def unit_text(unit_path: str, binary: str, words: Sequence[str], kind: str = "notify") -> str:
    """The unit of one service, which starts the binary with these words."""
    command, *arguments = words
    lines = "".join(f"\t{shlex.quote(word)} \\\n" for word in arguments)
    return _UNIT.format(type=kind, environment=f"{unit_path}.env", binary=binary, command=f"{command} \\\n{lines}")


def uninstall_text(name: str, bin_dir: str, unit_path: str) -> str:
    """The uninstall script of one service; /etc/rancher/node stays, as with the real one."""
    return _UNINSTALL.replace("{name}", name).replace("{bin_dir}", bin_dir).replace("{unit_path}", unit_path)
