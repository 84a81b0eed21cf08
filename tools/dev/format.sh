# verb: [--check] [files] -- clang-format: the files, or those changed against main
#
# --check changes nothing and fails where something would change. "all" instead of files takes the whole tree.
set -u -o pipefail
. tools/dev/common.sh
install_deps format
mode=(-i)
if [ "${1:-}" = --check ]; then mode=(--dry-run --Werror); shift; fi
if [ "${1:-}" = all ]; then
  mapfile -t files < <(git ls-files '*.cc' '*.h')
elif [ $# -gt 0 ]; then
  files=("$@")
else
  base=$(git merge-base HEAD main 2>/dev/null || git rev-parse HEAD)
  mapfile -t files < <({ git diff --name-only --diff-filter=d "$base"; git ls-files -o --exclude-standard; } |
    grep -E '\.(cc|h)$' | sort -u)
fi
[ "${#files[@]}" -gt 0 ] || { echo "format: no files"; exit 0; }
clang-format-14 "${mode[@]}" "${files[@]}" && echo "format: ${#files[@]} files"
