#include "fs/op.h"

#include <string.h>

#include "fs/file.h"
#include "fs/notify.h"
#include "policy/identity.h"

struct op op_begin(fuse_req_t req, op_fn *run)
{
	struct op op = {.req = req, .ws = workspace_of(req), .run = run};

	return op;
}

struct process *op_by(struct op *op)
{
	if (!op->by) {
		const struct fuse_ctx *ctx = fuse_req_ctx(op->req);

		op->by = identity_take(op->ws->identity, ctx->pid, ctx->uid, ctx->gid);
	}
	return op->by;
}

struct op *op_copy(const struct op *op)
{
	struct op *copy = malloc(sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = *op;
	copy->on_heap = true;
	copy->name = op->name ? strdup(op->name) : NULL;
	copy->new_name = op->new_name ? strdup(op->new_name) : NULL;
	copy->target = op->target ? strdup(op->target) : NULL;
	copy->data = op->data ? malloc(op->size ? op->size : 1) : NULL;
	if (copy->data)
		memcpy((void *)copy->data, op->data, op->size);
	if ((op->name && !copy->name) || (op->new_name && !copy->new_name) ||
		(op->target && !copy->target) || (op->data && !copy->data)) {
		op_free_copies(copy);
		return NULL;
	}
	return copy;
}

void op_free_copies(struct op *copy)
{
	free((char *)copy->name);
	free((char *)copy->new_name);
	free((char *)copy->target);
	free((void *)copy->data);
	free(copy);
}

void op_end(struct op *op)
{
	struct file *f = op->wait.file;

	if (f) { /* it was answered without taking its turn: let the next one have it */
		file_ref(f);
		pthread_mutex_lock(&f->lock);
		park_leave_queue(op);
		park_wake(op->ws, f);
		pthread_mutex_unlock(&f->lock);
		file_put(op->ws, f);
	}
	process_put(op->ws->identity, op->by);
	op->by = NULL;
	if (op->on_heap)
		op_free_copies(op);
}

void op_reply_err(struct op *op, int positive_errno)
{
	fuse_reply_err(op->req, positive_errno);
	op_end(op);
}

struct late_reply {
	fuse_req_t req;
	ssize_t result; /* bytes written, or -errno; 0: done, of what is no write */
};

static void reply_late(void *ctx)
{
	struct late_reply *late = ctx;

	if (late->result <= 0)
		fuse_reply_err(late->req, (int)-late->result);
	else
		fuse_reply_write(late->req, (size_t)late->result);
	free(late);
}

bool op_reply_after_notes(struct workspace *ws, fuse_req_t req, ssize_t result)
{
	struct late_reply *late = malloc(sizeof(*late));

	if (!late)
		return false;
	*late = (struct late_reply){req, result};
	notify_then(ws, reply_late, late);
	return true;
}
