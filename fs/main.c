/* stompfs: mount a folder so that its writers cannot stomp on each other. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "base/log.h"
#include "base/mounts.h"
#include "fs/behind.h"
#include "fs/beneath.h"
#include "fs/checker.h"
#include "fs/collector.h"
#include "fs/daemon.h"
#include "fs/driver.h"
#include "fs/housekeeper.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/options.h"
#include "fs/passthrough.h"
#include "fs/policy_file.h"
#include "fs/procscan.h"
#include "fs/recover.h"
#include "fs/refuse.h"
#include "fs/retire.h"
#include "fs/supervise.h"
#include "fs/vtree.h"
#include "fs/wire.h"

enum {
	EXIT_USAGE = 2,
	EXIT_FAILED = 4,
	MAX_THREADS = 64,
	RESERVED_FDS = 256,
	LEAVING_DAEMON_S = 5,
	FUSE_MAGIC = 0x65735546,
};

struct daemon {
	struct workspace ws;
	int report_fd;
	int lock_fd;   /* one daemon per backing */
	int root_fd;   /* until the root inode has it */
	int tree_fd;   /* what lies beneath a dead mount, and a mount of our own; or -1 */
	bool attached; /* the mount is there, and libfuse does not know */
	uint64_t max_fds;
};

/* ---- setting up ---- */

static uint64_t raise_fd_limit(bool root)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024;
	if (root && limit.rlim_max < 1 << 20) {
		struct rlimit more = {1 << 20, 1 << 20};

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return more.rlim_cur;
	}
	limit.rlim_cur = limit.rlim_max;
	(void)!setrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur;
}

static void on_alarm(int signal)
{
	(void)signal; /* it ends flock() with EINTR; nothing else is to be done */
}

/* One daemon per backing. umount(2) answers before a daemon is done: one that still writes
 * down its last versions is waited for, so that `umount X; mount X` works. */
static int lock_backing(int fd)
{
	struct sigaction on = {.sa_handler = on_alarm}, before;
	int r;

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return -errno;
	sigaction(SIGALRM, &on, &before);
	alarm(LEAVING_DAEMON_S);
	r = flock(fd, LOCK_EX) < 0 ? -errno : 0;
	alarm(0);
	sigaction(SIGALRM, &before, NULL);
	return r;
}

