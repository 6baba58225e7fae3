/*
 * list.h - intrusive doubly linked list with a head node.
 *
 * No threads of its own: the owner's lock guards it. A node that is not on a list
 * points at itself (list_init), so list_remove() may be called twice.
 */
#ifndef STOMP_BASE_LIST_H
#define STOMP_BASE_LIST_H

#include <stdbool.h>

#include "base/cleanup.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_insert(struct list *at, struct list *node)
{
	node->prev = at;
	node->next = at->next;
	at->next->prev = node;
	at->next = node;
}

/* Add node as the last one: with list_first() this makes a queue. */
static inline void list_append(struct list *head, struct list *node)
{
	list_insert(head->prev, node);
}

static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)

#define list_for_each(pos, head, member)                                                   \
	for (pos = list_entry((head)->next, __typeof__(*pos), member);                     \
		&pos->member != (head);                                                    \
		pos = list_entry(pos->member.next, __typeof__(*pos), member))

#define list_for_each_safe(pos, tmp, head, member)                                         \
	for (pos = list_entry((head)->next, __typeof__(*pos), member),                     \
	    tmp = list_entry(pos->member.next, __typeof__(*pos), member);                  \
		&pos->member != (head);                                                    \
		pos = tmp, tmp = list_entry(pos->member.next, __typeof__(*pos), member))

#endif
