"""The text that stands in for k3s's install script: it calls a command that only guests of the lab have."""

INSTALL_SCRIPT = r"""#!/bin/sh
set -e
set -o noglob

# Stand-in for the install script of k3s (https://get.k3s.io), served by pvelab.
# It installs nothing by itself. Guests of the lab have a command, pvelab-k3s-install, that does what
# the real script does as seen from outside: downloads, files, units, messages, exit codes.
# Anywhere else this file ends with an error and changes nothing.
#
# Usage:
#   curl ... | ENV_VAR=... sh -
#       or
#   ENV_VAR=... ./install.sh
#
# Environment variables:
#   - K3S_*
#     Kept for the service in its environment file. K3S_URL without a command makes it an agent,
#     and then K3S_TOKEN or K3S_TOKEN_FILE is required.
#   - INSTALL_K3S_SKIP_DOWNLOAD
#     true: neither hash nor binary is downloaded. Also: binary, selinux.
#   - INSTALL_K3S_FORCE_RESTART
#     true: the service is restarted even if nothing changed.
#   - INSTALL_K3S_SYMLINK
#     skip: no links for kubectl, crictl, ctr; force: existing ones are replaced.
#   - INSTALL_K3S_SKIP_ENABLE
#     true: the service is neither enabled nor started.
#   - INSTALL_K3S_SKIP_START
#     true: the service is not started.
#   - INSTALL_K3S_VERSION
#     The version to download; otherwise that of the channel.
#   - INSTALL_K3S_BIN_DIR, INSTALL_K3S_BIN_DIR_READ_ONLY
#     Where the binary, links and uninstall script go (/usr/local/bin).
#   - INSTALL_K3S_SYSTEMD_DIR
#     Where the unit and its environment file go (/etc/systemd/system).
#   - INSTALL_K3S_EXEC or script arguments
#     The command (server or agent) and its flags.
#   - INSTALL_K3S_NAME
#     Name of the service, after the prefix k3s-.
#   - INSTALL_K3S_TYPE
#     Type of the service (notify).
#   - INSTALL_K3S_SELINUX_WARN, INSTALL_K3S_SKIP_SELINUX_RPM
#     Of no effect on systems without SELinux.
#   - INSTALL_K3S_CHANNEL_URL (https://update.k3s.io/v1-release/channels), INSTALL_K3S_CHANNEL (stable)
#   - INSTALL_K3S_ARTIFACT_URL (https://github.com/k3s-io/k3s/releases/download)
#     Where releases are: PREFIX/VERSION/FILE, the version URL-encoded. GITHUB_URL, its elder sister,
#     is the prefix of PREFIX/download/VERSION/FILE.

fatal()
{
    echo '[ERROR] ' "$@" >&2
    exit 1
}

# --- run the install process --
{
    command -v pvelab-k3s-install >/dev/null 2>&1 || fatal 'This stand-in works only in guests of pvelab'
    pvelab-k3s-install "$@"
}
"""

CHANNEL_URL = "https://update.k3s.io/v1-release/channels"
ARTIFACT_URL = "https://github.com/k3s-io/k3s/releases/download"
