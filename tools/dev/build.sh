# verb: [--asan|--tsan] [targets] -- builds everything, or the targets, in build/
#
# Installs what the build needs (Debian packages), configures once, then runs ninja.
# --asan and --tsan build with that sanitizer in a folder of their own (build-asan, build-tsan).
set -u -o pipefail
. tools/dev/common.sh
take_flavour "$@"
install_deps build $([ "$FLAVOUR" != tsan ] || echo fuzz)
configure_and_build "${REST[@]}"
