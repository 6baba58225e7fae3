#include <string.h>

#include "fs/vtree_internal.h"

/* For a person or a language model that stumbled in: at most 60 lines of 78 columns. */

static const char refused[] =
	"Several writers (agents, people, builds) share this workspace. stompfs, the\n"
	"file system it is mounted with, keeps them from overwriting each other's\n"
	"work unseen, and keeps every version of every file. Use files as always;\n"
	"there is nothing to learn until you are refused.\n"
	"\n"
	"WHEN A CHANGE FAILS, nothing has happened: the file is as it was.\n"
	"    cat .stomp/why        what was refused, because of whom, what to do next\n"
	"\n"
	"  ESTALE (\"Stale file handle\", errno 116)\n"
	"      Somebody else changed the file after you last read it, and what you\n"
	"      wrote would have undone that.\n"
	"      1. Read the file again, all of it (cat, sed -n, or your read tool).\n"
	"      2. Redo your change on top of what you read.\n"
	"      3. Save. Do not write your old text again: it lacks their work.\n";

static const char otherwise[] =
	"      If you had the file open all the while: close it and open it anew, its\n"
	"      lease was taken over.\n"
	"  EAGAIN (\"Resource temporarily unavailable\", errno 11)\n"
	"      Somebody else is changing the file at this moment. Wait some seconds, or\n"
	"      do something else first, then try again. .stomp/leases says who, and\n"
	"      until when at the latest.\n"
	"  EBUSY (\"resource busy or locked\"), for some programs: either of these\n"
	"\n"
	"There is no way round, nor a need for one: shell, editor, rename, delete and\n"
	"create anew, copy, git are all guarded alike, and are refused alike. What you\n"
	"tried to write is not lost: where bytes arrived they are kept, see\n"
	"    ls .stomp/conflicts           ID/theirs is yours, ID/info the story\n"
	"    stomp conflicts show ID       then: stomp resolve ID --merged (or --ours…)\n"
	"\n"
	"TO SEE WHAT HAPPENED\n"
	"    cat .stomp/status             this workspace on one screen\n"
	"    cat .stomp/since/last         what others changed since you last looked\n"
	"    cat .stomp/events/new         what happens, as it happens (never ends)\n"
	"    cat .stomp/log                newest changes and refusals, and whose\n"
	"    cat .stomp/history/src/a.c/log    the versions of src/a.c\n"
	"    diff .stomp/history/src/a.c/3 src/a.c\n"
	"    diff -r .stomp/at/-15m/src src    the whole tree as it was: at/10:32, …\n"
	"\n"
	"TO GO BACK: copy a version over the file. That makes a new version; nothing is\n"
	"destroyed, and it can be undone in the same way. Deleted files are there too.\n"
	"    cp .stomp/history/src/a.c/3 src/a.c    or: stomp restore src --at -15m\n"
	"To take back all that one writer did in one go, and keep the others' work:\n"
	"    stomp log --sets              then: stomp undo 12 --dry-run\n"
	"As git commits, by writer:        stomp export 12 --git REPO\n"
	"\n"
	"TO KEEP OTHERS OUT FOR A WHILE, for a change across several files:\n"
	"    stomp lease acquire src/a.c 'docs/*.md' --ttl 5m --reason \"renaming foo\"\n"
	"    stomp lease release src/a.c 'docs/*.md'\n"
	"or, without the tool, from a shell (blanks in a word are \\040):\n"
	"    exec 3<>.stomp/ctl; echo 'lease acquire ttl=5m src/a.c' >&3; cat <&3\n"
	"\n"
	"ALSO HERE (tables have a .json twin)\n"
	"    me         who you are taken for; if wrong: stomp run NAME -- COMMAND\n"
	"    writers    who has been here          leases     who holds what\n"
	"    policy     which files are guarded (stomp policy check FILE)\n"
	"    metrics    for Prometheus             ctl        commands; cat lists them\n";

/* S1, S8: why a read in the same breath as the save does not help. */
static void put_settle(const struct workspace *ws, struct buf *out)
{
	const struct rules *rules = __atomic_load_n(&ws->rules, __ATOMIC_ACQUIRE);
	int64_t settle_ns = ws->options.settle_ns;
	struct rule rule;

	rules_lookup(rules, "a", 1, false, &rule);
	if (settle_ns < 0)
		settle_ns = rule.settle_ns;
	if (settle_ns == 0)
		return;
	buf_puts(out, "      A read counts after ");
	if (settle_ns < NS_PER_S)
		buf_printf(out, "%lld ms", (long long)(settle_ns / NS_PER_MS));
	else
		buf_put_span(out, settle_ns);
	buf_puts(out, ": one just before a save is part of the save.\n");
}

static void put_merging(const struct workspace *ws, struct buf *out)
{
	if (rules_merges(__atomic_load_n(&ws->rules, __ATOMIC_ACQUIRE)))
		buf_puts(out,
			"      Some files here are merged instead, where both changes fit"
			" (policy).\n");
}

void vdoc_readme(const struct vreader *r, struct buf *out)
{
	const char *name = r->by->writer->name;

	buf_puts(out, "This is .stomp, a folder that is made up as you read it.\nYou are ");
	put_clipped(out, name, strlen(name), 60);
	buf_puts(out, ".\n\n");
	buf_puts(out, refused);
	put_settle(r->ws, out);
	put_merging(r->ws, out);
	buf_puts(out, otherwise);
}
