# verb: [--asan|--tsan] [room[:name] …] -- builds and runs all tests, or those of a room, by name
#
#   ./dev test                   everything: unit, system (root, a real Docker engine) and emulated-machine tests
#   ./dev test base              the tests of src/base
#   ./dev test base:Crc          those of src/base whose name contains "Crc"
#   ./dev test system            the system tests; system:docker those whose name contains "docker"
#   ./dev test --list            what there is
#
# Installs what the tests need. Tests that this machine cannot run are skipped and listed with the reason.
# The last line is "N passed, N failed, N skipped"; exit 0 only where none failed.
# HOLDFAST_TEST_MINUTES limits the whole run; what did not get its turn counts as failed.
set -u -o pipefail
. tools/dev/common.sh
started=$(date +%s)
take_flavour "$@"
groups=(build run test)
case " ${REST[*]-} " in
  "  " | *" system"* | *" machine"*) groups+=(system machine) ;;
esac
[ -f deploy/debian/control ] && groups+=(package)
[ "$FLAVOUR" != tsan ] || groups+=(fuzz)
step "packages for: ${groups[*]}"
if [ "$(id -u)" -ne 0 ] && ! tools/deps.sh --check "${groups[@]}"; then
  echo "dev: not root, so nothing can be installed; going on with what is there"
else
  install_deps "${groups[@]}"
fi
# A room's own tests need only what the room needs; the whole-system ones need all.
targets=()
for filter in "${REST[@]}"; do
  if [ -f "src/${filter%%:*}/CMakeLists.txt" ]; then
    targets+=("src/${filter%%:*}/all")
  else
    targets=()
    break
  fi
done
configure_and_build "${targets[@]}"
step "test"
exec /usr/bin/python3 tools/dev/run_tests.py --build "$BUILD_DIR" --started "$started" "${REST[@]}"
