#!/bin/bash
# In the emulated machine: the tests of one kind of kernel export ($KIND), on a disk that can do direct I/O.
set -eu
mkfs.ext4 -q "$MACHINE_DISK0"
mkdir -p /data
mount "$MACHINE_DISK0" /data
export TMPDIR=/data PYTHONDONTWRITEBYTECODE=1
export BLOCK_EXPORT_TOOL=/usr/bin/block_export_tool HOLDFAST_HOLDER=/usr/bin/holdfast-holder
cd /opt/block
# shellcheck disable=SC2086
exec python3 block_machine_test.py ${CASES:-}
