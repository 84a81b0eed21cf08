#!/bin/bash
# The 6.12 machine has ublk and kernel NBD, and fio and mkfs.xfs run in it.
set -eux
modprobe ublk_drv
[ -c /dev/ublk-control ]
modprobe nbd
[ -b /dev/nbd0 ]
mkfs.xfs -q "$MACHINE_DISK0"
mount "$MACHINE_DISK0" /mnt
fio --name=smoke --filename=/mnt/f --size=8M --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8 \
  --verify=crc32c --output=/run/fio
umount /mnt
