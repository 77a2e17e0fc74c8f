# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systems that hosts boot: built once with mmdebstrap, then shared read-only."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from . import aptconf
from .preflight import MEGABYTE, require_space
from .problems import LabError, say
from .processes import read_json, remove_tree, run, write_json

IMAGE_VERSION = 1
BASE = [
    "systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "python3", "iproute2", "iputils-ping",
    "kmod", "procps", "udev", "ca-certificates", "nftables", "netbase",
]  # fmt: skip
GUEST = ["initramfs-tools", "busybox", "zstd"]
RDMA = ["rdma-core", "ibverbs-utils", "ibverbs-providers", "perftest"]
# What a host needs to compile: the compiler, and the headers of its own Python.
BUILD = ["g++", "libpython3-dev"]
# Other managers of the network than the lab's own.
NETWORK = ["netplan.io", "ifupdown"]
VARIANTS = {"rdma": RDMA, "build": BUILD, "network": NETWORK}
BUILD_BYTES = {"nspawn": 900 * MEGABYTE, "qemu": 4000 * MEGABYTE}
GUEST_DISK_BYTES = 20 * 1024 * MEGABYTE

# A real host's periodic jobs would count as attempts to leave the lab; the host itself looks after
# its network, and makes its ssh host keys and machine id when it is created, not here.
CUSTOMIZE = r"""
set -e
chroot "$1" systemctl enable systemd-networkd.service ssh.service
chroot "$1" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  fstrim.timer systemd-networkd-wait-online.service
rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/hostname "$1"/etc/resolv.conf
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin
: >"$1"/etc/machine-id
mkdir -p "$1"/etc/ssh/sshd_config.d
printf 'PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\nMaxStartups 100\n' \
  >"$1"/etc/ssh/sshd_config.d/10-lab.conf
"""

# A guest finds its own files in its initial RAM disk, and takes them over at its first boot.
SEED_SCRIPT = r"""#!/bin/sh
set -e
[ "$1" = prereqs ] && exit 0
[ -d /lab-seed ] && [ ! -e "$rootmnt/var/lib/lab-seeded" ] || exit 0
cp -a /lab-seed/. "$rootmnt/"
: >"$rootmnt/var/lib/lab-seeded"
sync
"""

SEED_HOOK = f"""
set -e
mkdir -p "$1"/etc/initramfs-tools/scripts/init-bottom
cat >"$1"/etc/initramfs-tools/scripts/init-bottom/lab-seed <<'SCRIPT'
{SEED_SCRIPT}SCRIPT
chmod 755 "$1"/etc/initramfs-tools/scripts/init-bottom/lab-seed
printf 'virtio_pci\nvirtio_net\nvirtio_blk\next4\n' >>"$1"/etc/initramfs-tools/modules
printf 'MODULES=list\n' >"$1"/etc/initramfs-tools/conf.d/lab
chroot "$1" update-initramfs -u -k all
printf '/dev/vda / ext4 errors=remount-ro 0 1\n' >"$1"/etc/fstab
"""


def cache_directory() -> Path:
    said = os.environ.get("BAREMETAL_CACHE")
    base = (
        Path(said)
        if said
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "baremetal-sglang"
    )
    return base / "images"


@dataclass(frozen=True)
class Recipe:
    """All that an image is made of; its hash is the image's name in the cache."""

    image: str
    kind: str
    codename: str
    architecture: str
    packages: tuple[str, ...]
    hooks: tuple[str, ...]
    version: int = IMAGE_VERSION

    @property
    def key(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.image}-{self.kind}-{digest}"


@dataclass(frozen=True)
class Image:
    """A finished image: `root` is the tree of an nspawn host, `disk`, `kernel`, `initrd` are a guest's."""

    recipe: Recipe
    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def disk(self) -> Path:
        return self.directory / "disk.raw"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.img"


def recipe_for(image: str, kind: str) -> Recipe:
    release, _unused, variant = image.rpartition("-") if image.count("-") > 1 else (image, "", "")
    architecture = run(["dpkg", "--print-architecture"]).stdout.strip()
    packages = [*BASE, *VARIANTS.get(variant, [])]
    hooks = [CUSTOMIZE]
    if kind == "qemu":
        packages += [*GUEST, f"linux-image-{architecture}"]
        hooks.append(SEED_HOOK)
    return Recipe(image, kind, aptconf.CODENAMES[release], architecture, tuple(packages), tuple(hooks))


