#!/bin/sh
# The secrets of a house that runs in containers: what the host gives is taken, what it does not give is made once.
#
#   house-secrets                   all of them; runs before everything else
#   house-secrets NAME [OPTION…]    a key for a client, shown only once; options are those of `hanlin key`
set -eu
umask 077
house=/hanlin/secrets
clients=$house/clients/keys.yaml page=$house/page/key engines=$house/engines/key

# given NAME: whether the host gives it; one that this user may not read is a mistake and not a lack.
given() {
  [ -s "/run/secrets/$1" ] || return 1
  [ -r "/run/secrets/$1" ] || { echo "The secret $1 may not be read by user $(id -u): chown $(id -u) its file." >&2; exit 1; }
}
put() { cat >"$1.new" && mv "$1.new" "$1"; }

if [ $# -gt 0 ]; then
  exec hanlin key "$@" --file "$clients"
fi

if given client-keys || given page-key; then
  { given client-keys && given page-key; } || { echo "Give client-keys and page-key, or neither: the page needs a key that the gateway knows." >&2; exit 1; }
  put "$clients" </run/secrets/client-keys
  put "$page" </run/secrets/page-key
elif ! [ -s "$page" ]; then
  made=$(hanlin key page --file "$clients")
  echo "$made" | put "$page"
  echo "The page has a key of its own; make one for a client: docker compose run --rm secrets NAME"
fi

if given engines-key; then
  put "$engines" </run/secrets/engines-key
elif ! [ -s "$engines" ]; then
  head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n' | put "$engines"
  echo "The engines have a key."
fi
