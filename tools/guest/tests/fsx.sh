#!/bin/sh
# fsx, so many operations (the first argument) with shared mappings (the second: 10) or without (0). Three seeds, a third each.
cat > /tmp/fsx.toml <<END
flen = 1000000
[opsize]
max = 200000
[weights]
close_open = 1
invalidate = $(($2 / 10))
mapread = $2
mapwrite = $2
read = 10
write = 10
truncate = 5
fsync = 1
fdatasync = 1
sendfile = 2
copy_file_range = 2
posix_fadvise = 1
END
for seed in 1 2 3; do
  /given/fsx -q -N $(($1 / 3)) -S "$seed" -f /tmp/fsx.toml -P /tmp "/mnt/fsx.$seed" > /tmp/fsx.log 2>&1 || { tail -30 /tmp/fsx.log; echo "seed $seed: FAILED"; exit 1; }
  echo "seed $seed: ok"
  rm "/mnt/fsx.$seed"
done
