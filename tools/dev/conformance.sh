# verb: [--csi-sanity PATH] -- runs the conformance suites of other projects against the daemon
# offered-if: [ -x tests/conformance/run ]
#
# tests/conformance/run --help says more.
set -u -o pipefail
. tools/dev/common.sh
# What is not there needs no build to be skipped.
if [ "${1:-}" != --csi-sanity ] || [ ! -x "${2:-}" ]; then exec tests/conformance/run "$@"; fi
install_deps build run test system
take_flavour
configure_and_build
exec tests/conformance/run "$@"
