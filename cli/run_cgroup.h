/*
 * run_cgroup.h - a control group for one `stomp run`, where one may be made (W2).
 *
 * stomp-NAME-PID below the caller's own group of the version 2 hierarchy. Identity reads
 * the name in /proc/PID/cgroup when the launcher is no longer above a process. Whatever
 * fails here is silent: the launcher works without it.
 */
#ifndef STOMP_CLI_RUN_CGROUP_H
#define STOMP_CLI_RUN_CGROUP_H

#include <limits.h>
#include <sys/types.h>

struct run_cgroup {
	char path[PATH_MAX]; /* "" when there is none */
};

void run_cgroup_make(struct run_cgroup *cg, const char *name, pid_t launcher);
void run_cgroup_enter(const struct run_cgroup *cg); /* the calling process */
void run_cgroup_remove(struct run_cgroup *cg);	    /* only if it is empty */

#endif
