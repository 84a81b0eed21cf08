# verb: [--out FOLDER] -- builds the Debian package into build/package/
# offered-if: [ -f src/node/CMakeLists.txt ]
#
# Builds the programs and manuals in build/, then a .deb from what `cmake --install` gives. The version is CMakeLists.txt's, with the commit behind it.
set -eu -o pipefail
. tools/dev/common.sh
out=build/package
if [ "${1:-}" = --out ]; then out=$2; fi
take_flavour
install_deps build package
configure_and_build holdfastd holdfast holdfast-holder holdfast-pool manuals
version=$(sed -n 's/^project(holdfast VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
commit=$(git rev-parse --short=10 HEAD 2>/dev/null || echo unknown)
stamp=$(git log -1 --format=%ct 2>/dev/null || date +%s)
step "package holdfast $version+git$(date -u -d "@$stamp" +%Y%m%d%H%M).$commit"
# An own folder below the build folder: dpkg-buildpackage puts its results beside the source.
work=$(mktemp -d "$PWD/build/package-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/holdfast" "$out"
cp -r deploy/debian "$work/holdfast/debian"
cat >"$work/holdfast/debian/changelog" <<CHANGELOG
holdfast ($version+git$(date -u -d "@$stamp" +%Y%m%d%H%M).$commit) bookworm; urgency=medium

  * Built from commit $commit.

 -- The Holdfast maintainers <maintainers@holdfast.invalid>  $(date -u -R -d "@$stamp")
CHANGELOG
(cd "$work/holdfast" && HOLDFAST_BUILD_DIR=$OLDPWD/build SOURCE_DATE_EPOCH=$stamp \
  dpkg-buildpackage -b -us -uc -d >"$work/log" 2>&1) || { tail -n 40 "$work/log" >&2; fail "the package could not be built (above)"; }
rm -f "$out"/holdfast_*.deb
cp "$work"/holdfast_*.deb "$out/"
ls -l "$out"/holdfast_*.deb
