#!/bin/sh
# Put promtool of Debian's package prometheus into a folder: sh tools/promtool.sh FOLDER. The package is not installed,
# since that would start a server.
set -e
place=$(cd "$1" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; } >/dev/null 2>&1
dpkg --fsys-tarfile prometheus_*.deb | tar -xf - ./usr/bin/promtool
mv usr/bin/promtool "$place/"
