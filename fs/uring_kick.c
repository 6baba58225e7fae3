/*
 * Making the kernel look into a queue.
 *
 * Requests for which there is no entry wait in the kernel. It looks for them when an answer
 * comes, but not when a new entry does: where the entries of all others are parked, a new
 * one would stay empty beside requests that wait for it, among them perhaps the close that
 * the parked ones wait for. So after each new entry something is asked of our own mount on
 * the CPU of that queue; the answer to it brings the others along.
 *
 * When another request takes that entry first and is parked, the question waits as well,
 * and who asks it too; the next new entry then needs another one to ask.
 *
 * Those who ask are processes, and have nothing of ours open but a pipe: a thread of the
 * daemon that waited for an answer could not be killed, and with it the daemon's
 * descriptors would stay open, the kernel's connection too, and the question unanswered.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "fs/uring_internal.h"

/* Between fork and exit: only what is safe in a child of a process with threads. */
static _Noreturn void ask_on(const char *mountpoint, int jobs, int *idle)
{
	uint16_t cpu;

	(void)prctl(PR_SET_NAME, "stompfs-kick");
	if (dup2(jobs, 0) < 0 || close_range(1, ~0U, 0) < 0 || chdir("/") < 0)
		_exit(1);
	__atomic_fetch_add(idle, 1, __ATOMIC_SEQ_CST);
	while (read(0, &cpu, sizeof(cpu)) == sizeof(cpu)) { /* until the daemon has ended */
		struct statfs ignored;

		ring_stay_on(cpu);
		(void)!statfs(mountpoint, &ignored);
		__atomic_fetch_add(idle, 1, __ATOMIC_SEQ_CST);
	}
	_exit(0);
}

int kickers_init(struct kickers *k)
{
	int ends[2];

	k->idle = mmap(NULL, sizeof(*k->idle), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (k->idle == MAP_FAILED)
		k->idle = NULL;
	if (!k->idle || pipe2(ends, O_CLOEXEC) < 0)
		return -ENOMEM;
	k->jobs_out = ends[0];
	k->jobs_in = ends[1];
	return fcntl(k->jobs_in, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* uring.lock held */
static void start_kicker(struct uring *u)
{
	struct kickers *k = &u->kickers;
	sigset_t all, before;
	pid_t pid;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		ask_on(u->ws->options.mountpoint, k->jobs_out, k->idle);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid > 0)
		k->pids[k->n++] = pid;
}

void uring_kick(struct queue *q)
{
	struct kickers *k = &q->u->kickers;
	uint16_t cpu = (uint16_t)q->id;

	pthread_mutex_lock(&q->u->lock);
	if (q->u->phase == RUNNING) {
		if (__atomic_sub_fetch(k->idle, 1, __ATOMIC_SEQ_CST) < 0 &&
			k->n < KICKERS_MAX)
			start_kicker(q->u);
		(void)!write(k->jobs_in, &cpu, sizeof(cpu)); /* full: enough is asked */
	}
	pthread_mutex_unlock(&q->u->lock);
}

void kickers_done(struct kickers *k)
{
	if (k->jobs_in >= 0)
		close(k->jobs_in);
	if (k->jobs_out >= 0)
		close(k->jobs_out);
	for (unsigned i = 0; i < k->n; i++)
		waitpid(k->pids[i], NULL, 0);
	if (k->idle)
		munmap(k->idle, sizeof(*k->idle));
}
