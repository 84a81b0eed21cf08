#!/bin/bash
# Makes a container image of PostgreSQL 15 of Debian's packages, for machines that cannot pull one from a registry.
#
#   tools/postgres-image.sh [NAME]     imports it into Docker as NAME (default: postgres)
#   tools/postgres-image.sh --tar      only makes the tar, and prints its path; --changes prints what docker import -c is to be given
#
# Needs root, mmdebstrap (apt-get install mmdebstrap) and Debian's archive; a minute or two the first time. The tar is kept in
# ~/.cache/holdfast/images: taken to a machine without any network, "docker import" makes the image there as well.
# Like the well-known image: a cluster is made in $PGDATA on the first start, with $POSTGRES_PASSWORD for connections over TCP.
set -eu -o pipefail

# Kept apart from the changes below: docker import sets these.
changes=('ENTRYPOINT ["/usr/local/bin/pg-entrypoint"]' 'ENV PGDATA=/var/lib/postgresql/data' 'EXPOSE 5432'
  'ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin')

entrypoint() {
  cat <<'ENTRYPOINT'
#!/bin/sh
# Makes a database cluster in $PGDATA on the first start, then runs PostgreSQL as its own user.
set -e
export PATH="/usr/lib/postgresql/15/bin:$PATH"
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
mkdir -p "$PGDATA" /var/run/postgresql
chown postgres:postgres "$(dirname "$PGDATA")" "$PGDATA" /var/run/postgresql
chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -n "${POSTGRES_PASSWORD:-}" ]; then
    umask 077
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    chown postgres /tmp/password
    as_postgres initdb -D "$PGDATA" -E UTF8 --no-locale --data-checksums --auth-local=trust --auth-host=scram-sha-256 \
      --pwfile=/tmp/password
    rm /tmp/password
    umask 022
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
  else
    as_postgres initdb -D "$PGDATA" -A trust -E UTF8 --no-locale --data-checksums
  fi
fi
exec setpriv --reuid=postgres --regid=postgres --clear-groups postgres -D "$PGDATA" "$@"
ENTRYPOINT
}

fail() { printf 'postgres-image: %s\n' "$*" >&2; exit 1; }

build() {
  [ "$(id -u)" -eq 0 ] || fail "needs root. Run: sudo tools/postgres-image.sh"
  command -v mmdebstrap >/dev/null || fail "mmdebstrap is not installed. Run: apt-get install mmdebstrap"
  echo "building PostgreSQL's image of Debian packages (a minute or two; kept as $tar)" >&2
  work=$(mktemp -d)  # global: the trap needs it
  trap 'rm -rf "$work" "$tar.part"' EXIT
  entrypoint >"$work/pg-entrypoint"
  chmod 755 "$work/pg-entrypoint"
  local -a excluded=()
  local folder
  for folder in doc man locale info; do excluded+=(--dpkgopt="path-exclude=/usr/share/$folder/*"); done
  # Just-in-time compilation is a third of the image.
  mmdebstrap --mode=root --variant=minbase --quiet --include=postgresql-15 "${excluded[@]}" \
    --setup-hook='mkdir -p "$1"/etc/postgresql-common' \
    --setup-hook='echo "create_main_cluster = false" >"$1"/etc/postgresql-common/createcluster.conf' \
    --customize-hook="copy-in $work/pg-entrypoint /usr/local/bin" \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/usr/lib/x86_64-linux-gnu/libLLVM*' \
    --customize-hook='echo "jit = off" >>"$1"/usr/share/postgresql/15/postgresql.conf.sample' \
    --format=tar bookworm "$tar.part" "deb ${HOLDFAST_DEBIAN_MIRROR:-http://deb.debian.org/debian} bookworm main" >&2 ||
    fail "mmdebstrap failed (above); can Debian's archive be reached? HOLDFAST_DEBIAN_MIRROR names another one"
  mv "$tar.part" "$tar"
}

if [ "${1:-}" = --changes ]; then
  printf '%s\n' "${changes[@]}"
  exit 0
fi
images=${XDG_CACHE_HOME:-$HOME/.cache}/holdfast/images
mkdir -p "$images"
tar=$images/pg-$(sha256sum "$0" | cut -c1-12).tar
exec 9>"$images/pg.lock"
flock 9
[ -f "$tar" ] || build
case "${1:-}" in
  --tar) echo "$tar" ;;
  -*) fail "there is no $1; see the head of this file" ;;
  *)
    arguments=()
    for change in "${changes[@]}"; do arguments+=(-c "$change"); done
    docker import "${arguments[@]}" "$tar" "${1:-postgres}" >/dev/null || fail "docker could not import $tar (above)"
    echo "the image ${1:-postgres} is there"
    ;;
esac
