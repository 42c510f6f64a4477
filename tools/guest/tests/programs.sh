#!/bin/sh
# What people run on a file system, each with sums compared or its own verification: a line for each.
cache=$(sed -n "s/.*cache=\([a-z]*\).*/\1/p" /given/settings)
cd /mnt || exit 1
export HOME=/tmp GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
sources=$(dirname /usr/lib/python3*/email)
failed=0
try() { # NAME COMMAND...
  name=$1
  shift
  if "$@" > /tmp/log 2>&1; then echo "ok   $name"; else failed=$((failed + 1)); tail -20 /tmp/log; echo "FAIL $name"; fi
}

tree() { # a source tree with links and modes, packed, unpacked and compared
  (cd "$sources" && tar -cf /tmp/tree.tar --exclude=__pycache__ email json http xml asyncio) && mkdir tree && tar -xf /tmp/tree.tar -C tree &&
    (cd "$sources" && find email json http xml asyncio -type f ! -path '*__pycache__*' -exec sha256sum {} +) > /tmp/sums && (cd tree && sha256sum --quiet -c /tmp/sums) &&
    tar -cf - -C tree . | tar -t | wc -l && rm -rf tree
}

clone() {
  git init -q -b main origin && (cd origin && git config user.email a@b && git config user.name a && tar -xf /tmp/tree.tar && git add -A && git commit -qm one && git gc -q) &&
    git clone -q origin copy && (cd copy && git fsck --full --strict && git status --porcelain | (! grep .)) && diff -r --exclude=.git origin copy && rm -rf origin copy
}

database() { # two processes, so many rows of each, in one table; then it is sound
  rm -f db*
  sqlite3 db "PRAGMA journal_mode=$1; CREATE TABLE t (who, n);" || return 1
  for who in 1 2; do
    (i=0; while [ $i -lt 20 ]; do i=$((i + 1)); echo ".timeout 60000"; echo "BEGIN IMMEDIATE; INSERT INTO t VALUES ($who, $i); COMMIT;"; done) | sqlite3 -bail db &
    [ $who = 1 ] && first=$! || second=$!
  done
  wait $first && wait $second && [ "$(sqlite3 db 'SELECT count(*), count(DISTINCT who * 1000 + n) FROM t')" = '40|40' ] && [ "$(sqlite3 db 'PRAGMA integrity_check')" = ok ] && rm -f db*
}

stress() { mkdir -p stress && (cd stress && stress-ng --verify --temp-path . --timeout 8 --metrics-brief "$@") && rm -rf stress; }

try 'a source tree, packed and unpacked' tree
try 'git clone, git fsck' clone
try 'sqlite, rollback journal, two processes' database delete
case $cache in
  mmap | loose) try 'sqlite, WAL, two processes' database wal ;;
esac
try 'stress-ng: names' stress --dentry 1 --dentry-ops 200 --link 1 --link-ops 20 --rename 1 --rename-ops 300 --symlink 1 --symlink-ops 20
try 'stress-ng: directories' stress --dir 1 --dir-ops 100 --dirdeep 1 --dirdeep-dirs 2 --dirdeep-ops 60 --dirmany 1 --dirmany-ops 100
try 'stress-ng: content' stress --hdd 1 --hdd-bytes 4m --hdd-ops 200 --seek 1 --seek-size 4m --seek-ops 200 --readahead 1 --readahead-bytes 4m --readahead-ops 50
try 'stress-ng: attributes' stress --chmod 1 --chmod-ops 20 --chown 1 --chown-ops 50 --utime 1 --utime-ops 100 --xattr 1 --xattr-ops 5 --fstat 1 --fstat-ops 50
try 'stress-ng: locks' stress --flock 2 --flock-ops 50 --lockf 2 --lockf-ops 50 --lockofd 2 --lockofd-ops 50 --locka 2 --locka-ops 50
try 'fio, verified' fio --name=v --directory=/mnt --rw=randwrite --bs=4k-64k --size=8m --verify=crc32c --do_verify=1 --ioengine=psync --fallocate=none --numjobs=2 --group_reporting
rm -f /mnt/v.*
mkdir dbench && try 'dbench' dbench -D dbench -t 8 -c /usr/share/dbench/client.txt 2
rm -rf dbench
[ $failed = 0 ]
