#!/bin/bash
# Installs the Debian packages that a step needs, by group, and says which and why.
#
#   tools/deps.sh GROUP…          install what is missing (quick and without a network when nothing is)
#   tools/deps.sh --check GROUP…  print what is missing; exit 1 if anything is
#   tools/deps.sh --list          print the table
#
# Exit: 0 all there, 1 something is missing and could not be installed, 2 wrong use.
# HOLDFAST_NO_INSTALL=1 turns an install into a --check, for machines that somebody else administers.
# The table below is the one list of packages: docs/dependencies.md says what each library is for.
set -u -o pipefail

# group    package                  why
packages() {
  cat <<'TABLE'
build      build-essential          compiler (gcc 12) and make
build      cmake                    build
build      ninja-build              build
build      ccache                   build: recompiles only what changed, across branches
build      pkg-config               build: finds libraries
build      git                      build: version stamp
build      python3                  tidy test and system tests (standard library, psycopg2, grpcio)
build      liburing-dev             io_uring
build      libgrpc++-dev            gRPC server and client
build      libprotobuf-dev          gRPC messages
build      protobuf-compiler        gRPC messages
build      protobuf-compiler-grpc   gRPC services
build      libsqlite3-dev           embedded state store
build      libssl-dev               certificates and TLS
build      libboost1.81-dev         HTTP server (Beast)
build      nlohmann-json3-dev       JSON
build      libtomlplusplus-dev      configuration file
build      libcli11-dev             command line
build      libspdlog-dev            log
build      libfmt-dev               text formatting
build      prometheus-cpp-dev       metrics
build      libisal-dev              CRC32C
build      libsystemd-dev           readiness
build      libgtest-dev             unit tests (built with the product: one CMake tree)
build      libgmock-dev             unit tests
build      librapidcheck-dev        property tests
build      libbenchmark-dev         micro-benchmarks
run        e2fsprogs                mkfs and fsck of ext4 volumes
run        xfsprogs                 mkfs of pools and of xfs volumes
run        btrfs-progs              mkfs of btrfs volumes
run        util-linux               losetup, mount, nsenter
run        kmod                     loads the kernel's block export modules
test       libnbd-bin               nbdinfo, nbdcopy: a foreign NBD client for our server
test       libnbd-dev               a foreign NBD client for our server
test       nbdkit                   a foreign NBD server for our client
test       qemu-utils               qemu-img: one more foreign NBD client
test       fio                      load with verification
test       curl                     HTTP checks
test       etcd-server              a real etcd behind the state room's tests
test       etcd-client              compaction, alarms and users from outside of our client
test       openssl                  certificates for tests over TLS
test       fish                     its completion of our command line
test       zsh                      its completion of our command line
test       spin                     model checker of the replication protocol
system     docker.io                a real Docker engine, started by the tests in folders of their own
system     runc                     containers
system     busybox-static           smallest container image
system     mmdebstrap               builds the PostgreSQL image and the clean machine for package tests
system     python3-psycopg2         PostgreSQL client of the durability ledger
system     python3-grpcio           CSI client of the tests
system     python3-protobuf         its messages
system     iproute2                 namespaces of several hosts
fuzz       clang-19                 libFuzzer and ThreadSanitizer builds
fuzz       libclang-rt-19-dev       sanitizer run time
fuzz       libfuzzer-19-dev         libFuzzer
format     clang-format-14          ./dev format
machine    qemu-system-x86          emulated machine with a kernel that has NBD and ublk
machine    mmdebstrap               its root file system
machine    cpio                     its initrd
machine    busybox-static           its initrd
machine    e2fsprogs                its disk images
package    debhelper                ./dev package
package    dpkg-dev                 ./dev package
package    fakeroot                 ./dev package
package    mmdebstrap               the clean machine that the package is installed on
package    lintian                  checks the package that is made
TABLE
}

say() { printf 'deps: %s\n' "$*"; }
die() { printf 'deps: %s\n' "$*" >&2; exit 1; }
usage() {
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  echo "groups: $(packages | awk '{print $1}' | uniq | tr '\n' ' ')" >&2
  exit 2
}

