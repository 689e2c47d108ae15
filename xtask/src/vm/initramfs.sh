#!/bin/busybox sh
# The first thing that a guest runs: load what the disk needs, mount it, and go on there.
bb=/bin/busybox
$bb mount -t devtmpfs dev /dev
$bb mount -t proc proc /proc
while read -r module; do
    case $module in
    *.xz) $bb xzcat "/modules/$module" >/module.ko && $bb insmod /module.ko ;;
    *) $bb insmod "/modules/$module" ;;
    esac || echo "vm: cannot load $module"
done </modules/order
tries=0
until [ -b /dev/vda ] || [ $tries -ge 100 ]; do
    $bb sleep 0.1
    tries=$((tries + 1))
done
$bb mount -t ext4 -o noatime /dev/vda /disk || echo "vm: cannot mount the disk"
$bb umount /proc
$bb mount --move /dev /disk/dev
exec $bb switch_root /disk /init
