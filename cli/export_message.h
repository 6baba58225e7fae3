/*
 * export_message.h - who a commit is by and what it says.
 *
 * Pure. Texts are UTF-8; bytes that are none are told as \xNN.
 */
#ifndef STOMP_CLI_EXPORT_MESSAGE_H
#define STOMP_CLI_EXPORT_MESSAGE_H

#include "cli/export_run.h"

struct export_message {
	struct buf author, email, subject, body;
};

void export_message_done(struct export_message *m);

/* The name without what git does not take in one; an address below stompfs.invalid, a name
 * that nobody can ever have. "" stands for what was changed round the mount. */
void export_message_put_author(struct export_message *m, const char *writer);

void export_message_put_base(struct export_message *m, const struct export_plan *plan);
void export_message_put(struct export_message *m, const struct export_plan *plan,
	const struct export_commit *commit, const struct export_change *changes, size_t n);

/* -ENOMEM; head borrows from m. */
must_check int export_message_head(
	const struct export_message *m, struct export_head *head);

#endif
