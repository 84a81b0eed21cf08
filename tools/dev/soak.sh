# verb: [--minutes N] [room[:name] …] -- runs the simulations with new seeds for N minutes each (10)
# offered-if: grep -rqs "run_seeds(" --include=*_test.cc src tests
#
# Every test that works through seeds goes on with further ones until its time is over; a failure prints the seed and the command
# that repeats it. The first seed comes from the clock (HF_SEED=… sets it).
set -u -o pipefail
. tools/dev/common.sh
minutes=10
filters=()
while [ $# -gt 0 ]; do
  case "$1" in
    --minutes) minutes=$2; shift ;;
    *) filters+=("$1") ;;
  esac
  shift
done
take_flavour
install_deps build
configure_and_build
mapfile -t programs < <(/usr/bin/python3 - "${filters[@]}" <<'PY'
import os, sys
sys.path.insert(0, "tools/dev")
import run_tests
tests = run_tests.read_tests("build")
if sys.argv[1:]:
    tests = run_tests.select(tests, sys.argv[1:])[0]
for program in sorted({t["command"][0] for t in tests if t["command"] and os.path.isfile(t["command"][0])}):
    with open(program, "rb") as stream:
        if b"HF_MINUTES" in stream.read():
            print(program)
PY
)
[ "${#programs[@]}" -gt 0 ] || fail "no test among these works through seeds"
seed=${HF_SEED:-$(date +%s)}
broken=0
for program in "${programs[@]}"; do
  step "$(basename "$program"), $minutes minutes a case, from seed $seed"
  HF_SEED=$seed HF_SEEDS=1000 HF_MINUTES=$minutes HF_JOBS=$(nproc) "$program" --gtest_brief=1 || broken=$((broken + 1))
done
[ "$broken" -eq 0 ] || fail "$broken of ${#programs[@]} programs found something (the seeds stand above)"
