#!/bin/sh
# pjdfstest as root on /mnt, or on a tmpfs of the guest ("tmpfs" as first argument): what fails and what is skipped, by name.
umask 0
[ "$1" = tmpfs ] && mount -t tmpfs tmpfs /mnt
mkdir /mnt/pjdfstest /tmp/second
mount -t tmpfs second /tmp/second
/given/pjdfstest -c /given/pjdfstest.toml -p /mnt/pjdfstest -s /tmp/second > /tmp/out 2>&1
code=$?
grep -A4 -E ' FAILED$| skipped$|^Summary' /tmp/out
rm -rf /mnt/pjdfstest
exit $code
