# verb: [paths] -- checks what a machine can check of the style (also a test)
set -u -o pipefail
exec /usr/bin/python3 tools/tidy.py "$@"
