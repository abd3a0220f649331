#!/usr/bin/env bash
# Real object stores for the tests: Ceph's S3 gateway, Swift with its S3 gate, Azurite. Quick if they are there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

azurite=3.35.0
packages=(radosgw ceph-mon ceph-osd ceph-mgr ceph-common swift-proxy swift-account swift-container swift-object memcached)
command -v node >/dev/null && command -v npm >/dev/null || packages+=(nodejs npm)

missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || { echo "install by hand: ${missing[*]}" >&2; exit 1; }
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update --quiet
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
fi

if [ ! -e ".servers/azurite-$azurite" ]; then
    mkdir -p .servers
    echo '{"private": true}' >.servers/package.json
    npm install --prefix .servers --no-save --no-package-lock --ignore-scripts --no-audit --no-fund "azurite@$azurite"
    touch ".servers/azurite-$azurite"
fi
echo "the object stores that tests need are installed"