static int open_stomp_folder(struct daemon *d)
{
	struct workspace *ws = &d->ws;

	if (mkdirat(d->root_fd, STOMP_NAME, ws->options.journal_mode) < 0 &&
		errno != EEXIST) {
		log_error("%s/.stomp cannot be made: %m", ws->options.source);
		return -errno;
	}
	ws->stomp_fd = openat(
		d->root_fd, STOMP_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (ws->stomp_fd < 0 ||
		(mkdirat(ws->stomp_fd, "shadow", 0700) < 0 && errno != EEXIST)) {
		log_error("%s/.stomp cannot be used: %m", ws->options.source);
		return -errno;
	}
	ws->shadow_fd = openat(
		ws->stomp_fd, "shadow", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d->lock_fd = openat(ws->stomp_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (ws->shadow_fd < 0 || d->lock_fd < 0) {
		log_error("%s/.stomp cannot be used: %m", ws->options.source);
		return -errno;
	}
	if (lock_backing(d->lock_fd) < 0) {
		char at[PATH_MAX] = "";

		(void)!pread(d->lock_fd, at, sizeof(at) - 1, 0);
		log_error("%s is already served by another stompfs, at %s: `mount --bind` "
			  "shows that elsewhere too, `stomp umount` ends it",
			ws->options.source, *at ? at : "another place");
		return -EBUSY;
	}
	/* For the message above, nothing else reads it. */
	if (ftruncate(d->lock_fd, 0) < 0 || pwrite(d->lock_fd, ws->options.mountpoint,
						    strlen(ws->options.mountpoint), 0) < 0)
		log_warn("%s/.stomp/lock cannot be written: %m", ws->options.source);
	return 0;
}

/* The kernel keeps the mount's own promise not to move access times, but each read of ours
 * would move the backing's. It is served through a mount of its own that does not, which
 * nobody else sees; passthrough's reads go that way too. */
static void keep_access_times(struct daemon *d)
{
	const struct options *o = &d->ws.options;
	struct mount_attr attr = {
		.attr_set = o->noatime ? MOUNT_ATTR_NOATIME : 0,
		.attr_clr = o->noatime ? MOUNT_ATTR__ATIME : 0,
	};
	int fd;

	if (o->nodiratime)
		attr.attr_set |= MOUNT_ATTR_NODIRATIME;
	if (!attr.attr_set)
		return;
	if (d->tree_fd >= 0)
		fd = openat(d->tree_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	else
		fd = open_tree(d->root_fd, "",
			AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr,
			      sizeof(attr)) < 0) {
		log_warn("%s: access times move all the same, only root can keep them: %m",
			o->source);
		if (fd >= 0)
			close(fd);
		return;
	}
	close(d->root_fd);
	d->root_fd = fd;
}

/* The folder beneath a dead mount that stays until it is replaced. */
static int open_beneath(struct daemon *d)
{
	struct options *o = &d->ws.options;
	int r = beneath_open(o->source);

	if (r < 0)
		return r;
	d->tree_fd = r;
	d->root_fd = openat(d->tree_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return d->root_fd < 0 ? -errno : 0;
}

static int take_dead_mount(struct options *o)
{
	int r = mount_detach_dead(o->mountpoint);

	if (r < 0)
		return r;
	o->over_dead = false;
	log_info("took away a dead mount at %s: its daemon was gone", o->mountpoint);
	return 0;
}

/* Before the mount can be in the way. */
static int open_root(struct daemon *d)
{
	struct workspace *ws = &d->ws;
	struct statfs fs;

	if (ws->options.over_dead && ws->over_itself && open_beneath(d) < 0)
		(void)!take_dead_mount(&ws->options);
	if (d->root_fd < 0)
		d->root_fd = open(ws->options.source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->root_fd < 0) {
		log_error("folder %s: %m", ws->options.source);
		return -errno;
	}
	if (fstatfs(d->root_fd, &fs) == 0 && fs.f_type == FUSE_MAGIC &&
		faccessat(d->root_fd, STOMP_NAME "/ctl", F_OK, 0) == 0) {
		log_error("%s is mounted already; `stomp status` tells about it",
			ws->options.source);
		return -EBUSY;
	}
	return 0;
}

static int open_journal(struct daemon *d)
{
	struct workspace *ws = &d->ws;
	struct journal_options options = {.dirfd = ws->stomp_fd,
		.clock = ws->clock,
		.max_bytes = ws->options.journal_max_bytes};
	unsigned recovered = 0;
	int r = journal_open(&ws->journal, &options);

	if (r < 0) {
		log_error("the journal in %s/.stomp cannot be opened: %s%s",
			ws->options.source, strerror(-r),
			r == -EPROTO	? " (it was written by a newer stompfs)"
			: r == -EUCLEAN ? "; `stomp fsck --repair` sets it aside and saves "
					  "what can be read"
					: "");
		return r;
	}
	r = intents_open(&ws->intents, ws->stomp_fd);
	if (r == -EPROTO)
		log_error("%s/.stomp/intents is damaged, or a newer stompfs's; `stomp fsck "
			  "--repair` sets it aside",
			ws->options.source);
	/* V4: what is synced in there must have a name. */
	if (r == 0 && (fsync(ws->stomp_fd) < 0 || fsync(d->root_fd) < 0) && errno != EINVAL)
		r = -errno;
	if (r == 0)
		r = recover(ws, d->root_fd, &recovered);
	if (r < 0) {
		log_error("recovery in %s/.stomp failed: %s", ws->options.source,
			strerror(-r));
		return r;
	}
	if (recovered)
		log_info("%u unfinished changes recorded after a crash", recovered);
	return 0;
}

static bool is_known_author(const char *name, void *ctx)
{
	uid_t uid;

	return journal_knows_writer(ctx, name, &uid);
}

static bool is_own_name(const char *name, pid_t pid, int64_t start_ns, void *ctx)
{
	return journal_knows_process(ctx, name, pid, start_ns);
}

static int open_identity(struct workspace *ws)
{
	struct identity_options options = {
		.proc_fd = ws->proc_fd,
		.bound_name = ws->options.writer,
		.table = writer_table_builtin(),
		.clock = ws->clock,
		.name_is_taken = is_known_author,
		.name_is_its_own = is_own_name,
		.name_ctx = ws->journal,
	};

	return identity_new(&ws->identity, &options);
}

/* Alone, a user may have it all. */
static void bound_shares(struct workspace *ws, uint64_t fds)
{
	const struct options *o = &ws->options;
	bool shared = ws->root || o->allow_other;

	ws->shares.most[SHARE_FILES] = o->user_files
					       ?: shared ? (uint32_t)(fds / 4)
							 : UINT32_MAX;
	ws->shares.most[SHARE_WAITS] = o->user_waits ?: SHARES_WAITS_DEFAULT;
}

static int open_workspace(struct daemon *d)
{
	struct workspace *ws = &d->ws;
	uint64_t fds = d->max_fds > 2 * RESERVED_FDS ? d->max_fds - RESERVED_FDS : 64;
	int r;

	ws->driver_fd = driver_folder_open();
	if (ws->driver_fd < 0)
		log_warn("no folder for merge drivers (TMPDIR, /tmp): %s",
			strerror(-ws->driver_fd));
	ws->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ws->proc_fd < 0) {
		log_error("/proc: %m");
		return -errno;
	}
	pthread_mutex_init(&ws->sessions_lock, NULL);
	names_init(&ws->names);
	pthread_mutex_init(&ws->explicit_lock, NULL);
	clock_cond_init(&ws->sessions_cond);
	list_init(&ws->sessions);
	dir_stash_init(&ws->dir_stash);
	ws->mounted_ns = workspace_now(ws);
	ws->mounted_wall_ns = clock_wall_ns(ws->clock);
	r = open_journal(d);
	r = r < 0 ? r : open_identity(ws);
	bound_shares(ws, fds);
	r = r < 0 ? r : inode_table_init(&ws->inodes, fds * 3 / 4);
	r = r < 0 ? r : lineages_init(ws, ws->options.remember_bytes);
	r = r < 0 ? r : claims_new(&ws->claims);
	r = r < 0 ? r : refusals_new(&ws->refusals);
	r = r < 0 ? r : retire_new(&ws->retire);
	if (r == 0)
		keep_access_times(d);
	r = r < 0 ? r : inode_root_new(ws, d->root_fd, &ws->root_inode);
	r = r < 0 ? r : policy_file_load(ws);
	r = r < 0 ? r : park_new(ws, &ws->park);
	r = r < 0 ? r : notifier_new(ws, &ws->notifier);
	r = r < 0 ? r : housekeeper_new(ws, &ws->housekeeper);
	r = r < 0 ? r : vtree_new(ws, &ws->vtree);
	r = r < 0 ? r : feeds_new(ws, &ws->feeds);
	r = r < 0 ? r : checker_new(ws, &ws->checker);
	r = r < 0 ? r : collector_new(ws, &ws->collector);
	r = r < 0 ? r : capturer_new(&ws->capturer);
	if (r < 0)
		log_error("%s cannot be served: %s", ws->options.source, strerror(-r));
	return r;
}

/* In the order in which one may still need the other. */
static void close_workspace(struct workspace *ws)
{
	ws->capturer = capturer_free(ws->capturer);
	ws->park = park_free(ws->park);
	ws->feeds = feeds_free(ws->feeds);
	ws->checker = checker_free(ws->checker);
	ws->collector = collector_free(ws->collector);
	ws->housekeeper = housekeeper_free(ws, ws->housekeeper);
	sessions_finish_all(ws);
	ws->notifier = notifier_free(ws->notifier);
	dir_stash_done(&ws->dir_stash);
	ws->vtree = vtree_free(ws->vtree);
	if (ws->journal) /* also at the ceiling, where its health is not 0 */
		(void)!journal_sync(ws->journal, journal_last_seq(ws->journal));
	if (ws->retire)
		retire_written(ws);
	inode_table_done(ws);
	lineages_done(&ws->lineages);
	names_done(&ws->names);
	journal_close(ws->journal);
	intents_close(ws->intents);
	ws->retire = retire_free(ws->retire);
	ws->refusals = refusals_free(ws->refusals);
	ws->claims = claims_free(ws->claims);
	policy_file_done(ws);
	ws->identity = identity_free(ws->identity);
}

/* ---- serving ---- */

/* Does the backing have POSIX ACLs? Then the kernel has to ask for them: the mode alone
 * shows the mask of an ACL as if it were the group's. */
static bool has_acls(struct workspace *ws)
{
	int fd = inode_fd_get(ws, ws->root_inode);
	char path[64];
	bool has;

	if (fd < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	has = getxattr(path, "system.posix_acl_access", NULL, 0) >= 0 || errno == ENODATA;
	inode_fd_put(ws->root_inode);
	return has;
}

/* The file system of that name exists in kernels that run with SELinux, and only there. */
static bool has_selinux(struct workspace *ws)
{
	auto_close int fd = openat(ws->proc_fd, "filesystems", O_RDONLY | O_CLOEXEC);
	char text[4096];
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "selinuxfs");
}

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
	struct daemon *d = container_of(userdata, struct daemon, ws);
	struct workspace *ws = userdata;

	/* Off, always: the writeback cache loses who writes. Locks stay in the kernel. */
	conn->want &= ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_POSIX_LOCKS |
				  FUSE_CAP_FLOCK_LOCKS);
	if (conn->capable & FUSE_CAP_SPLICE_WRITE)
		conn->want |= FUSE_CAP_SPLICE_WRITE;
	if (conn->capable & FUSE_CAP_CACHE_SYMLINKS)
		conn->want |= FUSE_CAP_CACHE_SYMLINKS;
	d->ws.no_opendir = conn->capable & FUSE_CAP_NO_OPENDIR_SUPPORT;
	ws->selinux = has_selinux(ws);
	ws->acl = (conn->capable & FUSE_CAP_POSIX_ACL) &&
		  (conn->capable & FUSE_CAP_DONT_MASK) && has_acls(ws);
	if (ws->acl)
		conn->want |= FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;
	conn->max_write = 1 << 20;
	conn->max_background = MAX_THREADS;
	if (d->report_fd >= 0) {
		daemon_ready(d->report_fd);
		d->report_fd = -1;
	}
}

static void install_ops(struct fuse_lowlevel_ops *ops)
{
	ops->init = on_init;
	ops_install_entry(ops);
	ops_install_attr(ops);
	ops_install_open(ops);
	ops_install_io(ops);
	ops_install_close(ops);
	ops_install_names(ops);
	ops_install_remove(ops);
	ops_install_rename(ops);
	ops_install_dir(ops);
}

static int add_mount_options(struct workspace *ws, struct fuse_args *args)
{
	auto_buf text = {0};
	int r;

	buf_puts(&text, "-odefault_permissions,subtype=stompfs,fsname=");
	buf_puts(&text, ws->options.source);
	if (ws->root || ws->options.allow_other)
		buf_puts(&text, ",allow_other");
	if (buf_failed(&text))
		return -ENOMEM;
	r = fuse_opt_add_arg(args, text.data);
	if (r == 0 && ws->options.debug)
		r = fuse_opt_add_arg(args, "-d");
	return r < 0 ? -ENOMEM : 0;
}

static int serve_loop(struct workspace *ws)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r;

	if (!config)
		return -ENOMEM;
	/* What was read through a descriptor of the daemon's own ends with it; what was
	 * read through the one that the supervisor keeps can be sent again. */
	fuse_loop_cfg_set_clone_fd(config, !ws->supervised.supervisor);
	fuse_loop_cfg_set_max_threads(config, MAX_THREADS);
	fuse_loop_cfg_set_idle_threads(config, 16);
	r = fuse_session_loop_mt(ws->session, config);
	fuse_loop_cfg_destroy(config);
	/* A signal that ended the loop is a way to unmount, not a failure. */
	return r < 0 ? r : 0;
}

