# verb: [arguments] -- runs the conformance suites of other projects against the daemon
# offered-if: [ -x tests/conformance/run ]
#
# tests/conformance/run --help says more.
set -u -o pipefail
. tools/dev/common.sh
install_deps build run test
take_flavour
configure_and_build
exec tests/conformance/run "$@"
