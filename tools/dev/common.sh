# Shared by ./dev and the verbs in tools/dev; sourced with the root of the tree as working directory.
#
# A verb is a file tools/dev/<verb>.sh that has these lines in its head comment:
#   # verb: <arguments> -- <one line for ./dev help>
#   # offered-if: <shell condition>      (optional: the verb is hidden where it does not hold)
# and below them the text of ./dev <verb> --help, up to the first line that is no comment.

verb_offered() {
  local condition
  condition=$(sed -n 's/^# offered-if: //p' "$1")
  [ -z "$condition" ] || eval "$condition"
}

print_help() {
  echo "usage: ./dev <verb> [arguments]       ./dev <verb> --help says more"
  echo
  local script line
  for script in tools/dev/*.sh; do
    line=$(sed -n 's/^# verb: //p' "$script")
    [ -n "$line" ] && verb_offered "$script" || continue
    local arguments="${line%% -- *}"
    [[ "$line" == "-- "* ]] && arguments=
    printf '  %-38s %s\n' "$(basename "$script" .sh) $arguments" "${line#*-- }"
  done
}

print_verb_help() {
  printf 'usage: ./dev %s %s\n' "$(basename "$1" .sh)" "$(sed -n 's/^# verb: //p' "$1" | sed 's/^-- /— /; s/ -- / — /')"
  sed -n '/^# verb:/,/^[^#]/p' "$1" | grep '^#' | grep -Ev '^# (verb|offered-if):' | sed 's/^# \{0,1\}//'
}

# What a step is doing, so that a log without a terminal can be followed too.
step() { printf '\n== %s\n' "$*"; }
fail() { printf 'dev: %s\n' "$*" >&2; exit 1; }

# take_flavour "$@": sets FLAVOUR (empty, asan, tsan, fuzz), BUILD_DIR, CMAKE_FLAGS and REST.
take_flavour() {
  FLAVOUR=
  REST=()
  local argument
  for argument in "$@"; do
    case "$argument" in
      --asan | --tsan | --fuzz) FLAVOUR=${argument#--} ;;
      *) REST+=("$argument") ;;
    esac
  done
  BUILD_DIR=build${FLAVOUR:+-$FLAVOUR}
  CMAKE_FLAGS=()
  case "$FLAVOUR" in
    asan) CMAKE_FLAGS=(-DHF_ASAN=ON) ;;
    tsan) CMAKE_FLAGS=(-DHF_TSAN=ON -DCMAKE_CXX_COMPILER=clang++-19) ;;
    fuzz) CMAKE_FLAGS=(-DHF_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++-19) ;;
  esac
}

install_deps() { tools/deps.sh "$@" || exit 1; }

# Configures where needed and builds the given targets (none: everything) in BUILD_DIR.
configure_and_build() {
  if [ ! -f "$BUILD_DIR/build.ninja" ]; then
    step "configure $BUILD_DIR"
    cmake -S . -B "$BUILD_DIR" -G Ninja "${CMAKE_FLAGS[@]}" >"$BUILD_DIR.configure.log" 2>&1 || {
      tail -n 30 "$BUILD_DIR.configure.log" >&2
      rm -f "$BUILD_DIR.configure.log"
      fail "cmake could not configure the tree (above)"
    }
    rm -f "$BUILD_DIR.configure.log"
  fi
  step "build ${*:-everything} in $BUILD_DIR"
  ninja -C "$BUILD_DIR" -j "$(nproc)" "$@" || fail "the build failed (above)"
}
