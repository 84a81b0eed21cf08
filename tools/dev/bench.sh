# verb: [arguments] -- measures against the bare device and writes docs/performance.md
# offered-if: [ -x bench/run ]
#
# bench/run --help says more.
set -u -o pipefail
. tools/dev/common.sh
install_deps build run test
take_flavour
configure_and_build
exec bench/run "$@"
