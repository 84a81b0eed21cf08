# verb: [--seconds N] [name …] -- fuzzes the parsers with libFuzzer (clang), each for N seconds (60)
# offered-if: grep -rqs "^hf_fuzzer(" --include=CMakeLists.txt src tests
#
# Builds in build-fuzz with coverage and sanitizers. New inputs are kept in build-fuzz/corpus/<name> and are the start of the next
# run. An input that breaks something is printed, and is to be added to the fuzzer's corpus beside the code: ./dev test replays
# that. ./dev fuzz --list names the fuzzers.
set -u -o pipefail
. tools/dev/common.sh
seconds=60
names=()
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds) seconds=$2; shift ;;
    --list) grep -rhos "^hf_fuzzer([a-z0-9_]*" --include=CMakeLists.txt src tests | cut -d'(' -f2 | sort; exit 0 ;;
    *) names+=("$1") ;;
  esac
  shift
done
[ "${#names[@]}" -gt 0 ] || mapfile -t names < <(bash "$0" --list)
# The folder after CORPUS of a fuzzer's hf_fuzzer(), from the root of the tree.
corpus_of() {
  local file
  file=$(grep -rls "^hf_fuzzer($1\b" --include=CMakeLists.txt src tests) || fail "there is no fuzzer '$1' (./dev fuzz --list)"
  tr '\n' ' ' <"$file" | grep -o "hf_fuzzer($1 [^)]*)" | sed -n "s|.*CORPUS \${CMAKE_CURRENT_SOURCE_DIR}/\([^ )]*\).*|$(dirname "$file")/\1|p"
}
install_deps build fuzz
take_flavour --fuzz
for name in "${names[@]}"; do corpus_of "$name" >/dev/null || exit 1; done
configure_and_build "${names[@]}"
broken=0
for name in "${names[@]}"; do
  step "$name for $seconds s"
  program=$(find build-fuzz -name "$name" -type f -executable | head -1)
  kept=build-fuzz/corpus/$name
  crashes=build-fuzz/crashes/$name
  mkdir -p "$kept" "$crashes"
  if ! "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$crashes/" -print_final_stats=0 -verbosity=0 \
      "$kept" "$(corpus_of "$name")"; then
    broken=$((broken + 1))
    echo "BROKEN: $name; the input lies in $crashes: mend the parser, and add the input to $(corpus_of "$name")"
  else
    echo "good; $(find "$kept" -type f | wc -l) inputs kept in $kept"
  fi
done
[ "$broken" -eq 0 ] || fail "$broken of ${#names[@]} fuzzers found something"
