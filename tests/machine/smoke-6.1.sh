#!/bin/bash
# The 6.1 machine has kernel NBD, and fio and mkfs.xfs run in it.
set -eux
modprobe nbd
[ -b /dev/nbd0 ]
nbdkit -U /run/nbd.sock --run 'nbd-client -unix /run/nbd.sock /dev/nbd0 -b 4096 && blockdev --getsize64 /dev/nbd0 && nbd-client -d /dev/nbd0' memory 64M
mkfs.xfs -q "$MACHINE_DISK0"
mount "$MACHINE_DISK0" /mnt
fio --name=smoke --filename=/mnt/f --size=8M --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8 \
  --verify=crc32c --output=/run/fio
umount /mnt
