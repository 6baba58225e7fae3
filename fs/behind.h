/*
 * behind.h - large contents are captured behind: not under the file's lock, so that whoever
 * opens the file to read, or asks for its size, waits for nobody's copying and hashing.
 *
 *   (none) --behind_begin--> WAITS --a thread of ours--> RUNS --recorded--> (none)
 *   WAITS --a changer comes--> (none): he captures and records it himself, there and then
 *   RUNS --a changer comes--> he waits for its end: nothing overwrites what is captured
 *
 * The session stays open meanwhile, its lease held and its intent CLOSED, so kill -9 at
 * each of these arrows leaves a file that is as its writer closed it, and an intent that
 * says whose that is (V4). The version's seq is given out at begin: what is read from then
 * on is that version (S1). What changed all the same (round the mount, or through a
 * mapping) is captured again, under the lock.
 *
 * At most a few dozen may wait; beyond, captures are taken where they always were.
 * All calls with the file's lock held; file.lock → capturer.lock, a leaf.
 */
#ifndef STOMP_FS_BEHIND_H
#define STOMP_FS_BEHIND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"

struct behind;
struct capture;
struct capturer;
struct file;
struct version;
struct workspace;

must_check int capturer_new(struct capturer **out);
/* Ends when all that was begun is recorded; nothing may begin any more. NULL does nothing.
 */
struct capturer *capturer_free(struct capturer *c);

/* The session's last handle is closed: let its content be captured behind, and the session
 * and lease end after that. True also when that is under way. False: it is small, or cannot
 * be: the caller goes on himself. */
bool behind_begin(struct workspace *ws, struct file *f);

/* file.behind is not NULL: until it is. The lock is given up while one waits, so what was
 * known of the file is to be looked at again. */
void behind_settle(struct workspace *ws, struct file *f);

/* The same for who only wants to tell of it: he waits for the thread, and at most until a
 * time of the monotonic clock. */
void behind_await(struct file *f, const struct timespec *until);

/* The version that will tell of it; file.behind is not NULL. */
uint64_t behind_seq(const struct file *f);

/* For who records a session that was given over (else they do nothing): what was captured,
 * which moves to out; and the seq and time of v, if it is of that moment and path. */
bool behind_take(struct file *f, struct stat *st, struct capture *out);
void behind_stamp(const struct file *f, struct version *v, const char *path, size_t len);

#endif