def find(image: str, kind: str) -> Image | None:
    recipe = recipe_for(image, kind)
    directory = cache_directory() / recipe.key
    return Image(recipe, directory) if (directory / "image.json").exists() else None


def get(image: str, kind: str) -> Image:
    """The image from the cache, or built now."""
    recipe = recipe_for(image, kind)
    with _only_builder(recipe.key):
        found = find(image, kind)
        return found or _build(recipe)


@contextmanager
def _only_builder(key: str) -> Iterator[None]:
    """One build of an image at a time on this machine. The builder's children hold the lock as well,
    so that one whose parent was killed is waited for and not built over."""
    cache_directory().mkdir(parents=True, exist_ok=True)
    descriptor = os.open(cache_directory() / f".{key}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(descriptor, True)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("images", f"waiting for another build of {key}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _build(recipe: Recipe) -> Image:
    directory = cache_directory() / recipe.key
    beside = cache_directory() / f".{recipe.key}.building"
    if beside.exists():
        say("images", f"removing a build of {recipe.key} that was interrupted")
        remove_tree(beside)
    require_space(cache_directory(), BUILD_BYTES[recipe.kind], f"the image {recipe.image}")
    started = time.monotonic()
    say(
        "images",
        f"building {recipe.image} for {recipe.kind} ({recipe.codename}, {len(recipe.packages)} packages and what they need)",
    )
    beside.mkdir(parents=True)
    (beside / "root").mkdir(mode=0o755)
    _debootstrap(recipe, beside / "root")
    if recipe.kind == "qemu":
        _make_disk(beside)
    write_json(beside / "image.json", {**asdict(recipe), "built": int(time.time())})
    remove_tree(directory)
    beside.rename(directory)
    say("images", f"built {recipe.image} in {time.monotonic() - started:.0f} s: {directory}")
    return Image(recipe, directory)


def _debootstrap(recipe: Recipe, root: Path) -> None:
    options = ['Acquire::Languages "none";', *aptconf.acquire_options()]
    command = [
        # mmdebstrap mounts this machine's /sys and /dev/shm in the tree. In namespaces of its own they go
        # with it, however it ends; and it ends with us.
        "setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--pid", "--fork",
        "--kill-child", "--mount-proc", "mmdebstrap", "--mode=root", "--variant=minbase", "--quiet",
        f"--architectures={recipe.architecture}", f"--include={','.join(recipe.packages)}",
        *[f"--aptopt={option}" for option in options],
        *[f"--customize-hook={hook}" for hook in recipe.hooks],
        '--dpkgopt=path-exclude=/usr/share/man/*', '--dpkgopt=path-exclude=/usr/share/locale/*',
        '--dpkgopt=path-exclude=/usr/share/doc/*', '--dpkgopt=path-include=/usr/share/doc/*/copyright',
        recipe.codename, str(root), *[source.line for source in aptconf.sources_for(recipe.codename)],
    ]  # fmt: skip
    environment = os.environ | {"TMPDIR": "/tmp", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        close_fds=False,
        env=environment,
    )
    if done.returncode != 0:
        said = "\n  ".join(done.stderr.strip().splitlines()[-12:])
        raise LabError(f"mmdebstrap could not build {recipe.image}:\n  {said}")


def _make_disk(directory: Path) -> None:
    """A sparse disk with the tree in it; the kernel and its initial RAM disk stay beside it."""
    root = directory / "root"
    for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd.img", "initrd.img-*")):
        newest = max((root / "boot").glob(pattern), key=lambda path: path.stat().st_mtime)
        shutil.copy2(newest, directory / name)
    disk = directory / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(GUEST_DISK_BYTES)
    run(["mkfs.ext4", "-q", "-F", "-L", "root", "-E", "lazy_itable_init=1", "-d", root, disk])
    remove_tree(root)


def listing() -> list[dict[str, object]]:
    """What the cache holds."""
    found = []
    for path in sorted(cache_directory().glob("*/image.json")):
        made = read_json(path)
        size = sum(p.lstat().st_blocks * 512 for p in path.parent.rglob("*"))
        found.append(
            {
                "key": path.parent.name,
                "image": made["image"],
                "kind": made["kind"],
                "bytes": size,
                "built": made["built"],
            }
        )
    return found
