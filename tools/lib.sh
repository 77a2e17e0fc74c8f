# Shared by the scripts beside it: where things are, how we speak, what Debian must give.
# shellcheck shell=bash
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV="$ROOT/.venv"
BAREMETAL_CACHE=${BAREMETAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/baremetal-sglang}
export ROOT VENV BAREMETAL_CACHE
# With it each of hundreds of Python processes would compile the same modules again.
unset PYTHONDONTWRITEBYTECODE

say() { printf '\033[1m%s\033[0m\n' "== $*" >&2; }
die() {
  printf 'STOPPED  %s\n' "$*" >&2
  exit 1
}

# packages_for PROFILE: the Debian packages that bindep.txt lists for it.
packages_for() {
  sed -n "s/^\([a-z0-9.+-]*\) .*[[ ]$1[] ].*/\1/p" "$ROOT/bindep.txt"
}

# need_packages PROFILE: installs what is missing as root, otherwise prints the line to paste.
need_packages() {
  local missing=() package
  command -v dpkg-query >/dev/null || die "this is not a Debian family machine: install by hand what bindep.txt lists for '$1'"
  for package in $(packages_for "$1"); do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" = 0 ] || die "these Debian packages are missing; paste: sudo apt-get install --yes ${missing[*]}"
  say "installing from Debian: ${missing[*]}"
  apt-get -qq update || say "apt-get update failed; trying with the lists that are here"
  DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get could not install: ${missing[*]}"
}

# claim FOLDER: one that is new or empty is ours, and may be removed as a whole later.
claim() {
  mkdir -p "$1"
  [ -n "$(ls -A "$1")" ] || touch "$1/.baremetal-sglang"
}

# remove FOLDER DEFAULT: whoever names a folder that held other things before keeps it.
remove() {
  if [ "$1" = "$2" ] || [ -e "$1/.baremetal-sglang" ]; then
    rm -rf "$1"
  elif [ -e "$1" ]; then
    say "$1 stays: it held other things before the demo; look into it and remove what is not yours"
  fi
}
