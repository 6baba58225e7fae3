# Completion for stomp, to be sourced by bash or put into its completions folder.
#
# Options are asked of `stomp COMMAND --help`, versions and writers of the mount itself.

_stomp_commands='agents blame cat changes conflicts diff doctor export fsck gc help lease log mount pin policy report resolve restore rollback run status top umount undo watch why'
_stomp_lease_commands='acquire break list release renew'
_stomp_policy_commands='check show test'

# The folder .stomp of the workspace around the present folder.
_stomp_folder() {
	local dir=$PWD

	while [ ! -e "$dir/.stomp/status" ]; do
		[ -n "$dir" ] || return 1
		dir=${dir%/*}
	done
	printf '%s\n' "$dir/.stomp"
}

# The numbers of the versions of PATH.
_stomp_versions() {
	local folder inside

	folder=$(_stomp_folder) || return
	inside=$(realpath -s -m --relative-to="${folder%/.stomp}" -- "$1" 2>/dev/null) || return
	# shellcheck disable=SC2010 # names of versions are numbers
	ls -1 -- "$folder/history/$inside" 2>/dev/null | grep -x '[0-9]*'
}

# PATH@ and the beginning of a number. bash divides words at @ unless told otherwise:
# then the number alone is what it replaces.
_stomp_reply_versions() {
	local word=$1 path=${1%@*} prefix=''

	[[ $COMP_WORDBREAKS = *@* ]] || prefix=$path@
	mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "$(_stomp_versions "$path")" -- "${word##*@}")
}

# The conflicts that are still to be resolved.
_stomp_conflicts() {
	local folder

	folder=$(_stomp_folder) || return
	ls -1 -- "$folder/conflicts" 2>/dev/null
}

_stomp_writers() {
	local folder

	folder=$(_stomp_folder) || return
	grep -o '"name":"[^"\\]*"' "$folder/writers.json" 2>/dev/null | cut -d'"' -f4
}

_stomp_reply() { # WORD…: those that begin with what was typed
	mapfile -t COMPREPLY < <(compgen -W "$*" -- "$cur")
}

_stomp_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

# What comes after `stomp run NAME [--]` is a command line of its own.
_stomp_run() {
	local at=3

	if [ "$COMP_CWORD" -eq 2 ]; then
		_stomp_reply "$(_stomp_writers)"
		return
	fi
	[ "${COMP_WORDS[3]}" != -- ] || at=4
	if [ "$COMP_CWORD" -eq 3 ] && [ -z "$cur" ]; then
		COMPREPLY=(--)
	elif declare -F _command_offset >/dev/null; then
		_command_offset "$at"
	elif [ "$COMP_CWORD" -eq "$at" ]; then
		mapfile -t COMPREPLY < <(compgen -c -- "$cur")
	else
		_stomp_files -f
	fi
}

_stomp() {
	local cur command word sub=()

	COMPREPLY=()
	cur=${COMP_WORDS[COMP_CWORD]}
	command=${COMP_WORDS[1]}
	if [ "$COMP_CWORD" -eq 1 ]; then
		_stomp_reply "$_stomp_commands --help --version"
		return
	fi
	if [ "$command" = lease ]; then
		if [ "$COMP_CWORD" -eq 2 ]; then
			_stomp_reply "$_stomp_lease_commands --help"
			return
		fi
		sub=("${COMP_WORDS[2]}")
	elif [ "$command" = policy ]; then
		if [ "$COMP_CWORD" -eq 2 ]; then
			_stomp_reply "$_stomp_policy_commands --help"
			return
		fi
		sub=("${COMP_WORDS[2]}")
	fi
	case $command in
	run)
		_stomp_run
		return
		;;
	help)
		_stomp_reply "$_stomp_commands"
		return
		;;
	agents) return ;;
	esac
	if [ "$command" = conflicts ] && [ "${COMP_WORDS[2]}" = show ]; then
		sub=(show)
	fi
	if [[ $cur = -* ]]; then
		_stomp_reply "$("${COMP_WORDS[0]}" "$command" "${sub[@]}" --help 2>/dev/null |
			grep -oE -- '--[a-z][a-z-]+' | sort -u)"
		return
	fi
	word=${COMP_LINE:0:COMP_POINT}
	word=${word##* }
	if [[ $word = *@* && $command =~ ^(cat|diff|rollback)$ ]]; then
		_stomp_reply_versions "$word"
		return
	fi
	case $command in
	conflicts)
		if [ "$COMP_CWORD" -eq 2 ]; then
			_stomp_reply show
			return
		fi
		;;&
	conflicts | resolve)
		if [ "$COMP_CWORD" -eq $((2 + ${#sub[@]})) ]; then
			_stomp_reply "$(_stomp_conflicts)"
			return
		fi
		;;&
	mount | umount | status | top | doctor | changes | fsck | gc) _stomp_files -d ;;
	*) _stomp_files -f ;;
	esac
}

complete -F _stomp stomp