/* The new mount first, then the dead one goes: *fd is its connection. Below 0: the dead one
 * is gone already, and libfuse is to mount. -errno: it cannot be taken away. */
static int replace_dead_mount(struct options *o, const struct fuse_args *args, int *fd)
{
	*fd = beneath_mount(o->mountpoint, args, o->source);
	if (*fd < 0)
		return take_dead_mount(o);
	if (mount_detach(o->mountpoint) < 0)
		return -errno;
	log_info("took away a dead mount at %s: its daemon was gone", o->mountpoint);
	o->over_dead = false;
	return 0;
}

static int connect_kernel(struct daemon *d, const struct fuse_args *args)
{
	struct workspace *ws = &d->ws;
	char ours[32];
	const char *where = ws->options.mountpoint;
	int fd = ws->supervised.fuse_fd;

	if (ws->options.over_dead && !ws->supervised.generation) {
		int r = replace_dead_mount(&ws->options, args, &fd);

		if (r < 0) {
			log_error("the dead mount at %s cannot be replaced: %s",
				ws->options.mountpoint, strerror(-r));
			return r;
		}
	}
	d->attached = fd >= 0;
	if (fd >= 0) {
		snprintf(ours, sizeof(ours), "/dev/fd/%d", fd);
		where = ours;
	}
	/* When it fails, libfuse has said why. */
	return fuse_session_mount(ws->session, where) < 0 ? -EIO : 0;
}

