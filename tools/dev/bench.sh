# verb: [--quick] [--failover] -- measures against the bare device and writes docs/performance.md
# offered-if: [ -x bench/run ]
#
# About ten minutes; --quick takes about three, prints the table and leaves the page alone. --failover measures a cluster of
# three nodes instead (half an hour; --quick five minutes). bench/run --help says more.
set -u -o pipefail
. tools/dev/common.sh
install_deps build run test system
take_flavour
configure_and_build store_bench holdfastd holdfast holdfast-holder
exec bench/run "$@"
