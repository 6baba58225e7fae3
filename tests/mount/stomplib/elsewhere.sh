#!/bin/sh
# elsewhere.sh KEEP COMMAND...: the command in a mount namespace of its own. Of all
# workspaces it has KEEP alone: a copy of another one would keep its daemon alive.
set -eu
keep=$1
shift
# shellcheck disable=SC2016 # it is that shell that is to expand them
exec unshare -m sh -c '
	keep=$1
	shift
	while read -r _ _ _ _ point rest; do
		case $rest in *" - fuse.stompfs "*) ;; *) continue ;; esac
		[ "$point" = "$keep" ] || umount -l "$(printf "%b" "$point")" 2>/dev/null || :
	done </proc/self/mountinfo
	exec "$@"' sh "$keep" "$@"