/* libfuse takes away what it has mounted itself; an earlier daemon's mount, and one that
 * replaced a dead one, is ours to take, if it is still there. */
static void disconnect_kernel(struct daemon *d)
{
	struct workspace *ws = &d->ws;
	unsigned major = ws->mount_major, minor = ws->mount_minor;

	fuse_session_unmount(ws->session);
	if (d->attached && procscan_find_mount(ws) == 0 && ws->mount_major == major &&
		ws->mount_minor == minor && mount_detach(ws->options.mountpoint) < 0)
		log_warn("%s cannot be unmounted: %m", ws->options.mountpoint);
}

static int serve(struct daemon *d, struct fuse_args *args)
{
	struct workspace *ws = &d->ws;
	struct fuse_lowlevel_ops ops = {0};
	struct fuse_args all =
		FUSE_ARGS_INIT(0, NULL); /* libfuse takes out what it knows */
	int r = add_mount_options(ws, args);

	for (int i = 0; r == 0 && i < args->argc; i++)
		r = fuse_opt_add_arg(&all, args->argv[i]) < 0 ? -ENOMEM : 0;
	if (r < 0) {
		fuse_opt_free_args(&all);
		return r;
	}
	install_ops(&ops);
	ws->session = fuse_session_new(args, &ops, sizeof(ops), ws);
	if (!ws->session) {
		fuse_opt_free_args(&all);
		return -EINVAL; /* libfuse has said which option it does not know */
	}
	r = fuse_set_signal_handlers(ws->session) < 0 ? -EIO : 0;
	if (r == 0)
		r = connect_kernel(d, &all);
	fuse_opt_free_args(&all);
	if (r == 0) {
		r = procscan_find_mount(ws);
		if (r == 0)
			r = wire_install(ws);
		if (r == 0 && ws->supervised.fuse_fd >= 0) {
			passthrough_drop_all(ws, d->lock_fd);
			r = wire_go_on(ws);
		}
		if (r == 0)
			r = serve_loop(ws);
		feeds_stop(ws->feeds); /* while there is a way to answer */
		uring_stop(ws->uring);
		disconnect_kernel(d);
	}
	fuse_remove_signal_handlers(ws->session);
	close_workspace(ws);
	ws->uring = uring_free(ws->uring);
	fuse_session_destroy(ws->session);
	return r;
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct daemon d = {.report_fd = -1, .lock_fd = -1, .root_fd = -1, .tree_fd = -1};
	struct workspace *ws = &d.ws;
	int r;

	log_setup("stompfs", LOG_LEVEL_INFO, false);
	ws->clock = clock_system();
	ws->supervised = (struct supervised){.channel = -1, .fuse_fd = -1};
	r = options_parse(&ws->options, &args);
	if (r < 0)
		return EXIT_USAGE;
	umask(0);
	ws->root = geteuid() == 0;
	ws->over_itself = strcmp(ws->options.source, ws->options.mountpoint) == 0;
	ws->cache_s = ws->over_itself ? 3600 : 1;
	d.max_fds = raise_fd_limit(ws->root);
	if (!ws->options.foreground) {
		d.report_fd = daemon_start(ws->options.mountpoint);
		if (d.report_fd < 0)
			return EXIT_FAILED;
	}
	r = open_root(&d);
	if (r == 0 && ws->options.supervise)
		r = supervise(&ws->supervised, &ws->options, d.report_fd);
	if (r == 0 && ws->supervised.generation)
		d.report_fd = -1; /* whoever waited has heard of the first */
	if (r == 0)
		r = open_stomp_folder(&d);
	if (r == 0)
		r = open_workspace(&d);
	if (r == 0)
		r = serve(&d, &args);
	fuse_opt_free_args(&args);
	if (r < 0 && ws->options.over_dead && !ws->supervised.generation)
		log_error(
			"the dead mount at %s stays, so that nothing is changed unguarded; "
			"`stomp umount %s` takes it away",
			ws->options.mountpoint, ws->options.mountpoint);
	options_done(&ws->options);
	return r < 0 ? EXIT_FAILED : 0;
}
