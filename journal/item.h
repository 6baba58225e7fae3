/*
 * item.h - one row on its way into the database, with copies of all its strings.
 *
 * Plain data, owned by the queue; the writer's thread reads it while nobody changes it.
 */
#ifndef STOMP_JOURNAL_ITEM_H
#define STOMP_JOURNAL_ITEM_H

#include "base/list.h"
#include "base/table.h"
#include "journal/journal.h"

enum item_kind {
	ITEM_VERSION,
	ITEM_REFUSAL,
	ITEM_EVENT,
	ITEM_FOLDER,
	ITEM_RESOLVE,
	ITEM_SET
};

struct folder_move {
	uint64_t seq;
	int64_t time_ns;
	const char *from, *to;
	size_t from_len, to_len;
	struct author author;
};

enum set_act { SET_ACT_BEGIN, SET_ACT_RESUME, SET_ACT_END };

struct set_change {
	uint64_t seq;
	int64_t time_ns;
	enum set_act act;
	uint64_t id;			/* resume, end */
	enum set_state state;		/* end */
	uint64_t undo_of;		/* begin */
	const char *undo_writer, *what; /* begin; either may be NULL */
	struct author author;		/* begin, resume */
};

struct item {
	struct list link;
	struct table_node by_content; /* when has_capture: in the queue's table */
	enum item_kind kind;
	uint64_t seq;
	size_t cost;	     /* bytes it counts for in the queue */
	uint64_t kept_until; /* its end in the ring; 0: kill -9 would lose it */
	bool replayed;	     /* from a daemon that was killed: its row may be there */
	bool has_capture;
	struct capture content;
	union {
		struct version version;
		struct refusal refusal;
		struct event event;
		struct folder_move folder;
		struct resolution resolution;
		struct set_change set;
	};
	char text[]; /* the strings the union points at */
};

/* NULL for want of memory; the content stays the caller's until item_take_content(). */
struct item *item_of_version(const struct version *v);
struct item *item_of_refusal(const struct refusal *r);
struct item *item_of_event(const struct event *e);
struct item *item_of_folder(const struct folder_move *m);
struct item *item_of_resolution(const struct resolution *r);
struct item *item_of_set(const struct set_change *s);
void item_take_content(struct item *item, struct capture *c, size_t large_cost);
void item_free(struct item *item);

/* Copies of strings into one block, each NUL-terminated: first pass at NULL adds up. */
struct packer {
	char *at;
	size_t total;
};

void pack(struct packer *p, const char **s, size_t len); /* *s may be NULL */
void pack_text(struct packer *p, const char **s);

#endif
