#!/bin/sh
# What a guest does: run each line of the suite (a test binary and its arguments), say what became of it, and end.
export PATH=/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin HOME=/root TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
# Whatever this machine has no command of its own for.
busybox --install -s /usr/local/bin
ip link set lo up
export TCP_OBSERVER_BIN=/tests/tcp-observer TCP_OBSERVER_EBPF_OBJECT=/tests/tcp-observer-ebpf
echo "vm: $(uname -r), $(grep -c ^processor /proc/cpuinfo) CPUs, $(cut -d' ' -f1 /proc/uptime) s after its start"
# Variables of the suite's own come first, then the binaries.
while read -r name arguments; do
    case $name in
    *=*)
        export "${name?}"
        continue
        ;;
    esac
    echo "vm: $name $arguments"
    # shellcheck disable=SC2086
    "/tests/$name" $arguments </dev/null 2>&1
    echo "vm: $name ended with $?"
done </tests/suite
echo "vm: all is done"
busybox poweroff -f
