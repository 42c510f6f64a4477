#!/usr/bin/env python3
"""Makes a tree of odd cases: every kind of mode, name, time and size that a copy can lose."""
import os
import sys


def main(top: bytes) -> None:
    os.makedirs(top)
    at = lambda *names: os.path.join(top, *names)

    def file(path: bytes, data: bytes = b"", mode: int = 0o644, ns: int = 1_600_000_000_123_456_789) -> None:
        with open(path, "wb") as out:
            out.write(data)
        os.chmod(path, mode)
        os.utime(path, ns=(ns, ns))

    os.mkdir(at(b"modes"))
    for mode in [0o0, 0o1, 0o7, 0o70, 0o100, 0o222, 0o400, 0o444, 0o555, 0o600, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o7777]:
        file(at(b"modes", b"%04o" % mode), b"mode %o\n" % mode, mode)
    os.mkdir(at(b"names"))
    for name in [b"n" * 255, b"\xff\xfe\x80", b"new\nline", b"tab\tand space", b" ", b"-rf", b"*", b"\\", b'"quoted"', "übung".encode()]:
        file(at(b"names", name), name)
    os.mkdir(at(b"times"))
    for n, ns in enumerate([0, 1, 999_999_999, 1_000_000_000, 2_147_483_647_999_999_999, 4_102_444_800_000_000_001]):
        file(at(b"times", b"%d" % n), b"", ns=ns)
    os.mkdir(at(b"sizes"))
    for size in [0, 1, 63, 64, 65, 4095, 4096, 4097, 65535, 65536, 65537, 1048551, 1048552, 1048553, 3_000_001]:
        file(at(b"sizes", b"%d" % size), os.urandom(size))
    os.mkdir(at(b"links"))
    for name, target in [(b"dangling", b"nowhere"), (b"up", b"../modes"), (b"long", b"x/" * 2000), (b"odd", b"\xff\n"), (b"self", b"self")]:
        os.symlink(target, at(b"links", name))
        os.utime(at(b"links", name), ns=(5_000_000_001, 7_000_000_002), follow_symlinks=False)
    deep = top
    for n in range(40):
        deep = os.path.join(deep, b"d%d" % n)
        os.mkdir(deep)
    file(os.path.join(deep, b"bottom"), b"deep\n")
    os.mkdir(at(b"many"))
    for n in range(2000):
        file(at(b"many", b"%d" % n), b"")
    os.mkdir(at(b"empty"))
    with open(at(b"sparse"), "wb") as out:
        for offset in [0, 1 << 20, (40 << 20) + 5, (64 << 20) - 100_000]:
            out.seek(offset)
            out.write(os.urandom(5000))
        out.truncate(64 << 20)
    # Directories that nobody may write, last: their contents are there already.
    os.mkdir(at(b"closed"))
    file(at(b"closed", b"inside"), b"inside\n")
    for name, mode in [(b"closed", 0o555), (b"empty", 0o0), (b"many", 0o1777), (b"names", 0o2711)]:
        os.chmod(at(name), mode)
    for name in [b"modes", b"closed", b"empty"]:
        os.utime(at(name), ns=(1, 1_234_567_890_987_654_321))


main(os.fsencode(sys.argv[1]))