is_group() { packages | awk -v g="$1" '$1 == g {found = 1} END {exit !found}'; }

# Prints "package<TAB>why" for what is not installed, in the order of the table, once each.
missing_of() {
  local wanted installed
  wanted=$(packages | awk -v groups=" $* " 'index(groups, " " $1 " ") && !seen[$2]++ {print $2}')
  # One call for all: dpkg-query fails for unknown names but still lists the known ones.
  # shellcheck disable=SC2086
  installed=" $(dpkg-query -W -f='${db:Status-Status} ${Package}\n' $wanted 2>/dev/null |
    awk '$1 == "installed" {print $2}' | tr '\n' ' ')"
  packages | awk -v groups=" $* " -v installed="$installed" '
    index(groups, " " $1 " ") && !index(installed, " " $2 " ") && !seen[$2]++ {
      why = $0; sub(/^[^ ]+ +[^ ]+ +/, "", why); printf "%s\t%s\n", $2, why }'
}

# apt's view of Debian's own archive only, so that a third-party source that is away, slow or signed
# with an expired key neither fails nor delays us. Falls back to all sources where none looks like Debian's.
debian_sources() {
  local dir=$1 file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] && grep -Eq '^[^#]*(debian\.org|/debian)' "$file" && cp "$file" "$dir/"
  done
  [ -n "$(ls -A "$dir")" ]
}

apt() {
  local -a options=(-o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30
    -o DPkg::Lock::Timeout=600 -o APT::Get::List-Cleanup=0 -o Dpkg::Use-Pty=0)
  if [ -n "${sources_dir:-}" ]; then
    options+=(-o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$sources_dir")
  fi
  DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" "$@" </dev/null
}

install_packages() {
  [ "$(id -u)" -eq 0 ] || die "installing packages needs root. Run: sudo apt-get install $*"
  command -v apt-get >/dev/null || die "this is not Debian (no apt-get); install by your own means what provides: $*"
  scratch=$(mktemp -d)  # global: the trap needs it
  trap 'rm -rf "$scratch"' EXIT
  exec 7>/run/lock/holdfast-deps.lock && flock 7
  mkdir "$scratch/sources"
  sources_dir="$scratch/sources"
  debian_sources "$sources_dir" || sources_dir=
  # Without an update first: lists that are there usually serve, and it saves a minute.
  if apt install -y --no-install-recommends "$@" >"$scratch/log" 2>&1; then return 0; fi
  say "package lists are missing or old: apt-get update"
  apt update >"$scratch/update.log" 2>&1 || true
  if apt install -y --no-install-recommends "$@" >"$scratch/log" 2>&1; then return 0; fi
  tail -n 15 "$scratch/log" | sed 's/^/  apt: /' >&2
  if grep -Eqi 'could not resolve|temporary failure|unable to connect|connection (timed out|refused|failed)' \
      "$scratch/update.log" "$scratch/log"; then
    die "Debian's archive cannot be reached (no network?). Needed: $*"
  fi
  die "apt-get could not install: $*"
}

mode=install
case "${1:-}" in
  --list) packages; exit 0 ;;
  --check) mode=check; shift ;;
  -h | --help | "") usage ;;
esac
[ -z "${HOLDFAST_NO_INSTALL:-}" ] || mode=check
[ $# -gt 0 ] || usage
for group in "$@"; do
  is_group "$group" || { echo "deps: no group '$group'" >&2; usage; }
done
command -v dpkg-query >/dev/null ||
  die "this is not Debian (no dpkg-query); the list of what is needed: tools/deps.sh --list"

missing=$(missing_of "$@")
[ -n "$missing" ] || exit 0
while IFS=$'\t' read -r package why; do
  if [ "$mode" = check ]; then say "missing: $package ($why)"; else say "installing $package ($why)"; fi
done <<<"$missing"
[ "$mode" = install ] || exit 1
# shellcheck disable=SC2046
install_packages $(cut -f1 <<<"$missing")
still=$(missing_of "$@" | cut -f1 | tr '\n' ' ')
[ -z "$still" ] || die "still missing after the installation: $still"
