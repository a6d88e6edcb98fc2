#!/bin/sh
# Installs what `quorate-bench compare` measures against: Debian's zookeeper and etcd-server.
#
# Needs root and apt-get. No service is started: the bench starts members of its own, in temporary
# folders on loopback, and ends them.
set -eu

policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
    # 101 forbids maintainer scripts to start what they install.
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    made=yes
fi
restore() { [ -z "$made" ] || rm -f "$policy"; }
trap restore EXIT

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends zookeeper etcd-server default-jre-headless

echo
echo "installed:"
dpkg-query -W -f '  ${Package} ${Version}\n' zookeeper etcd-server
